package run

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/promtest/autoscaler"
	"github.com/headgate/headgate/promtest/fixture"
	"github.com/headgate/headgate/scaler"
)

// controls is the controller at play.
type controls struct {
	loop   *controller.Replay
	reader clocked
	latest []*controller.Decision
	seen   coverage
	last   map[string]time.Duration // when each target is asked for the last time
	start  time.Time                // of the first tick
}

// lastOf says when each target is asked for the last time.
func lastOf(tests []fixture.DecisionTest) map[string]time.Duration {
	last := map[string]time.Duration{}
	for _, t := range tests {
		last[t.Target] = max(last[t.Target], t.EvalTime)
	}
	return last
}

func (c *controls) tick(ctx context.Context, now time.Time) {
	if c.start.IsZero() {
		c.start = now
	}
	snapshot, err := c.reader.read(ctx, now)
	c.latest = c.loop.Tick(ctx, now, snapshot, err)
	for _, d := range c.latest {
		if last, asked := c.last[d.Target]; asked && now.Sub(c.start) <= last {
			c.seen.see(d)
		}
	}
}

// decision is the last one about the provider for the target.
func (c *controls) decision(target, provider string) *controller.Decision {
	i := slices.IndexFunc(c.latest, func(d *controller.Decision) bool { return d.Target == target && d.Provider == provider })
	return c.latest[i] // the fixture was checked for both
}

// scales is the scaler at play.
type scales struct {
	objects  []fixture.ScaledObject
	triggers map[string]*scaler.Replay // by the ScaledObject's name
	reader   clocked
}

func newScales(f *fixture.Fixture, reader clocked) (*scales, error) {
	s := &scales{objects: f.ScaledObjects, triggers: map[string]*scaler.Replay{}, reader: reader}
	for _, o := range f.ScaledObjects {
		trigger, err := f.Trigger(o)
		if err != nil {
			return nil, err
		}
		s.triggers[o.Name] = trigger
	}
	return s, nil
}

// tick lets all triggers see a moment. Where it cannot be read they keep what
// they saw, as the scaler does.
func (s *scales) tick(ctx context.Context, now time.Time) {
	snapshot, err := s.reader.read(ctx, now)
	if err != nil {
		return
	}
	for _, trigger := range s.triggers {
		trigger.See(now, snapshot)
	}
}

func (s *scales) answer(object string, at time.Time) (fixture.ScaledObject, scaler.Answer) {
	i := slices.IndexFunc(s.objects, func(o fixture.ScaledObject) bool { return o.Name == object })
	return s.objects[i], s.triggers[object].Answer(at)
}

// wants are what was expected and what was got, a line for each.
type wants struct {
	exp, got []string
	differs  bool
}

func (w *wants) add(field, exp, got string, same bool) {
	w.exp, w.got = append(w.exp, field+": "+exp), append(w.got, field+": "+got)
	w.differs = w.differs || !same
}

// judge holds what is decided at a time against what is expected.
func (s *scene) judge(t *fixture.DecisionTest, at time.Time) {
	var w wants
	failure := Failure{Line: t.Line, What: subject(t)}
	if t.Target != "" {
		d := s.controls.decision(t.Target, t.Provider)
		failure.Decision = d
		w.addDecision(t, d)
		failure.Why, failure.inputs = append(failure.Why, d.Explanation), inputs(d)
	}
	if t.ScaledObject != "" {
		o, a := s.scales.answer(t.ScaledObject, at)
		failure.Scaler = &a
		w.addAnswer(t, o, a)
		failure.Why = append(failure.Why, scalerWhy(o, a))
	}
	if w.differs {
		failure.Exp, failure.Got, failure.paired = w.exp, w.got, true
		s.failed(failure)
	}
}

// subject names what a decision test is about.
func subject(t *fixture.DecisionTest) string {
	var of []string
	if t.Target != "" {
		of = append(of, "target "+t.Target, "provider "+t.Provider)
	}
	if t.ScaledObject != "" {
		of = append(of, "scaled object "+t.ScaledObject)
	}
	return strings.Join(of, ", ") + " at " + since(t.EvalTime)
}

