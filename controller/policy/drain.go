package policy

import (
	"errors"
	"math"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// DrainName is the name by which settings choose Drain.
const DrainName = "drain"

// Drain lets in what the store takes out, and what brings the queue to its
// reference depth within about one dead time:
//
//	rate = drain + (reference - predicted depth) / horizon
//
// The measured drain is fed forward, so that a steady store leaves no offset.
// The predicted depth is the measured one with what came and went since it was
// measured, by the rates that were in force meanwhile; without it a change
// would be answered twice.
//
// While little waits the measured drain says only what came, not what the store
// could take. So the emptier the queue is below its reference, the more the law
// counts on the most that the store was seen to take, which is forgotten
// slowly; and an empty queue does not lower the rate, and raises it while the
// provider uses it up.
//
// Nothing but the base rate is set by hand. The reference is what the provider
// sends in a small part of the dead time, so that a store that speeds up does not
// starve before the gate opens, but no more than a part of the capacity, so
// that one that stalls does not overflow before it closes.
type Drain struct {
	tuning DrainTuning

	clock    time.Duration // sum of all Elapsed
	sampled  time.Duration // on clock, when the newest sample was taken
	history  history       // of the rates in force
	best     float64       // items per second that the store was seen to take lately
	demanded bool          // the provider used up what it was allowed
}

// DrainTuning holds what the standard scenario was tuned by. Headgate's users
// need not change it.
type DrainTuning struct {
	Reference    float64       // of what the base rate brings in a dead time; > 0
	MostOfQueue  float64       // of the capacity that the reference may be; in (0, 1)
	Horizon      float64       // in dead times; > 0
	ForgetAfter  time.Duration // time constant of the best known drain; > 0
	ProbeGrowth  float64       // by how much an empty queue raises a rate that is used up, in a dead time; >= 0
	LeastDeadSec float64       // seconds; a dead time below it counts as this
}

// DefaultDrainTuning returns the tuning of NewDrain.
func DefaultDrainTuning() DrainTuning {
	return DrainTuning{
		Reference: 0.075, MostOfQueue: 0.2, Horizon: 0.5,
		ForgetAfter: 5 * time.Minute, ProbeGrowth: 1, LeastDeadSec: 0.001,
	}
}

// NewDrain returns the law with its own tuning.
func NewDrain() *Drain { return &Drain{tuning: DefaultDrainTuning()} }

// NewTunedDrain returns the law with another tuning, for experiments. The
// error joins an *invalid.Value for each field that is out of its range.
func NewTunedDrain(t DrainTuning) (*Drain, error) {
	var errs []error
	positive := func(field string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			errs = append(errs, invalid.New(field, v, "a number > 0"))
		}
	}
	positive("reference", t.Reference)
	positive("horizon", t.Horizon)
	positive("forget_after", t.ForgetAfter.Seconds())
	positive("least_dead_time", t.LeastDeadSec)
	if !(t.MostOfQueue > 0 && t.MostOfQueue < 1) {
		errs = append(errs, invalid.New("most_of_queue", t.MostOfQueue, "a number in (0, 1)"))
	}
	if !(t.ProbeGrowth >= 0) || math.IsInf(t.ProbeGrowth, 0) {
		errs = append(errs, invalid.New("probe_growth", t.ProbeGrowth, "a number >= 0"))
	}
	return &Drain{tuning: t}, errors.Join(errs...)
}

// Reasons of Drain.
const (
	ReasonBalance Reason = "balance" // the drain is known, and the depth is brought to its reference
	ReasonProbe   Reason = "probe"   // the queue is empty, and the store may take more than was seen

	// ReasonDeadTime says that the dead time is not known yet, so the scale stays.
	ReasonDeadTime Reason = "dead_time"
)

// Needs tells what the law cannot do without.
func (d *Drain) Needs() Signals { return SignalCapacity | SignalArrivals | SignalDrain | SignalBase }

// ActsAt is the reference depth.
func (d *Drain) ActsAt(in Input) float64 {
	dead := max(in.DeadTime.Seconds(), d.tuning.LeastDeadSec)
	return min(d.tuning.Reference*orZero(in.BasePerSecond)*dead, d.tuning.MostOfQueue*orZero(in.Capacity))
}

// emptyFor is how much work an empty queue may hold: what the store takes in
// that many seconds.
const emptyFor = 0.25

// forgetBusy is the time constant, in dead times, in which the most that the
// store took is forgotten while there is enough for it to do.
const forgetBusy = 4

// usedUp is the part of the allowed rate from which on it counts as used up.
const usedUp = 0.9

