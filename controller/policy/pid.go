package policy

import (
	"errors"
	"math"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// PIDName is the name by which settings choose PID.
const PIDName = "pid"

// PID holds the depth at a set point. The plant is an integrator, base items
// per second for a scale of 1, with a dead time L; the SIMC rules (Skogestad,
// Journal of Process Control 13, 2003) give for it a gain of 0.5/(base L) and
// an integral time of 8 L.
//
// What the scale could not follow, because it ended at 0 or 1, because a guard
// held it or because another owner's scale was lower, is taken back out of the
// integral (back-calculation), so it does not wind up. The first decision
// starts from the scale in force, and so does the first with another gain,
// because the base rate or the dead time is known better, from what came before
// it: the scale does not jump. While the dead time is not known at all it stays.
type PID struct {
	tuning   PIDTuning
	started  bool
	integral float64       // in scale
	wanted   float64       // the last sum, before it was bounded
	gain     float64       // at the last decision
	off      float64       // items from the set point, at the last decision
	depth    float64       // at the newest sample
	since    time.Duration // that sample
	slope    float64       // items per second, smoothed
}

// PIDTuning are the settings of PID.
type PIDTuning struct {
	Gain         float64       // of 1/(base L); > 0. Stable below pi/2, without overshoot up to 1/e
	IntegralTime float64       // in dead times; > 0
	Derivative   float64       // derivative time in dead times; >= 0, 0 for PI
	SetPoint     float64       // of the mark at which SOFT begins; in (0, 1]
	AtLeast      time.Duration // a dead time below it counts as this; > 0
}

// DefaultPIDTuning is SIMC's for an integrator, with no derivative, around half
// of the mark at which SOFT begins.
func DefaultPIDTuning() PIDTuning {
	return PIDTuning{Gain: 0.5, IntegralTime: 8, SetPoint: 0.5, AtLeast: time.Millisecond}
}

// NewPID returns the law. The error joins an *invalid.Value for each field that
// is out of its range.
func NewPID(t PIDTuning) (*PID, error) {
	var errs []error
	check := func(ok bool, field string, v float64, want string) {
		if !ok || math.IsInf(v, 0) {
			errs = append(errs, invalid.New(field, v, want))
		}
	}
	check(t.Gain > 0, "pid_gain", t.Gain, "a number > 0")
	check(t.IntegralTime > 0, "pid_integral_time", t.IntegralTime, "a number of dead times > 0")
	check(t.Derivative >= 0, "pid_derivative", t.Derivative, "a number of dead times >= 0")
	check(t.SetPoint > 0 && t.SetPoint <= 1, "pid_set_point", t.SetPoint, "a number in (0, 1]")
	if t.AtLeast <= 0 {
		errs = append(errs, invalid.New("at_least", t.AtLeast, "a duration > 0"))
	}
	return &PID{tuning: t}, errors.Join(errs...)
}

// ReasonError says that the distance from the set point chose the scale.
const ReasonError Reason = "error"

// Needs tells what the law cannot do without.
func (p *PID) Needs() Signals { return SignalBase }

// ActsAt is the set point.
func (p *PID) ActsAt(in Input) float64 { return p.tuning.SetPoint * in.Thresholds.SoftEnter }

// Decide implements Law.
func (p *PID) Decide(in Input) Output {
	if !(in.BasePerSecond > 0) || math.IsInf(in.BasePerSecond, 0) {
		return Output{Reason: ReasonError}
	}
	dead := max(in.DeadTime, p.tuning.AtLeast).Seconds()
	gain := p.tuning.Gain / (in.BasePerSecond * dead)
	setPoint := p.ActsAt(in)
	off := setPoint - in.Depth
	elapsed := max(0, in.Elapsed).Seconds()
	inForce := min(1, max(0, p.wanted))
	if !p.started {
		inForce = 1
	}
	if in.InForce >= 0 && in.InForce <= 1 {
		inForce = in.InForce
	}
	if in.DeadTime <= 0 {
		out := Output{Scale: inForce, Reason: ReasonDeadTime}
		out.Terms.Add("scale_before", inForce)
		return out
	}
	integralTime := p.tuning.IntegralTime * dead

	p.sample(in, dead)
	proportional := gain * off
	derivative := 0 - gain*p.tuning.Derivative*dead*p.slope // 0 - 0 is 0, -0 would be shown
	if p.started {
		p.integral += (p.gain - gain) * p.off
		p.integral += gain * off * elapsed / integralTime
		p.integral += (inForce - p.wanted) * min(1, elapsed/integralTime)
	} else {
		p.integral = inForce - proportional - derivative
		p.started = true
	}
	p.wanted, p.gain, p.off = proportional+p.integral+derivative, gain, off

	if math.IsNaN(p.wanted) || math.IsInf(p.wanted, 0) { // absurd rates or times
		*p = PID{tuning: p.tuning}
	}
	out := Output{Scale: min(1, max(0, p.wanted)), Reason: ReasonError}
	out.Terms.Add("set_point_items", setPoint)
	out.Terms.Add("proportional", proportional)
	out.Terms.Add("integral", p.integral)
	out.Terms.Add("derivative", derivative)
	return out
}

// sample follows the slope of the depth from one sample to the next, smoothed
// over a tenth of the derivative time as is usual.
func (p *PID) sample(in Input, dead float64) {
	p.since += max(0, in.Elapsed)
	if !in.Fresh {
		return
	}
	if span := p.since.Seconds(); p.started && span > 0 {
		weight := 1.0
		if filter := p.tuning.Derivative * dead / 10; filter > 0 {
			weight = -math.Expm1(-span / filter)
		}
		p.slope += weight * ((in.Depth-p.depth)/span - p.slope)
	}
	p.depth, p.since = in.Depth, 0
}