func (w *wants) addDecision(t *fixture.DecisionTest, d *controller.Decision) {
	if t.Level != nil {
		exp, got := levelName(t.Level), "none"
		if d.Level != nil {
			got = strings.ToLower(d.Level.String())
		}
		w.add("exp_level", exp, got, exp == got)
	}
	if t.Scale != nil {
		w.add("exp_scale", scaleName(float64(*t.Scale)), scaleName(float64(d.Scale)), t.Scale.Is(float64(d.Scale)))
	}
	if t.InForce != nil {
		w.add("exp_scale_in_force", scaleName(float64(*t.InForce)), scaleName(float64(d.InForce)), t.InForce.Is(float64(d.InForce)))
	}
	if t.Reasons != nil {
		got := reasons(d)
		has := func(reason string) bool { return slices.Contains(got, reason) }
		w.add("exp_reason", strings.Join(t.Reasons, ", "), strings.Join(got, ", "), !slices.ContainsFunc(t.Reasons, func(r string) bool { return !has(r) }))
	}
}

func levelName(l *fixture.Level) string {
	if l.None {
		return "none"
	}
	return strings.ToLower(l.Level.String())
}

func scaleName(v float64) string {
	if !controller.Number(v).Known() {
		return "none"
	}
	return figures.Scale(v)
}

// reasons are all words that say why a decision is what it is: its reason, the
// fault of the signals, the branch of the law, and the guard that changed its
// scale.
func reasons(d *controller.Decision) []string {
	all := []string{string(d.Reason), string(d.Fault), string(d.LawReason), string(d.Guard)}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// inputs lists what a decision was made of, as far as it is known.
func inputs(d *controller.Decision) string {
	var all []string
	for _, in := range []struct {
		name  string
		value controller.Number
	}{
		{"depth", d.Depth}, {"capacity", d.Capacity},
		{"soft_enter", d.SoftEnter}, {"soft_exit", d.SoftExit}, {"hard_enter", d.HardEnter}, {"hard_exit", d.HardExit},
		{"arrivals_per_second", d.ArrivalsPerSecond}, {"drain_per_second", d.DrainPerSecond},
		{"base_per_second", d.BaseRate}, {"age_seconds", d.AgeSeconds}, {"dead_time_seconds", d.DeadTimeSeconds},
		{"law_scale", d.LawScale}, {"scale_in_force", d.InForce},
	} {
		if in.value.Known() {
			all = append(all, in.name+" "+figures.Number(float64(in.value)))
		}
	}
	return strings.Join(append(all, "reported_level "+strings.ToLower(d.ReportedLevel.String())), ", ")
}

func (w *wants) addAnswer(t *fixture.DecisionTest, o fixture.ScaledObject, a scaler.Answer) {
	const unavailable = "unavailable"
	active, replicas := strconv.FormatBool(a.Active), strconv.Itoa(replicasOf(o, a))
	if a.Error != "" {
		active, replicas = unavailable, unavailable
	}
	if t.Replicas != nil {
		exp := strconv.Itoa(t.Replicas.Value)
		if t.Replicas.Unavailable {
			exp = unavailable
		}
		w.add("exp_replicas", exp, replicas, exp == replicas)
	}
	if t.Active != nil {
		exp := strconv.FormatBool(t.Active.Value)
		if t.Active.Unavailable {
			exp = unavailable
		}
		w.add("exp_scaler_active", exp, active, exp == active)
	}
}

// replicasOf is how many replicas KEDA and the autoscaler make of an answer.
func replicasOf(o fixture.ScaledObject, a scaler.Answer) int {
	return autoscaler.Bounds{Min: o.Min, Max: o.Max}.Within(computed(o, a), a.Active)
}

// computed is how many the autoscaler makes of it by itself, from those that
// write now.
func computed(o fixture.ScaledObject, a scaler.Answer) int {
	return autoscaler.Computed(a, o.AverageValue, a.Replicas)
}

// scalerWhy says how an answer came about, and what is made of it.
func scalerWhy(o fixture.ScaledObject, a scaler.Answer) string {
	if a.Error != "" {
		return fmt.Sprintf("the scaler has no answer, so that the replicas stay as they are: %s", a.Error)
	}
	metricType := "Value"
	if o.AverageValue {
		metricType = "AverageValue"
	}
	value := "unknown"
	if a.Value != nil {
		value = figures.Number(*a.Value)
	}
	text := fmt.Sprintf("%s of %s is %s", a.Metric, a.Target, value)
	if a.Guard != "" {
		text += fmt.Sprintf(" (%s)", a.Guard)
	}
	text += fmt.Sprintf("; at a target of %s by %s, and with %d writing now, the autoscaler computes %d",
		figures.Number(a.Autoscaler.TargetValue), metricType, a.Replicas, computed(o, a))
	if o.Min == 0 && !a.Active {
		return text + fmt.Sprintf("; the trigger is not active, which takes more than %s, so KEDA goes down to none", figures.Number(a.Autoscaler.ActivationValue))
	}
	return text + fmt.Sprintf(", to be within %d and %d", max(1, o.Min), o.Max)
}
