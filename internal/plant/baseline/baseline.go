// Package baseline holds the laws that Headgate's are compared with, written
// from what their authors published. Each is a policy.Law over the same Input
// as ours, with the settings that a user of it would tune.
package baseline

import (
	"math"
	"time"

	"github.com/headgate/headgate/controller/policy"
)

// reason is why a baseline chose its scale; nobody counts these.
const reason policy.Reason = "baseline"

func scaled(scale float64) policy.Output {
	if math.IsNaN(scale) {
		scale = 0
	}
	return policy.Output{Scale: min(1, max(0, scale)), Reason: reason}
}

// Open is no control at all.
type Open struct{}

// Decide opens the gate.
func (Open) Decide(policy.Input) policy.Output { return scaled(1) }

// Seed is the step law without hysteresis that Headgate started from: marks at
// 50 and 80 % of the capacity, and a scale for each level.
type Seed struct {
	SoftFrom, HardFrom float64 // of the capacity
	Soft, Hard         float64 // scales
}

// Decide looks at the depth alone.
func (s *Seed) Decide(in policy.Input) policy.Output {
	switch share := in.Depth / in.Capacity; {
	case share >= s.HardFrom:
		return scaled(s.Hard)
	case share > s.SoftFrom:
		return scaled(s.Soft)
	}
	return scaled(1)
}

// RocksDB is the write controller of RocksDB (db/column_family.cc,
// SetupDelay): between the mark for slowing down and the one for stopping the
// delayed rate is multiplied by 0.8 while the backlog grows and by 1.25 while
// it shrinks, by 0.6 near the stop; beyond the stop mark nothing is written;
// and once the backlog is gone the writer is not delayed, and the rate
// remembered is multiplied by 1.4.
type RocksDB struct {
	SlowFrom, StopFrom float64 // of the capacity
	StartAt            float64 // first delayed rate, as a scale

	rate   float64
	depth  float64
	slowed bool
	last   float64
	asked  bool
}

// Decide is asked at each compaction or flush in the original, here at each
// new sample.
func (r *RocksDB) Decide(in policy.Input) policy.Output {
	if r.asked && !in.Fresh {
		return scaled(r.last)
	}
	if r.rate == 0 {
		r.rate = r.StartAt
	}
	share, shrinks := in.Depth/in.Capacity, in.Depth < r.depth
	near := r.SlowFrom + 0.75*(r.StopFrom-r.SlowFrom)
	switch {
	case share >= r.StopFrom:
		r.last, r.slowed = 0, true
	case share > r.SlowFrom:
		switch {
		case !r.slowed:
		case share >= near:
			r.rate *= 0.6
		case shrinks:
			r.rate *= 1.25
		default:
			r.rate *= 0.8
		}
		r.rate = min(1, max(0.01, r.rate))
		r.last, r.slowed = r.rate, true
	default:
		if r.slowed {
			r.rate = min(1, r.rate*1.4)
		}
		r.last, r.slowed = 1, false
	}
	r.depth, r.asked = in.Depth, true
	return scaled(r.last)
}

// AIMD is Aperture's AIMD load scheduler: while the signal is above its set
// point the load that was accepted is multiplied by (set point/signal)^slope,
// within limits; otherwise the multiplier grows by a fixed step.
type AIMD struct {
	SetPoint  float64       // of the capacity
	Slope     float64       // of the gradient; 1 in Aperture's default
	Least     float64       // of the gradient; 0.1 in Aperture's default
	Increment float64       // of the scale, in each Every; 0.025 in Aperture's default
	Every     time.Duration // between two evaluations

	scale float64
	since time.Duration
	asked bool
}

// Decide evaluates once in each Every, as the circuit does.
func (a *AIMD) Decide(in policy.Input) policy.Output {
	if !a.asked {
		a.scale, a.asked, a.since = known(in.InForce, 1), true, a.Every
	}
	a.since += in.Elapsed
	if a.since < a.Every {
		return scaled(a.scale)
	}
	a.since = 0
	signal, setPoint := in.Depth, a.SetPoint*in.Capacity
	if signal > setPoint {
		accepted := known(in.ArrivalsPerSecond, a.scale*in.BasePerSecond) / in.BasePerSecond
		a.scale = min(a.scale, accepted) * max(a.Least, math.Pow(setPoint/signal, a.Slope))
	} else {
		a.scale += a.Increment
	}
	a.scale = min(1, max(0.01, a.scale))
	return scaled(a.scale)
}