// Decide implements Law.
func (d *Drain) Decide(in Input) Output {
	d.clock += max(0, in.Elapsed)
	base := in.BasePerSecond
	if !(base > 0 && base <= absurd) {
		return Output{Scale: 0, Reason: ReasonBalance}
	}
	allowed := base
	if in.InForce >= 0 && in.InForce <= 1 {
		allowed = max(base*in.InForce, orZero(in.FloorPerSecond))
	}
	d.history.add(d.clock-max(0, in.Elapsed), d.clock, allowed)

	depth, drain, arrivals := orZero(in.Depth), orZero(in.DrainPerSecond), orZero(in.ArrivalsPerSecond)
	age := min(max(0, in.Age), d.clock)
	dead := max(in.DeadTime.Seconds(), d.tuning.LeastDeadSec)
	if in.Fresh {
		d.learn(depth, drain, arrivals, d.clock-age, dead)
	}
	if in.DeadTime <= 0 {
		out := Output{Scale: min(1, allowed/base), Reason: ReasonDeadTime}
		out.Terms.Add("allowed_per_second", allowed)
		return out
	}
	reference := d.ActsAt(in)
	horizon := d.tuning.Horizon * dead

	came := d.history.brought(d.clock-age, d.clock)
	if !d.demanded {
		came = min(came, arrivals*age.Seconds())
	}
	predicted := min(orZero(in.Capacity), max(0, depth+came-d.takes(drain, depth, reference)*age.Seconds()))
	taken := d.takes(drain, predicted, reference)
	rate, reason := taken+(reference-predicted)/horizon, ReasonBalance
	if depth <= min(emptyFor*drain, reference/4) {
		probe := allowed
		if d.demanded {
			probe *= 1 + d.tuning.ProbeGrowth*max(0, in.Elapsed.Seconds())/dead
		}
		if probe > rate {
			rate, reason = probe, ReasonProbe
		}
	}
	out := Output{Scale: min(1, max(0, rate/base)), Reason: reason}
	out.Terms.Add("drain_per_second", drain)
	out.Terms.Add("taken_per_second", taken)
	out.Terms.Add("predicted_depth_items", predicted)
	out.Terms.Add("reference_items", reference)
	out.Terms.Add("horizon_seconds", horizon)
	out.Terms.Add("best_drain_per_second", d.best)
	out.Terms.Add("allowed_per_second", allowed)
	out.Terms.Add("base_per_second", base)
	return out
}

// takes is what the store takes out of a queue of that depth. The less waits,
// the less the measured drain says of the store, and the more counts what the
// store was seen to take.
func (d *Drain) takes(drain, depth, reference float64) float64 {
	if depth <= emptyFor*max(drain, d.best) {
		return max(drain, d.best)
	}
	if reference <= 0 {
		return drain
	}
	return drain + max(0, d.best-drain)*max(0, 1-depth/reference)
}

// learn takes in a new sample that was taken at a time.
func (d *Drain) learn(depth, drain, arrivals float64, at time.Duration, dead float64) {
	since := (at - d.sampled).Seconds()
	d.sampled = at
	if since <= 0 {
		return
	}
	d.demanded = arrivals*since >= usedUp*d.history.brought(at-time.Duration(since*float64(time.Second)), at)
	if drain >= d.best {
		d.best = drain // what was drained was taken, however little waited
		return
	}
	within := d.tuning.ForgetAfter.Seconds()
	if depth > emptyFor*d.best {
		within = forgetBusy * dead // there was enough to do, and it took no more
	}
	d.best += (drain - d.best) * -math.Expm1(-since/within)
}

// absurd is a number of items, or of items per second, that no pipeline has.
// With more, sums could leave the range of numbers.
const absurd = 1e15

// orZero is v, or 0 where it is no number >= 0 that a pipeline may have.
func orZero(v float64) float64 {
	if !(v >= 0 && v <= absurd) {
		return 0
	}
	return v
}

// history holds the latest rates in force, in spans that join one another. It
// has a fixed size: what is forgotten is long past any sample.
type history struct {
	spans [128]span
	n     int // spans in use
	first int // the oldest
}

type span struct {
	from, to  time.Duration
	perSecond float64
}

// add appends a span. One of the same rate is made longer instead.
func (h *history) add(from, to time.Duration, perSecond float64) {
	if h.n > 0 {
		last := &h.spans[(h.first+h.n-1)%len(h.spans)]
		if last.perSecond == perSecond {
			last.to = to
			return
		}
	}
	if h.n < len(h.spans) {
		h.n++
	} else {
		h.first = (h.first + 1) % len(h.spans)
	}
	h.spans[(h.first+h.n-1)%len(h.spans)] = span{from, to, perSecond}
}

// brought is how many items the rates brought at most from one time to another.
func (h *history) brought(from, to time.Duration) float64 {
	sum := 0.0
	for i := range h.n {
		s := h.spans[(h.first+h.n-1-i)%len(h.spans)]
		if s.to <= from {
			break
		}
		sum += s.perSecond * (min(s.to, to) - max(s.from, from)).Seconds()
	}
	return sum
}
