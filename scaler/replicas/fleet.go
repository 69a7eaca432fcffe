package replicas

import (
	"math"
	"time"
)

// Config says how a fleet is sized.
type Config struct {
	DrainWithin time.Duration // in which the backlog shall be gone, > 0
	Min, Max    int           // bounds of the answer, 0 <= Min <= Max
	Growth      float64       // at most this many times the replicas that are there are asked for, > 1

	// PerReplicaPerSecond is what one replica drains as the user knows it, to
	// start with; 0 is to measure it.
	PerReplicaPerSecond float64

	Settle     time.Duration // see StoreGuard
	Tries      int
	RetryAfter time.Duration
	StepBack   bool // a store-bound fleet shrinks to the fewest replicas that do as much, instead of staying
}

// Cause says what made an answer what it is. The set is closed.
type Cause string

const (
	CauseDemand     Cause = "demand"      // the arithmetic alone
	CauseMin        Cause = "min"         // the least that may be asked for
	CauseMax        Cause = "max"         // the most that may be asked for
	CauseGrowth     Cause = "growth"      // one step at a time
	CauseSettling   Cause = "settling"    // the last change of the replicas has not shown in the drain yet
	CauseStoreBound Cause = "store_bound" // more replicas do not drain more
	CauseNoDrain    Cause = "no_drain"    // nothing is drained, or nothing is known of it: what is there is held
	CauseLevel      Cause = "level"       // the level holds the fleet
	CauseTolerance  Cause = "tolerance"   // too small a difference for the autoscaler
)

// Causes lists every cause.
func Causes() []Cause {
	return []Cause{CauseDemand, CauseMin, CauseMax, CauseGrowth, CauseSettling, CauseStoreBound, CauseNoDrain, CauseLevel, CauseTolerance}
}

// Plan is how many replicas a fleet should have, and why.
type Plan struct {
	Replicas int   // after all guards, Min <= Replicas <= Max
	Cause    Cause // the guard that bit last, or CauseDemand

	DemandPerSecond     float64 // arrivals, and the backlog over the wanted time
	PerReplicaPerSecond float64 // what one replica is held to drain; 0 while unknown
	Wanted              float64 // replicas by the arithmetic alone; NaN while unknown
	Busy                bool    // there is a backlog

	StoreBound bool // see StoreGuard
	BoundFor   time.Duration
	Enough     int
	Fruitless  int
	Judging    bool
}

// Fleet sizes one fleet from one snapshot to the next. It may be used by one
// goroutine at a time.
type Fleet struct {
	config     Config
	capability Capability
	guard      StoreGuard
	asked      int     // the last answer
	arrivals   float64 // last known, NaN before
}

// NewFleet starts with nothing known but the config, which must be valid.
func NewFleet(c Config) *Fleet {
	f := &Fleet{
		config:   c,
		arrivals: math.NaN(),
		guard:    StoreGuard{Settle: c.Settle, Tries: c.Tries, RetryAfter: c.RetryAfter},
	}
	if c.PerReplicaPerSecond > 0 {
		f.capability = GivenCapability(c.PerReplicaPerSecond)
	}
	return f
}

// Configure changes the config and keeps what was learnt.
func (f *Fleet) Configure(c Config) {
	if c.PerReplicaPerSecond != f.config.PerReplicaPerSecond && c.PerReplicaPerSecond > 0 {
		f.capability = GivenCapability(c.PerReplicaPerSecond)
	}
	f.config = c
	f.guard.Settle, f.guard.Tries, f.guard.RetryAfter = c.Settle, c.Tries, c.RetryAfter
}

// Step sizes the fleet after elapsed went by and s was seen. It is not ok
// while the arrivals were never known: two samples of every replica are needed.
//
//	wanted = (arrivals + depth/DrainWithin) / what one replica drains
func (f *Fleet) Step(elapsed time.Duration, s Signals) (p Plan, ok bool) {
	if !math.IsNaN(s.ArrivalsPerSecond) {
		f.arrivals = s.ArrivalsPerSecond
	}
	demand := f.arrivals + s.Depth/f.config.DrainWithin.Seconds()
	f.guard.Step(elapsed, s)
	if math.IsNaN(demand) {
		return Plan{}, false
	}
	f.capability = f.capability.Step(elapsed, s, demand, f.config.DrainWithin, f.config.RetryAfter)

	p = Plan{
		DemandPerSecond: demand, PerReplicaPerSecond: f.capability.PerSecond, Busy: s.Busy(),
		StoreBound: f.guard.Bound, BoundFor: f.guard.BoundFor, Enough: f.guard.Enough,
		Fruitless: f.guard.Fruitless, Judging: f.guard.Judging,
	}
	p.Wanted, p.Replicas, p.Cause = f.wanted(demand, s.Replicas)
	f.limit(&p, s)
	f.asked = p.Replicas
	return p, true
}

// wanted is the arithmetic alone.
func (f *Fleet) wanted(demand float64, replicas int) (exact float64, rounded int, cause Cause) {
	switch {
	case demand == 0:
		return 0, 0, CauseDemand
	case f.capability.PerSecond > 0:
		exact = demand / f.capability.PerSecond
		return exact, ceil(exact), CauseDemand
	}
	return math.NaN(), max(1, replicas), CauseNoDrain
}

// limit lets each guard have its say on a plan.
func (f *Fleet) limit(p *Plan, s Signals) {
	replicas := s.Replicas
	atMost := func(most int, cause Cause) {
		if p.Replicas > most {
			p.Replicas, p.Cause = most, cause
		}
	}
	atMost(max(replicas+1, int(f.config.Growth*float64(replicas))), CauseGrowth)
	if f.guard.Bound {
		most := f.guard.Limit
		if f.config.StepBack {
			most = f.guard.Enough
		}
		atMost(most, CauseStoreBound)
	}
	if f.guard.Judging || f.guard.Unmeasured(s) {
		atMost(max(replicas, f.asked), CauseSettling)
	}
	atMost(f.config.Max, CauseMax)
	if p.Replicas < f.config.Min {
		p.Replicas, p.Cause = f.config.Min, CauseMin
	}
}

// ceil rounds up to a whole number of replicas, with a little slack for what
// floating point adds, and stays within what an int32 holds.
func ceil(x float64) int {
	return int(min(math.Ceil(x-1e-9), math.MaxInt32))
}
