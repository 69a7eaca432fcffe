package replicas

import (
	"math"
	"time"
)

// Capability is an estimate of what one replica can drain.
//
// While there is a backlog the drain of the fleet, divided by its replicas, is
// the capability, and the estimate follows it within about a quarter of a
// minute. Without one the drain only tells what arrived: it is a lower bound.
// An estimate that no backlog has confirmed for Trust is raised step by step,
// so that a fleet that is larger than it need be is found out; should the
// guess be too high, a backlog comes up and says so at once.
type Capability struct {
	PerSecond float64       // items per second and replica; 0 while unknown, or while the store stands still
	Known     bool          // something was measured or given
	unproven  time.Duration // since a backlog confirmed it, or since it was given
	proven    bool
}

const (
	followWithin = 15 * time.Second // time constant of the estimate under backlog
	probeGain    = 1.25             // rise of an unconfirmed estimate within one drain time
)

// GivenCapability starts with an estimate that someone else vouches for.
func GivenCapability(perSecond float64) Capability {
	return Capability{PerSecond: perSecond, Known: true, proven: true}
}

// Step returns the estimate after elapsed went by and s was seen. Demand is
// what the fleet has to drain per second, within is the time in which the
// backlog shall be gone, trust how long a confirmed estimate is not doubted.
func (c Capability) Step(elapsed time.Duration, s Signals, demand float64, within, trust time.Duration) Capability {
	c.unproven += elapsed
	if !s.measured() {
		return c
	}
	perReplica := s.DrainPerSecond / float64(s.Replicas)
	switch {
	case s.Busy() && !c.Known:
		return Capability{PerSecond: perReplica, Known: true, proven: true}
	case s.Busy():
		weight := 1 - math.Exp(-elapsed.Seconds()/followWithin.Seconds())
		c.PerSecond += weight * (perReplica - c.PerSecond)
		c.unproven, c.proven = 0, true
		return c
	}
	if perReplica > 0 {
		c.PerSecond, c.Known = max(c.PerSecond, perReplica), true
	}
	if c.Known && (!c.proven || c.unproven > trust) && demand > c.PerSecond {
		c.PerSecond = min(demand, c.PerSecond*math.Pow(probeGain, elapsed.Seconds()/within.Seconds()))
	}
	return c
}
