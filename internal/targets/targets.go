// Package targets makes the controller's targets of their settings, alike for
// the controller and for the tools that foresee what it will do.
package targets

import (
	"errors"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/fleet"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/controller/shard"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

// New makes a target of its settings, whose provider is throttled through the
// gate. Each call makes a law of its own. The error names every variable that
// is wrong.
func New(t settings.Target, gate controller.Gate) (controller.Target, error) {
	names, namesErr := wiring.Names(t.Series)
	law, lawErr := Law(t)
	return controller.Target{
		Name: t.ID(), CoordinatorIDs: t.CoordinatorIDs, Names: names,
		Combine: controller.Combine(t.Combine), Weight: t.Weight,
		Providers: []controller.Provider{{
			Name: t.Provider, URL: fleet.Name(t.CoordinatorURL, t.CoordinatorIDs), Gate: gate, LawName: t.Policy, Law: law,
			DeadTime: t.Law.DeadTime, Guard: guard(t),
		}},
		Capacity: t.QueueCapacity, SoftEnter: t.SoftEnter, SoftExit: t.SoftExit, HardEnter: t.HardEnter, HardExit: t.HardExit,
		For: t.LevelFor, CoolDown: t.CoolDown,
		Lease: t.Lease, StaleAfter: t.StaleAfter, FailMode: coordinator.FailMode(t.FailMode), SafeScale: t.Scales.Soft,
		Disabled: !t.Enabled, DryRun: t.DryRun,
	}, errors.Join(namesErr, lawErr)
}

// Shard is the part of the targets that settings leave to this controller.
func Shard(s settings.Sharding) shard.Shard { return shard.Shard{Index: max(0, s.Index), Of: s.Of} }

// ShardOf is the index of the shard to which a target falls among so many. All
// targets that throttle the same provider fall to the same one.
func ShardOf(t settings.Target, of int) int {
	return shard.At(fleet.Name(t.CoordinatorURL, t.CoordinatorIDs), t.Provider, of)
}

// Of returns those of the targets that fall to a shard, in their order.
func Of(s shard.Shard, all []settings.Target) []settings.Target {
	if s.Only() {
		return all
	}
	var own []settings.Target
	for _, t := range all {
		if ShardOf(t, s.Of) == s.Index {
			own = append(own, t)
		}
	}
	return own
}

// Law makes the law that the settings name.
func Law(t settings.Target) (policy.Law, error) {
	s := policy.Settings{
		OK: t.Scales.OK, Soft: t.Scales.Soft, Hard: t.Scales.Hard,
		Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning(),
	}
	s.Exponential.Soft, s.Exponential.Hard = t.Law.BackoffSoft, t.Law.BackoffHard
	s.Exponential.RecoveryPerSecond = t.Law.RecoveryPerSecond
	s.PID.Gain, s.PID.IntegralTime = t.Law.PIDGain, t.Law.PIDIntegralTime
	s.PID.Derivative, s.PID.SetPoint = t.Law.PIDDerivative, t.Law.PIDSetPoint
	return policy.New(t.Policy, s)
}

func guard(t settings.Target) controller.Guard {
	return controller.Guard{
		HardCap: hardCap(t), Floor: t.Guard.MinScale, RisePerSecond: t.Guard.RisePerSecond,
		ResumeWithin: t.Guard.ResumeWithin, ReversalsPerHour: t.Guard.ReversalsPerHour,
	}
}

// hardCap is the most scale at HARD.
func hardCap(t settings.Target) float64 {
	switch {
	case t.Guard.HardCap >= 0:
		return t.Guard.HardCap
	case t.Policy == policy.PIDName || t.Policy == policy.DrainName:
		return 1
	}
	return t.Scales.Hard
}
