package scaler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/replicas"
	"github.com/headgate/headgate/scaler/trigger"
)

// load is what coordinators carry. Rates are items per second, NaN while
// unknown.
type load struct {
	depth, capacity float64 // items; capacity NaN while unknown
	level           pressure.Level
	levelKnown      bool
	hard            int // coordinators at HARD
	arrivals, drain float64
	writers         map[string]bool // instances that drain
}

// Why a trigger cannot be answered. Each is a reason of the series, too.
var (
	errNeverRead = errors.New("no signals were read from Prometheus yet")
	errAbsent    = errors.New("there is no usable depth of a coordinator that is asked for")
	errStale     = errors.New("the newest sample is older than the stale limit")
	errMissing   = errors.New("a signal that the metric is made of is missing")
)

// Levels of a coordinator that exports none of its own, by its utilisation:
// those that its write queue has by default.
const (
	softAbove = 0.5
	hardFrom  = 0.8
)

func newLoad(s Sighting) load {
	l := load{
		depth: s.Depth, capacity: s.Capacity, level: s.Level, levelKnown: s.HasLevel,
		arrivals: known(s.Arrivals), drain: known(s.Drain), writers: map[string]bool{},
	}
	if utilization := s.Depth / s.Capacity; !l.levelKnown && s.Capacity > 0 {
		l.levelKnown = true
		switch {
		case utilization >= hardFrom:
			l.level = pressure.Hard
		case utilization > softAbove:
			l.level = pressure.Soft
		}
	}
	if l.levelKnown && l.level == pressure.Hard {
		l.hard = 1
	}
	for _, instance := range s.Writers {
		l.writers[instance] = true
	}
	if s.Writers == nil { // nobody counts what is written: those that have a queue write
		for _, replica := range s.Replicas {
			l.writers[replica.Instance] = true
		}
	}
	return l
}

// together adds loads up to that of one queue. A process that writes for
// several coordinators is one.
func together(loads []load) load {
	sum := loads[0]
	sum.writers = maps.Clone(sum.writers)
	for _, l := range loads[1:] {
		sum.depth += l.depth
		sum.capacity += l.capacity
		sum.level = max(sum.level, l.level)
		sum.levelKnown = sum.levelKnown && l.levelKnown
		sum.hard += l.hard
		sum.arrivals += l.arrivals
		sum.drain += l.drain
		maps.Copy(sum.writers, l.writers)
	}
	return sum
}

func (l load) signals() replicas.Signals {
	return replicas.Signals{
		Depth: l.depth, ArrivalsPerSecond: l.arrivals, DrainPerSecond: l.drain,
		Replicas: len(l.writers), Level: l.level,
	}
}

// value is the number that answers for a load of its own, for the metrics that
// need no memory.
func (l load) value(t *trigger.Trigger) (float64, error) {
	switch t.Metric {
	case trigger.QueueDepth:
		return l.depth, nil
	case trigger.HardPressure:
		if !l.levelKnown {
			return 0, missing(t, "the level, or the capacity")
		}
		return float64(l.hard), nil
	case trigger.Utilization:
		if !(l.capacity > 0) {
			return 0, missing(t, "the capacity")
		}
		return l.depth / l.capacity, nil
	default: // DrainTime
		switch {
		case l.depth == 0:
			return 0, nil
		case math.IsNaN(l.drain):
			return 0, missing(t, "the drain: two samples of what every replica has written")
		}
		return min(l.depth/l.drain, t.Longest), nil
	}
}

func missing(t *trigger.Trigger, what string) error {
	return fmt.Errorf("%w: %s needs %s", errMissing, t.Metric, what)
}

// choice is what a view has of the coordinators that a trigger asks for.
type choice struct {
	ids   []string // sorted
	loads []load   // as ids
	asOf  time.Time
}

// chooser picks a trigger's coordinators out of one view after the other.
type chooser struct {
	seen map[string]time.Time // when each that a pattern or a selector chose was there
}

// choose returns the loads that a trigger asks for. One that is named and is
// absent makes the trigger unanswerable, for a part of a sum would be too
// small; so does one that a pattern or a selector chose less than stale ago.
func (c *chooser) choose(view *View, t *trigger.Trigger, now time.Time, stale time.Duration) (choice, error) {
	if view.ReadAt.IsZero() && len(view.Coordinators) == 0 {
		return choice{}, errNeverRead
	}
	for _, id := range t.Named() {
		if _, found := view.Coordinators[id]; !found {
			return choice{}, fmt.Errorf("%w: %q", errAbsent, id)
		}
	}
	var chosen choice
	for _, id := range slices.Sorted(maps.Keys(view.Coordinators)) {
		s := view.Coordinators[id]
		if !t.Chooses(id, s.Labels) {
			continue
		}
		chosen.ids = append(chosen.ids, id)
		chosen.loads = append(chosen.loads, newLoad(s))
		if chosen.asOf.IsZero() || s.AsOf.Before(chosen.asOf) {
			chosen.asOf = s.AsOf
		}
		if c.seen == nil {
			c.seen = map[string]time.Time{}
		}
		c.seen[id] = now
	}
	if len(chosen.ids) == 0 {
		return choice{}, fmt.Errorf("%w: none is chosen by %s", errAbsent, t.Chosen())
	}
	for _, id := range slices.Sorted(maps.Keys(c.seen)) {
		if age := now.Sub(c.seen[id]); age > stale {
			delete(c.seen, id)
		} else if !slices.Contains(chosen.ids, id) {
			return choice{}, fmt.Errorf("%w: %q was there %v ago", errAbsent, id, age.Round(time.Millisecond))
		}
	}
	return chosen, nil
}
