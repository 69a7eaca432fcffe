// Package autoscaler is what becomes of the scaler's answers: KEDA switches a
// fleet on and off, and the HorizontalPodAutoscaler sizes it meanwhile, with
// its tolerance, its stabilisation windows and its behaviours, as
// k8s.io/kubernetes/pkg/controller/podautoscaler computes them.
package autoscaler

import (
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/scaler"
	"github.com/headgate/headgate/scaler/replicas"
)

// Bounds are those of a ScaledObject, 0 <= Min <= Max and Max >= 1.
type Bounds struct{ Min, Max int }

// Within is how many replicas there are to be where the autoscaler computes so
// many: none where no trigger is active and there may be none.
func (b Bounds) Within(computed int, active bool) int {
	if b.Min == 0 && !active {
		return 0
	}
	return min(max(computed, b.Min, 1), b.Max)
}

// Computed is how many replicas the autoscaler makes of an answer by itself,
// where there are current ones. By metricType Value it multiplies those that
// wrote when the answer was made, for the answer is about them. It is 0 where
// the answer has no value.
func Computed(a scaler.Answer, averageValue bool, current int) int {
	switch {
	case a.Value == nil:
		return 0
	case averageValue:
		return replicas.ByAverageValue(*a.Value, a.Autoscaler.TargetValue, current)
	}
	return replicas.ByValue(*a.Value, a.Autoscaler.TargetValue, a.Replicas)
}

// Select says which of several policies counts.
type Select string

const (
	SelectMax      Select = "Max" // the one that allows the largest change
	SelectMin      Select = "Min"
	SelectDisabled Select = "Disabled" // no change in this direction
)

// Policy bounds how much may change in a period.
type Policy struct {
	Percent bool // Value is percents of the replicas at the period's start, else replicas
	Value   int  // > 0
	Period  time.Duration
}

// Rules are the scalingRules of one direction.
type Rules struct {
	Window   time.Duration // stabilisation: the most cautious recommendation within it counts
	Select   Select
	Policies []Policy // none is without a bound
}

// Behaviour is the behavior of a HorizontalPodAutoscaler.
type Behaviour struct{ Up, Down Rules }

// DefaultBehaviour is what counts where a HorizontalPodAutoscaler says nothing.
func DefaultBehaviour() Behaviour {
	const period = 15 * time.Second
	return Behaviour{
		Up:   Rules{Select: SelectMax, Policies: []Policy{{Value: 4, Period: period}, {Percent: true, Value: 100, Period: period}}},
		Down: Rules{Window: 5 * time.Minute, Select: SelectMax, Policies: []Policy{{Percent: true, Value: 100, Period: period}}},
	}
}

// SyncInterval is how often the HorizontalPodAutoscaler looks, by default.
const SyncInterval = 15 * time.Second

// Config says how a fleet is scaled.
type Config struct {
	Bounds    Bounds
	Behaviour Behaviour
	CoolDown  time.Duration // KEDA's cooldownPeriod, without an active trigger, before the fleet goes to none
}

// Answer is what one trigger answered.
type Answer struct {
	scaler.Answer
	AverageValue bool // metricType AverageValue, else Value
}

// Fleet is one fleet that is scaled. It belongs to one goroutine.
type Fleet struct {
	config   Config
	replicas int

	began       bool
	activeUntil time.Time // the cool-down is over then
	recommended []event   // within the longer window
	added, gone []event   // changes within the longest period
}

// event is a number at a time.
type event struct {
	at time.Time
	n  int
}

// New returns a fleet of so many replicas.
func New(c Config, start int) *Fleet { return &Fleet{config: c, replicas: start} }

// Sync is one look at the answers of all triggers, at least one, and returns how
// many replicas there are from now on. Now must not be before the last one's.
func (f *Fleet) Sync(now time.Time, answers []Answer) int {
	if !f.began {
		f.began = true
		f.activeUntil = now.Add(f.config.CoolDown)
		f.recommended = []event{{now, f.replicas}}
	}
	if f.switched(now, answers) {
		return f.replicas
	}
	b := f.config.Bounds
	switch {
	case f.replicas > b.Max:
		f.set(now, b.Max)
	case f.replicas < max(b.Min, 1):
		f.set(now, max(b.Min, 1))
	default:
		if wanted, ok := f.wanted(answers); ok {
			f.set(now, f.limit(now, f.stabilise(now, wanted)))
		}
	}
	return f.replicas
}

