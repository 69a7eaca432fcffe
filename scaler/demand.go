package scaler

import (
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/pressure"
)

// load is what a request's coordinators carry together. Rates are items per
// second.
type load struct {
	depth, capacity float64 // items; capacity NaN when unknown
	level           pressure.Level
	arrivals, drain float64 // NaN when unknown
	replicas        int
	perReplica      float64 // the drain that one replica is capable of; NaN until seen
	storeBound      bool    // more replicas did not raise the drain
}

// Bit says which limit changed an answer. It is one of a closed set.
type Bit string

const (
	BitNone       Bit = ""
	BitStoreBound Bit = "store_bound"   // more replicas did not raise the drain: none are asked for
	BitHold       Bit = "hold_at_soft"  // the store is behind: the fleet does not grow
	BitStepBack   Bit = "step_back"     // HARD while the store is the limit: fewer writers press on it
	BitSlowest    Bit = "longest_drain" // the time to empty is longer than can be told
)

const (
	longestDrainTime = time.Hour

	// stepBack is the multiplier at HARD while the store is the limit. It lies
	// outside of the HPA's tolerance of 10 %, so it takes effect.
	stepBack = 0.8

	// mostGrowth bounds one multiplication, for the HPA multiplies again at its
	// next look.
	mostGrowth = 2.0
)

// missingError says that a metric cannot be told for want of a signal.
type missingError struct {
	metric Metric
	signal string
}

func (e *missingError) Error() string {
	return fmt.Sprintf("%s needs %s, which Prometheus does not have", e.metric, e.signal)
}

// value is the number that answers a request, and the limit that changed it.
func (l load) value(r Request) (float64, Bit, error) {
	missing := func(signal string) (float64, Bit, error) {
		return 0, BitNone, &missingError{r.Metric, signal}
	}
	switch r.Metric {
	case QueueDepth:
		return l.depth, BitNone, nil
	case HardPressure:
		if l.level == pressure.Hard {
			return 1, BitNone, nil
		}
		return 0, BitNone, nil
	case Utilization:
		if !(l.capacity > 0) {
			return missing("the capacity")
		}
		return l.depth / l.capacity, BitNone, nil
	case DrainTime:
		if math.IsNaN(l.drain) {
			return missing("the drain rate")
		}
		v, bit := l.drainTime()
		return v, bit, nil
	}
	if math.IsNaN(l.arrivals) || math.IsNaN(l.drain) {
		return missing("the arrival and drain rates")
	}
	if r.Metric == DesiredReplicas {
		v, bit := l.desired(r.DrainWithin)
		return v, bit, nil
	}
	v, bit := l.relative(r.DrainWithin)
	return v, bit, nil
}

// drainTime is how many seconds the queue takes to empty at the present drain.
func (l load) drainTime() (float64, Bit) {
	most := longestDrainTime.Seconds()
	switch {
	case l.depth == 0:
		return 0, BitNone
	case l.depth > l.drain*most:
		return most, BitSlowest
	}
	return l.depth / l.drain, BitNone
}

// wanted is how many replicas empty the backlog within a time, at the drain of
// one, beside what carries the arrivals. Where no replica's drain was seen yet
// one is wanted as soon as there is something to do, and no other number is
// guessed.
func (l load) wanted(within time.Duration) float64 {
	if l.depth == 0 && l.arrivals == 0 {
		return 0
	}
	if !(l.perReplica > 0) {
		return math.Max(1, float64(l.replicas))
	}
	return math.Ceil((l.depth/within.Seconds() + l.arrivals) / l.perReplica)
}

// desired is wanted, but no more than there are while the store is the limit.
func (l load) desired(within time.Duration) (float64, Bit) {
	n := l.wanted(within)
	if l.storeBound && n > float64(l.replicas) {
		return float64(l.replicas), BitStoreBound
	}
	return n, BitNone
}

// relative is what the number of replicas is to be multiplied by: above 1 grow,
// 1 hold, below 1 shrink. At OK it follows wanted; at SOFT it does not grow
// while the store is the limit; at HARD it then steps back. It never shrinks
// the fleet because of a level that is not OK for any other reason.
func (l load) relative(within time.Duration) (float64, Bit) {
	m := 1.0
	if l.replicas > 0 {
		m = l.wanted(within) / float64(l.replicas)
	} else if l.depth > 0 {
		m = mostGrowth
	}
	m = math.Min(m, mostGrowth)
	switch {
	case l.level == pressure.Hard && l.storeBound:
		return stepBack, BitStepBack
	case l.level == pressure.Soft && l.storeBound:
		return 1, BitHold
	case l.storeBound && m > 1:
		return 1, BitStoreBound
	case l.level > pressure.OK:
		return math.Max(1, m), BitNone
	}
	return m, BitNone
}
