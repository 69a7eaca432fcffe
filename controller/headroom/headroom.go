// Package headroom tells, by arithmetic alone, whether settings can keep a
// queue from overflowing and its store from starving.
//
// A controller sees the queue late, by the dead time L. What it does about a
// depth comes into force only when base x L more items may have come, whatever
// its law. So no law prevents an overflow unless
//
//	capacity - depth at which it acts >= (base - drain) x L
//
// and none keeps a store busy that speeds up unless
//
//	depth at which it acts >= (drain afterwards - rate before) x L
//
// Everything here is pure and may be used concurrently.
package headroom

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Case is one provider that a law throttles for one queue.
type Case struct {
	Capacity       float64 // items that the queue holds at most; > 0
	BasePerSecond  float64 // items per second that the provider sends unthrottled; > 0
	FloorPerSecond float64 // items per second below which it is never throttled; >= 0

	// The least and the most items per second that the store takes while
	// something waits; 0 <= least <= most.
	LeastDrainPerSecond, MostDrainPerSecond float64

	// DeadTime is that from a change in the queue until the changed rate reaches
	// the provider; > 0.
	DeadTime   time.Duration
	Thresholds pressure.Thresholds // in items
	Law        policy.Law          // asked only for the depth that it acts at
}

func (c Case) validate() error {
	var errs []error
	check := func(ok bool, field string, v any, want string) {
		if !ok {
			errs = append(errs, invalid.New(field, v, want))
		}
	}
	finite := func(v float64) bool { return !math.IsInf(v, 0) }
	check(c.Capacity > 0 && finite(c.Capacity), "queue_capacity", c.Capacity, "items > 0")
	check(c.BasePerSecond > 0 && finite(c.BasePerSecond), "base_rate", c.BasePerSecond, "items per second > 0")
	check(c.FloorPerSecond >= 0 && finite(c.FloorPerSecond), "floor", c.FloorPerSecond, "items per second >= 0")
	check(c.LeastDrainPerSecond >= 0 && finite(c.LeastDrainPerSecond), "drain_least", c.LeastDrainPerSecond, "items per second >= 0")
	check(c.MostDrainPerSecond >= c.LeastDrainPerSecond && finite(c.MostDrainPerSecond), "drain_most", c.MostDrainPerSecond,
		fmt.Sprintf("items per second, at least the least drain, which is %g", c.LeastDrainPerSecond))
	check(c.DeadTime > 0, "dead_time", c.DeadTime, "a duration > 0")
	return errors.Join(errs...)
}

// Kind is what a finding is about. It is one of a closed set.
type Kind string

const (
	KindOverflow Kind = "overflow"     // the queue can be kept from being full
	KindCloses   Kind = "closes"       // the rate can fall to what the store takes
	KindStarving Kind = "starving"     // a store that speeds up is kept busy
	KindSoft     Kind = "soft_skipped" // SOFT comes into force before HARD is reached
	KindCycle    Kind = "cycle"        // the scale need not swing for ever
)

// Finding is one thing that holds or does not.
type Finding struct {
	Kind  Kind `json:"kind"`
	Holds bool `json:"holds"`

	// Severe is true where items would be lost, or refused, if it does not hold.
	// All else costs only throughput or calm.
	Severe bool `json:"severe"`

	// Arithmetic says it in a sentence with every number that it is made of.
	Arithmetic string `json:"arithmetic"`
}

// Report is what Check found.
type Report struct {
	// Items is the room that is left in the queue at the worst, in items; below 0
	// is by how much it overflows.
	Items    float64   `json:"headroom_items"`
	Findings []Finding `json:"findings"`
}

// Holds reports whether nothing severe was found.
func (r Report) Holds() bool {
	for _, f := range r.Findings {
		if f.Severe && !f.Holds {
			return false
		}
	}
	return true
}

// Check does the arithmetic. The error joins an *invalid.Value for each field
// of the case that is out of its range.
func Check(c Case) (Report, error) {
	if err := c.validate(); err != nil {
		return Report{}, err
	}
	if step, ok := c.Law.(*policy.Step); ok {
		return c.checkStep(step), nil
	}
	return c.checkAny(), nil
}

// checkAny holds any law to the bounds that none beats.
func (c Case) checkAny() Report {
	acts := policy.ActsAt(c.Law, policy.Input{
		Capacity: c.Capacity, Thresholds: c.Thresholds, BasePerSecond: c.BasePerSecond, DeadTime: c.DeadTime,
	})
	seconds := c.DeadTime.Seconds()
	rise := max(0, c.BasePerSecond-c.LeastDrainPerSecond) * seconds
	var r Report
	r.Items = c.Capacity - acts - rise
	r.add(KindOverflow, r.Items >= 0, true,
		"from the depth of %.0f items, at which the law acts, the queue rises by (%.0f/s - %.0f/s) x %.3g s = %.0f items before that is felt: to %.0f of %.0f%s",
		acts, c.BasePerSecond, c.LeastDrainPerSecond, seconds, rise, acts+rise, c.Capacity, c.room(r.Items))
	c.closes(&r, c.FloorPerSecond, "at a scale of 0")
	c.starving(&r, acts, c.LeastDrainPerSecond)
	switch law := c.Law.(type) {
	case *policy.Linear:
		// A proportional law on an integrator with dead time L and loop gain K is
		// stable for K x L < pi/2.
		gain := c.BasePerSecond * law.Slope(c.Thresholds)
		r.add(KindCycle, gain*seconds < math.Pi/2, false,
			"each item more between the marks lowers the rate by %.3g/s, and %.3g/s x %.3g s = %.3g: the scale %s where that is at least 1.57",
			gain, gain, seconds, gain*seconds, swings(gain*seconds >= math.Pi/2))
	case *policy.Exponential:
		r.add(KindCycle, false, false, "the law takes away in steps and adds until the level is SOFT again: the scale swings for ever, by design")
	}
	return r
}