// SparkPID is Spark Streaming's PIDRateEstimator: the rate of the last batch,
// less a proportion of how far it was above the processing rate, less an
// integral part of what its scheduling delay amounts to, less a derivative
// part, and never below a least rate.
//
// The original knows how long a batch was worked on, so that its processing
// rate is above the rate while there is too little to do. Here only what is
// written is seen; while nothing waits, the rate last seen under a backlog
// stands for the processing rate, and the base rate before there was one.
type SparkPID struct {
	Proportional, Integral, Derivative float64 // 1, 0.2, 0 in Spark's default
	LeastPerSecond                     float64 // 100 in Spark's default

	rate, lastError float64
	busyRate        float64 // last seen under a backlog; 0 before
	since           time.Duration
	asked           bool
}

// Decide estimates at each new sample, which stands for a completed batch.
func (s *SparkPID) Decide(in policy.Input) policy.Output {
	s.since += in.Elapsed
	if !s.asked {
		s.rate = known(in.InForce, 1) * in.BasePerSecond
	}
	if s.asked && !in.Fresh || !(in.DrainPerSecond > 0) {
		s.asked = true
		return scaled(s.rate / in.BasePerSecond)
	}
	interval := max(s.since.Seconds(), 0.001)
	processing := in.DrainPerSecond
	switch {
	case in.Depth > 0.2*in.DrainPerSecond:
		s.busyRate = processing
	case s.busyRate > 0:
		processing = max(processing, s.busyRate)
	default:
		processing = in.BasePerSecond
	}
	off := s.rate - processing
	// The scheduling delay is depth/processing; what waited so long in batches
	// of this interval, at the processing rate, is depth/interval.
	historical := in.Depth / interval
	slope := (off - s.lastError) / interval
	s.rate = max(s.LeastPerSecond, s.rate-s.Proportional*off-s.Integral*historical-s.Derivative*slope)
	s.rate = min(s.rate, in.BasePerSecond)
	s.lastError, s.since, s.asked = off, 0, true
	return scaled(s.rate / in.BasePerSecond)
}

// Gradient2 is the limit of that name in Netflix's concurrency-limits, with
// the rate as the limit and the wait in the queue, over a wait without any
// load, as the round-trip time: the limit is multiplied by the ratio of a long
// average of the time to the newest one, within [0.5, 1], an allowance for a
// queue is added, and the result is smoothed.
type Gradient2 struct {
	Tolerance float64 // 1.5 in the library's default
	Smoothing float64 // 0.2 in the library's default
	Allowance float64 // items per second that may queue
	Window    float64 // samples of the long average; 600 in the library's default
	Unloaded  time.Duration

	limit, long float64
	asked       bool
}

// Decide updates the limit at each new sample.
func (g *Gradient2) Decide(in policy.Input) policy.Output {
	if !g.asked {
		g.limit = known(in.InForce, 1) * in.BasePerSecond
	}
	if g.asked && !in.Fresh || !(in.DrainPerSecond > 0) {
		g.asked = true
		return scaled(g.limit / in.BasePerSecond)
	}
	short := g.Unloaded.Seconds() + in.Depth/in.DrainPerSecond
	if g.long == 0 {
		g.long = short
	}
	g.long += 2 / (g.Window + 1) * (short - g.long)
	if g.long/short > 2 { // the library lets a long time go faster than it came
		g.long *= 0.95
	}
	g.asked = true
	// The library does not grow a limit of which less than half is used.
	if in.ArrivalsPerSecond < g.limit/2 {
		return scaled(g.limit / in.BasePerSecond)
	}
	gradient := max(0.5, min(1, g.Tolerance*g.long/short))
	wanted := g.limit*gradient + g.Allowance
	g.limit = min(in.BasePerSecond, max(0.01*in.BasePerSecond, g.limit*(1-g.Smoothing)+wanted*g.Smoothing))
	return scaled(g.limit / in.BasePerSecond)
}

// known is v, or otherwise where v is not known.
func known(v, otherwise float64) float64 {
	if !(v >= 0) || math.IsInf(v, 0) {
		return otherwise
	}
	return v
}
