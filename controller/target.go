package controller

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// Target is one line of control: the coordinators that are observed and the
// providers that are throttled for them.
type Target struct {
	Name           string   // unique among the targets
	CoordinatorIDs []string // at least one; the worst of them counts
	Providers      []Provider
	Combine        Combine       // with other targets that throttle the same provider; equal in all of them
	Weight         float64       // of CombineWeights, > 0
	Names          metrics.Names // under which the coordinators' series are read

	// Capacity is the most items that the queues may hold, all replicas of a
	// coordinator together, for those that do not export it; 0 is to read it.
	Capacity                                 float64
	SoftEnter, SoftExit, HardEnter, HardExit pressure.Mark
	For, CoolDown                            time.Duration // as pressure.Thresholds has them

	Lease      time.Duration        // how long a scale lasts without renewal
	StaleAfter time.Duration        // age at which a sample is no longer decided on, > 0
	FailMode   coordinator.FailMode // where the signals are gone for longer
	SafeScale  float64              // the scale of coordinator.FailSafe, in [0, 1]

	Disabled bool // neither decided nor applied
	DryRun   bool // decided and explained, not applied
}

// Provider is a rate that a target throttles, and by what law.
type Provider struct {
	Name string // as its coordinator knows it
	URL  string // of the coordinator, to be shown; Gate has its own
	Gate Gate

	LawName string     // as settings choose it
	Law     policy.Law // of this provider alone
	Guard   Guard

	// DeadTime is that from a change in the queue until the changed rate reaches
	// the provider; 0 is to measure it.
	DeadTime time.Duration
}

// Validate reports everything that is wrong with the target by itself,
// joined; every *invalid.Value's field starts with the target's name.
func (t Target) Validate() error {
	var errs []error
	report := func(err error) {
		for _, v := range invalid.All(err) {
			named := *v
			named.Field = fmt.Sprintf("target %q: %s", t.Name, v.Field)
			errs = append(errs, &named)
		}
	}
	if t.Name == "" {
		report(invalid.Missing("name", "a name"))
	}
	if len(t.CoordinatorIDs) == 0 {
		report(invalid.Missing("coordinator_ids", "the name of at least one coordinator"))
	}
	if len(t.Providers) == 0 {
		report(invalid.Missing("provider", "at least one provider"))
	}
	if t.Lease <= 0 {
		report(invalid.New("lease", t.Lease, "a duration > 0"))
	}
	if t.StaleAfter <= 0 {
		report(invalid.New("stale_after", t.StaleAfter, "a duration > 0"))
	}
	switch t.FailMode {
	case coordinator.FailHold, coordinator.FailOpen, coordinator.FailSafe, coordinator.FailClosed:
	default:
		report(invalid.New("fail_mode", string(t.FailMode), "hold, open, safe or closed"))
	}
	if !(t.SafeScale >= 0 && t.SafeScale <= 1) {
		report(invalid.New("scale_soft", t.SafeScale, "a number in [0, 1]"))
	}
	if !(t.Capacity >= 0) || math.IsInf(t.Capacity, 0) {
		report(invalid.New("queue_capacity", t.Capacity, "items >= 0"))
	}
	report(t.validateCombine())
	report(t.Names.Validate())
	report(t.validateNeeds())
	if !t.relative() || t.Capacity > 0 {
		report(t.thresholds(t.Capacity).Validate())
	}
	return errors.Join(errs...)
}

// validateNeeds reports signals that the marks or the laws need and that the
// settings say nobody exports.
func (t Target) validateNeeds() error {
	var errs []error
	if t.relative() && t.Capacity == 0 && t.Names.Capacity == "" {
		errs = append(errs, invalid.Missing("series_capacity",
			"the name of the capacity's series, or a queue_capacity, or all marks in items: a mark in percent needs the capacity"))
	}
	for _, p := range t.Providers {
		for _, need := range []struct {
			signal policy.Signals
			field  string
			has    bool
		}{
			{policy.SignalCapacity, "series_capacity", t.Capacity > 0 || t.Names.Capacity != ""},
			{policy.SignalArrivals, "series_accepted", t.Names.Accepted != ""},
			{policy.SignalDrain, "series_written", t.Names.Written != ""},
		} {
			if policy.Needs(p.Law).Has(need.signal) && !need.has {
				errs = append(errs, invalid.Missing(need.field,
					fmt.Sprintf("the name of a series: the law %s of provider %q needs it", p.LawName, p.Name)))
			}
		}
	}
	return errors.Join(errs...)
}

// relative reports whether a mark is a share of the capacity.
func (t Target) relative() bool {
	return t.SoftEnter.Percent || t.SoftExit.Percent || t.HardEnter.Percent || t.HardExit.Percent
}

func (t Target) thresholds(capacity float64) pressure.Thresholds {
	return pressure.Thresholds{
		SoftEnter: t.SoftEnter.Items(capacity), SoftExit: t.SoftExit.Items(capacity),
		HardEnter: t.HardEnter.Items(capacity), HardExit: t.HardExit.Items(capacity),
		For: t.For, CoolDown: t.CoolDown,
	}
}

// failScale is the scale of the fail mode, and the level that stands for it.
// A mode that holds has none where there was no last one, which is NaN.
func (t Target) failScale(last float64, lastLevel pressure.Level) (float64, pressure.Level) {
	switch t.FailMode {
	case coordinator.FailOpen:
		return 1, pressure.OK
	case coordinator.FailClosed:
		return 0, pressure.Hard
	case coordinator.FailHold:
		return last, lastLevel
	default:
		return t.SafeScale, pressure.Soft
	}
}

// validateAll checks the targets, each and against each other.
func validateAll(targets []Target) error {
	var errs []error
	names := map[string]bool{}
	read := map[string]metrics.Names{}
	throttled := map[outletKey]Target{}
	for _, t := range targets {
		errs = append(errs, t.Validate())
		if names[t.Name] {
			errs = append(errs, invalid.New("target", t.Name, "a name that no other target has"))
		}
		names[t.Name] = true
		for _, id := range t.CoordinatorIDs {
			if other, has := read[id]; has && other != t.Names {
				errs = append(errs, invalid.New(fmt.Sprintf("target %q: coordinator_ids", t.Name), id,
					"a coordinator that no other target reads under other names"))
			}
			read[id] = t.Names
		}
		for _, p := range t.Providers {
			other, has := throttled[p.key()]
			if has && other.Combine != t.Combine && !t.Disabled {
				errs = append(errs, invalid.New(fmt.Sprintf("target %q: combine", t.Name), string(t.Combine),
					fmt.Sprintf("%s, as target %q has it, which throttles provider %q too", other.Combine, other.Name, p.Name)))
			}
			if !has && !t.Disabled {
				throttled[p.key()] = t
			}
		}
	}
	return errors.Join(errs...)
}
