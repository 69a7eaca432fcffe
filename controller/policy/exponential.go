package policy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// ExponentialName is the name by which settings choose Exponential.
const ExponentialName = "exponential"

// Exponential multiplies the scale down while the level is SOFT or HARD, and
// adds to it while it is OK. In each dead time the scale falls by the level's
// factor, so that a change is seen before the next one is made, however often
// the law is asked.
type Exponential struct {
	tuning ExponentialTuning
	scale  float64 // NaN before the first decision
}

// ExponentialTuning are the settings of Exponential.
type ExponentialTuning struct {
	Soft, Hard        float64       // factors on the scale in a dead time, in (0, 1); Hard at most Soft
	RecoveryPerSecond float64       // what is added to the scale while OK; > 0
	Least             float64       // the scale never falls below it, in (0, 1): 0 times anything is 0
	AtLeastEvery      time.Duration // a dead time below it counts as this; > 0
}

// DefaultExponentialTuning halves at HARD, takes a tenth at SOFT, and opens
// fully in 100 s.
func DefaultExponentialTuning() ExponentialTuning {
	return ExponentialTuning{Soft: 0.9, Hard: 0.5, RecoveryPerSecond: 0.01, Least: 0.01, AtLeastEvery: time.Millisecond}
}

// NewExponential returns the law. The error joins an *invalid.Value for each
// field that is out of its range.
func NewExponential(t ExponentialTuning) (*Exponential, error) {
	var errs []error
	share := func(field string, v float64) {
		if !(v > 0 && v < 1) {
			errs = append(errs, invalid.New(field, v, "a number in (0, 1)"))
		}
	}
	share("backoff_soft", t.Soft)
	share("backoff_hard", t.Hard)
	share("least_scale", t.Least)
	if t.Hard > t.Soft {
		errs = append(errs, invalid.New("backoff_hard", t.Hard, fmt.Sprintf("at most backoff_soft, which is %v", t.Soft)))
	}
	if !(t.RecoveryPerSecond > 0) || math.IsInf(t.RecoveryPerSecond, 0) {
		errs = append(errs, invalid.New("recovery_per_second", t.RecoveryPerSecond, "a number > 0"))
	}
	if t.AtLeastEvery <= 0 {
		errs = append(errs, invalid.New("at_least_every", t.AtLeastEvery, "a duration > 0"))
	}
	return &Exponential{tuning: t, scale: math.NaN()}, errors.Join(errs...)
}

// Reasons of Exponential.
const (
	ReasonBackOff Reason = "back_off"
	ReasonRecover Reason = "recover"
)

// Decide implements Law.
func (e *Exponential) Decide(in Input) Output {
	before := e.scale
	switch {
	case !math.IsNaN(before):
	case in.InForce >= 0 && in.InForce <= 1:
		before = in.InForce
	default:
		before = 1
	}
	out := Output{Reason: ReasonBackOff}
	factor, added := 1.0, 0.0
	switch {
	case in.Level == pressure.OK:
		out.Reason = ReasonRecover
		added = e.tuning.RecoveryPerSecond * max(0, in.Elapsed).Seconds()
	default:
		perDead := e.tuning.Soft
		if in.Level >= pressure.Hard {
			perDead = e.tuning.Hard
		}
		dead := max(in.DeadTime, e.tuning.AtLeastEvery)
		factor = math.Pow(perDead, max(0, in.Elapsed).Seconds()/dead.Seconds())
	}
	e.scale = min(1, max(e.tuning.Least, before*factor+added))
	out.Scale = e.scale
	out.Terms.Add("scale_before", before)
	out.Terms.Add("factor", factor)
	out.Terms.Add("added", added)
	return out
}