// switched does KEDA's part, and reports whether nothing is left to the
// autoscaler: there are no replicas, or only now there are.
func (f *Fleet) switched(now time.Time, answers []Answer) bool {
	failed := func(a Answer) bool { return a.Error != "" }
	active := slices.ContainsFunc(answers, func(a Answer) bool { return !failed(a) && a.Active })
	if active || slices.ContainsFunc(answers, failed) { // what is not known does not count as idle
		f.activeUntil = now.Add(f.config.CoolDown)
	}
	switch {
	case f.replicas == 0 && active:
		f.replicas = max(f.config.Bounds.Min, 1)
	case f.config.Bounds.Min == 0 && !active && !now.Before(f.activeUntil):
		f.replicas = 0
	default:
		return f.replicas == 0 && f.config.Bounds.Min == 0
	}
	return true
}

// wanted is the most that the autoscaler computes of any answer. It is not ok
// where that is not enough to go by: nothing is known, or only that some of them
// want fewer.
func (f *Fleet) wanted(answers []Answer) (wanted int, ok bool) {
	known := 0
	for _, a := range answers {
		if a.Error == "" {
			known++
			wanted = max(wanted, Computed(a.Answer, a.AverageValue, f.replicas))
		}
	}
	return wanted, known > 0 && (known == len(answers) || wanted >= f.replicas)
}

// stabilise is the most cautious of the recommendations within the windows.
func (f *Fleet) stabilise(now time.Time, wanted int) int {
	rules := f.config.Behaviour
	up, down := wanted, wanted
	for _, r := range f.recommended {
		if r.at.After(now.Add(-rules.Up.Window)) {
			up = min(up, r.n)
		}
		if r.at.After(now.Add(-rules.Down.Window)) {
			down = max(down, r.n)
		}
	}
	f.recommended = append(since(f.recommended, now.Add(-max(rules.Up.Window, rules.Down.Window))), event{now, wanted})
	return min(max(f.replicas, up), down)
}

// limit is what the policies and the bounds allow of a wish.
func (f *Fleet) limit(now time.Time, wanted int) int {
	b := f.config.Bounds
	switch {
	case wanted > f.replicas:
		return min(wanted, b.Max, max(f.replicas, f.most(now)))
	case wanted < f.replicas:
		return max(wanted, b.Min, 1, min(f.replicas, f.least(now)))
	}
	return wanted
}

// most is up to how many replicas the policies allow to go now.
func (f *Fleet) most(now time.Time) int {
	return f.allowed(now, f.config.Behaviour.Up, func(p Policy, start int) int {
		if p.Percent {
			return int(min(math.Ceil(float64(start)*(1+float64(p.Value)/100)), math.MaxInt32))
		}
		return start + p.Value
	}, 1)
}

// least is down to how many replicas they allow to go.
func (f *Fleet) least(now time.Time) int {
	return f.allowed(now, f.config.Behaviour.Down, func(p Policy, start int) int {
		if p.Percent {
			return int(float64(start) * (1 - float64(p.Value)/100))
		}
		return start - p.Value
	}, -1)
}

// allowed is the number of replicas to which the rules of a direction, 1 for up
// and -1 for down, allow to go.
func (f *Fleet) allowed(now time.Time, r Rules, to func(p Policy, start int) int, direction int) int {
	if r.Select == SelectDisabled {
		return f.replicas
	}
	if len(r.Policies) == 0 {
		return direction * math.MaxInt32
	}
	var allowed int
	for i, p := range r.Policies {
		start := f.replicas - total(f.added, now.Add(-p.Period)) + total(f.gone, now.Add(-p.Period))
		proposed := to(p, start)
		further := direction*proposed > direction*allowed
		if i == 0 || further == (r.Select != SelectMin) {
			allowed = proposed
		}
	}
	return allowed
}

// set changes the replicas, and notes by how much.
func (f *Fleet) set(now time.Time, to int) {
	longest := time.Duration(0)
	for _, p := range slices.Concat(f.config.Behaviour.Up.Policies, f.config.Behaviour.Down.Policies) {
		longest = max(longest, p.Period)
	}
	f.added, f.gone = since(f.added, now.Add(-longest)), since(f.gone, now.Add(-longest))
	switch change := to - f.replicas; {
	case change > 0:
		f.added = append(f.added, event{now, change})
	case change < 0:
		f.gone = append(f.gone, event{now, -change})
	}
	f.replicas = to
}

// since are the events after a time.
func since(all []event, after time.Time) []event {
	return slices.DeleteFunc(all, func(e event) bool { return !e.at.After(after) })
}

// total adds the events after a time up.
func total(all []event, after time.Time) int {
	sum := 0
	for _, e := range all {
		if e.at.After(after) {
			sum += e.n
		}
	}
	return sum
}
