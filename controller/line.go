package controller

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// line is one target at work: it turns what is known of the signals into a
// decision for each provider. It has no clock and no input or output, and
// belongs to the goroutine of the loop.
type line struct {
	target    *Target
	started   time.Time // when the controller began to wait for its signals
	trackers  map[string]*pressure.Tracker
	throttles []*throttle

	// seen is what the signals were when last they were good; nil before.
	seen *sight
}

// throttle is what a line makes of one provider.
type throttle struct {
	*Provider

	scale   float64 // the last one wanted; NaN before the first
	newest  time.Time
	decided time.Time // when the law decided last; zero before
	outlet  *outlet

	previous *Decision // the last one that changed
	news     news

	limiter  *Limiter
	deadTime deadTime
	room     room
}

// view is what the loop knows of Prometheus at a tick.
type view struct {
	snapshot metrics.Snapshot
	fresh    bool      // it came since the last tick
	at       time.Time // when it came, on the controller's clock
	fault    Fault     // why there is no fresh one
	detail   string    // the same in words
}

// sight is good signals, judged.
type sight struct {
	worst      metrics.Observation // of the coordinators
	thresholds pressure.Thresholds // for it
	capacity   float64             // of it
	level      pressure.Level      // of the target
	since      time.Time           // the level
	reported   pressure.Level      // by the coordinators themselves
	newest     time.Time           // depth among all, on Prometheus' clock
	measured   time.Time           // when the oldest depth was, on the controller's clock
}

func newLine(t *Target, now time.Time) *line {
	l := &line{target: t, started: now, trackers: map[string]*pressure.Tracker{}}
	for i := range t.Providers {
		p := &t.Providers[i]
		seed := fnv.New64a()
		fmt.Fprintf(seed, "%s\x00%s\x00%s", t.Name, p.URL, p.Name)
		l.throttles = append(l.throttles, &throttle{Provider: p, scale: math.NaN(), limiter: NewLimiter(p.Guard, seed.Sum64()),
			room: room{items: Number(math.NaN())}, outlet: &outlet{provider: p, combine: t.Combine}})
	}
	return l
}

// fault is why signals are no good.
type fault struct {
	kind   Fault
	detail string
}

// decide makes one decision for each provider, in their order.
func (l *line) decide(now time.Time, v view) []*Decision {
	fault := l.look(now, v)
	decisions := make([]*Decision, len(l.throttles))
	for i, p := range l.throttles {
		decisions[i] = l.decideOne(now, p, fault)
	}
	return decisions
}

// look takes in the signals where they are good, and says why where they are
// not.
func (l *line) look(now time.Time, v view) fault {
	if !v.fresh {
		return fault{v.fault, v.detail}
	}
	// All are looked at before any is judged: a level is that of one moment.
	observations := make([]metrics.Observation, 0, 2) // few targets observe more, and these are on the stack
	var oldest time.Duration
	for _, id := range l.target.CoordinatorIDs {
		o, ok := v.snapshot.Coordinators[id]
		if !ok {
			return fault{FaultSeriesAbsent, fmt.Sprintf("Prometheus has no usable %s{%s=%q}",
				l.target.Names.Depth, l.target.Names.CoordinatorLabel, id)}
		}
		age := v.snapshot.Age(o) + now.Sub(v.at)
		if age > l.target.StaleAfter {
			return fault{FaultSeriesStale, fmt.Sprintf("%s{%s=%q} is %s old",
				l.target.Names.Depth, l.target.Names.CoordinatorLabel, id, age.Round(100*time.Millisecond))}
		}
		if f := l.lacks(o); f.kind != FaultNone {
			return f
		}
		oldest = max(oldest, age)
		observations = append(observations, o)
	}
	l.judge(now, observations, oldest)
	return fault{}
}