func swings(yes bool) string {
	if yes {
		return "swings"
	}
	return "would swing"
}

// checkStep follows the worst that can happen to the step law: the store falls
// to its least while the queue is at the mark at which SOFT begins.
func (c Case) checkStep(law *policy.Step) Report {
	rate := func(level pressure.Level) float64 { return max(c.FloorPerSecond, c.BasePerSecond*law.Scale(level)) }
	seconds := c.DeadTime.Seconds()
	ok := max(0, rate(pressure.OK)-c.LeastDrainPerSecond)
	soft := max(0, rate(pressure.Soft)-c.LeastDrainPerSecond)
	between := c.Thresholds.HardEnter - c.Thresholds.SoftEnter
	atSoft := c.Thresholds.SoftEnter + ok*seconds // when SOFT is felt
	peak := atSoft
	skipped := ok*seconds > between
	switch {
	case skipped && ok > 0: // HARD is reached before, and felt a part of the dead time after SOFT
		peak += soft * between / ok
	case soft > 0:
		peak = c.Thresholds.HardEnter + soft*seconds
	}
	var r Report
	r.Items = c.Capacity - peak
	how := fmt.Sprintf("SOFT is felt (%.0f/s - %.0f/s) x %.3g s after %.0f items, at %.0f",
		rate(pressure.OK), c.LeastDrainPerSecond, seconds, c.Thresholds.SoftEnter, atSoft)
	if peak > atSoft {
		how += fmt.Sprintf("; at %.0f/s the queue goes on to rise until HARD is felt, at %.0f", rate(pressure.Soft), peak)
	}
	r.add(KindOverflow, r.Items >= 0, true, "%s, of %.0f%s", how, c.Capacity, c.room(r.Items))
	c.closes(&r, rate(pressure.Hard), "at HARD")
	r.add(KindSoft, !skipped, false,
		"between the marks lie %.0f items, and in %.3g s come (%.0f/s - %.0f/s) x %.3g s = %.0f: SOFT is %s before HARD is reached",
		between, seconds, rate(pressure.OK), c.LeastDrainPerSecond, seconds, ok*seconds,
		map[bool]string{true: "not felt", false: "felt"}[skipped])
	c.starving(&r, c.Thresholds.SoftExit, rate(pressure.Soft))
	least, most := c.LeastDrainPerSecond, c.MostDrainPerSecond
	settles := func(drain float64) bool {
		return rate(pressure.OK) <= drain || rate(pressure.Soft) == drain || rate(pressure.Hard) == drain
	}
	r.add(KindCycle, settles(least) && settles(most), false,
		"the levels let in %.0f/s, %.0f/s and %.0f/s, and the store takes %.0f/s to %.0f/s: where it takes none of them the scale swings, in at least 4 x %.3g s = %.3g s",
		rate(pressure.OK), rate(pressure.Soft), rate(pressure.Hard), least, most, seconds, 4*seconds)
	return r
}

// closes says whether what is let in at the least is no more than the store
// takes at the least.
func (c Case) closes(r *Report, least float64, when string) {
	end := "so the queue falls"
	if least > c.LeastDrainPerSecond {
		end = fmt.Sprintf("so a queue with %.0f items of room is full after %.0f s of it",
			max(0, r.Items), max(0, r.Items)/(least-c.LeastDrainPerSecond))
	}
	// A trickle fills a queue so slowly that somebody hears of it before.
	r.add(KindCloses, least <= c.LeastDrainPerSecond, least > trickle*c.BasePerSecond,
		"%s %.3g/s still come in, and the store takes %.3g/s at the least, %s", when, least, c.LeastDrainPerSecond, end)
}

// trickle is the part of the base rate below which a floor is harmless.
const trickle = 0.01

// starving says whether a store that speeds up from its least to its most has
// enough to do until the gate has opened.
func (c Case) starving(r *Report, waiting, rate float64) {
	most := min(c.MostDrainPerSecond, c.BasePerSecond) // beyond that it starves without any control
	needs := max(0, most-rate) * c.DeadTime.Seconds()
	idle := 0.0
	if most > rate && waiting < needs {
		idle = (needs - waiting) / most
	}
	end := "enough"
	if idle > 0 {
		end = fmt.Sprintf("so it waits for work for up to %.3g s", idle)
	}
	r.add(KindStarving, idle == 0, false,
		"a store that speeds up to %.0f/s takes (%.0f/s - %.0f/s) x %.3g s = %.0f items more than come before the gate opens; %.0f wait, %s",
		most, most, rate, c.DeadTime.Seconds(), needs, waiting, end)
}

// room says what is left of the queue.
func (c Case) room(items float64) string {
	if items >= 0 {
		return fmt.Sprintf(", with %.0f to spare", items)
	}
	return fmt.Sprintf(": %.0f too many", -items)
}

func (r *Report) add(kind Kind, holds, severe bool, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{kind, holds, severe, fmt.Sprintf(format, args...)})
}