// lacks says which signal beside the depth is missing of those that the marks
// and the laws need.
func (l *line) lacks(o metrics.Observation) fault {
	names := l.target.Names
	capacity := l.capacityOf(o)
	if l.target.relative() {
		if math.IsNaN(capacity) {
			return fault{FaultCapacityAbsent, fmt.Sprintf(
				"the marks are shares of the capacity, and Prometheus has no usable %s{%s=%q} of every replica",
				names.Capacity, names.CoordinatorLabel, o.CoordinatorID)}
		}
		if err := l.target.thresholds(capacity).Validate(); err != nil {
			return fault{FaultThresholds, fmt.Sprintf("at a capacity of %s items the thresholds are out of order: %s",
				figures.Number(capacity), strings.ReplaceAll(err.Error(), "\n", ", "))}
		}
	}
	for _, p := range l.throttles {
		for _, need := range []struct {
			signal policy.Signals
			series string
			has    bool
		}{
			{policy.SignalCapacity, names.Capacity, !math.IsNaN(capacity)},
			{policy.SignalArrivals, names.Accepted, o.Arrivals.Known},
			{policy.SignalDrain, names.Written, o.Drain.Known},
		} {
			if !policy.Needs(p.Law).Has(need.signal) || need.has {
				continue
			}
			what := "has no two samples of"
			if slices.Contains(o.Missing, need.series) || need.signal == policy.SignalCapacity {
				what = "has no usable"
			}
			return fault{FaultSignalAbsent, fmt.Sprintf("the law %s needs a signal, and Prometheus %s %s{%s=%q}",
				p.LawName, what, need.series, names.CoordinatorLabel, o.CoordinatorID)}
		}
	}
	return fault{}
}

// capacityOf is the capacity that counts for a coordinator: the configured
// one, else its own; NaN where there is neither.
func (l *line) capacityOf(o metrics.Observation) float64 {
	if l.target.Capacity > 0 {
		return l.target.Capacity
	}
	return o.Capacity
}

// judge makes one sight of good observations: the worst level, and the
// coordinator that is worst by level and then by its share of the HARD mark.
func (l *line) judge(now time.Time, observations []metrics.Observation, oldest time.Duration) {
	s := l.seen
	if s == nil {
		s = &sight{}
	}
	*s = sight{measured: now.Add(-oldest)}
	worstShare := math.Inf(-1)
	var worstLevel pressure.Level
	for _, o := range observations {
		capacity := l.capacityOf(o)
		thresholds := l.target.thresholds(capacity)
		tracker := l.trackers[o.CoordinatorID]
		if tracker == nil {
			tracker = pressure.NewTracker(thresholds)
			l.trackers[o.CoordinatorID] = tracker
		}
		tracker.SetThresholds(thresholds)
		level, _ := tracker.Observe(now, o.Depth, o.Level)
		_, since := tracker.Level()

		share := o.Depth / math.Max(thresholds.HardEnter, 1)
		if s.worst.CoordinatorID == "" || level > worstLevel || (level == worstLevel && share > worstShare) {
			s.worst, s.thresholds, s.capacity = o, thresholds, capacity
			worstLevel, worstShare = level, share
			s.level, s.since = level, since
		}
		s.reported = max(s.reported, o.Level)
		if o.Newest.After(s.newest) {
			s.newest = o.Newest
		}
	}
	// Several coordinators at the worst level: it began with the first of them.
	for _, o := range observations {
		if level, since := l.trackers[o.CoordinatorID].Level(); level == s.level && since.Before(s.since) {
			s.since = since
		}
	}
	l.seen = s
}

// decideOne decides for one provider: by the law where the signals are good,
// else by the failure table.
func (l *line) decideOne(now time.Time, p *throttle, f fault) *Decision {
	unknown := Number(math.NaN())
	d := &Decision{
		At: now, HeadroomItems: p.room.items, Target: l.target.Name, Provider: p.Name, Law: p.LawName,
		Depth: unknown, Capacity: unknown, SoftEnter: unknown, SoftExit: unknown, HardEnter: unknown, HardExit: unknown,
		ArrivalsPerSecond: unknown, DrainPerSecond: unknown, LawScale: unknown, Scale: unknown,
		InForce: unknown, BaseRate: unknown, Effective: unknown, DeadTimeSeconds: unknown,
		Outcome: OutcomeNothing, own: true, staleAfter: l.target.StaleAfter, failMode: l.target.FailMode,
	}
	if f.kind == FaultNone && policy.Needs(p.Law).Has(policy.SignalBase) && !p.outlet.read {
		f = fault{FaultBaseUnknown, fmt.Sprintf("the law %s needs the base rate of provider %q, and its coordinator has not told it", p.LawName, p.Name)}
	}
	d.Fault, d.Detail = f.kind, f.detail
	age := now.Sub(l.started)
	if l.seen != nil {
		l.seen.fill(d)
		age = now.Sub(l.seen.measured)
	}
	d.AgeSeconds = Number(age.Seconds())

	switch {
	case f.kind == FaultNone:
		l.decideByLaw(now, p, d)
	case age > l.target.StaleAfter || f.kind == FaultSeriesStale:
		d.Reason = ReasonFailMode
		scale, level := l.target.failScale(p.scale, d.leaseLevel)
		d.Scale, d.leaseLevel = Number(scale), level
	case math.IsNaN(p.scale):
		d.Reason = ReasonWaiting
	default:
		d.Reason = ReasonHold
		d.Scale = Number(p.scale)
	}
	p.scale = float64(d.Scale)
	return d
}

func (l *line) decideByLaw(now time.Time, p *throttle, d *Decision) {
	s := l.seen
	in := policy.Input{
		Level: s.level, Depth: s.worst.Depth, Capacity: s.capacity, Thresholds: s.thresholds,
		ArrivalsPerSecond: perSecond(s.worst.Arrivals), DrainPerSecond: perSecond(s.worst.Drain),
		BasePerSecond: math.NaN(), FloorPerSecond: math.NaN(), InForce: math.NaN(),
		Age: now.Sub(s.measured), Fresh: !s.newest.Equal(p.newest),
	}
	if !p.decided.IsZero() {
		in.Elapsed = now.Sub(p.decided)
	}
	if o := p.outlet; o.read {
		in.BasePerSecond, in.FloorPerSecond, in.InForce = o.state.BasePerSecond, o.state.FloorPerSecond, o.state.Scale
	}
	p.deadTime.saw(now, in.Elapsed, s.newest, in.ArrivalsPerSecond)
	in.DeadTime = p.DeadTime
	if in.DeadTime == 0 {
		in.DeadTime = p.deadTime.value()
	}
	if in.DeadTime > 0 {
		d.DeadTimeSeconds = Number(in.DeadTime.Seconds())
	}
	p.room.look(now, p, in)
	d.HeadroomItems = p.room.items
	out := p.Law.Decide(in)
	p.decided, p.newest = now, s.newest

	before := p.scale
	scale, guard := p.limiter.Limit(in.Elapsed, s.level, out.Scale, before)
	d.Reason, d.LawReason, d.LawScale = ReasonLaw, out.Reason, Number(out.Scale)
	d.Guard, d.Scale = guard, Number(scale)
	d.clause, d.guarded = explainLaw(p.Provider, in, out), p.limiter.explain(guard, in.Elapsed, out.Scale, before, scale)
	for term := range out.Terms.All() {
		d.Terms = append(d.Terms, Term{term.Name, Number(term.Value)})
	}
}

// fill writes into a decision what was seen.
func (s *sight) fill(d *Decision) {
	d.CoordinatorID, d.Replicas = s.worst.CoordinatorID, len(s.worst.Replicas)
	d.Depth, d.Capacity = Number(s.worst.Depth), Number(s.capacity)
	d.ReportedLevel = s.reported
	d.thresholds = s.thresholds
	d.SoftEnter, d.SoftExit = Number(s.thresholds.SoftEnter), Number(s.thresholds.SoftExit)
	d.HardEnter, d.HardExit = Number(s.thresholds.HardEnter), Number(s.thresholds.HardExit)
	d.ArrivalsPerSecond = Number(perSecond(s.worst.Arrivals))
	d.DrainPerSecond = Number(perSecond(s.worst.Drain))
	level, since := s.level, s.since
	d.Level, d.LevelSince, d.leaseLevel = &level, &since, level
}

func perSecond(r metrics.Rate) float64 {
	if !r.Known {
		return math.NaN()
	}
	return r.PerSecond
}
