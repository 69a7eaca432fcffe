package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/coordinator"
)

// leaseOf is what a controller last put on a replica, with no owner where none
// ever did, and whether its lease is still in force.
func leaseOf(s coordinator.State) (given coordinator.Scale, held bool) {
	for _, scale := range s.Scales {
		if scale.Owner == coordinator.OwnerController {
			return scale, scale.Holder != "" && expiry(scale) > 0
		}
	}
	return coordinator.Scale{}, false
}

// expiry is how long a scale lasts, 0 where its time is over or has no end.
func expiry(s coordinator.Scale) time.Duration {
	if s.ExpiresInSeconds == nil {
		return 0
	}
	return time.Duration(*s.ExpiresInSeconds * float64(time.Second))
}

// shareOf is the share that a controller gave a replica, 0 where none ever did.
func shareOf(s coordinator.State) float64 {
	if given, _ := leaseOf(s); given.Owner == "" || s.Share <= leastShare {
		return 0
	}
	return s.Share
}

// leftBy is the most of a replica's share that its fail mode leaves in force.
func leftBy(s coordinator.State) float64 {
	switch s.FailMode {
	case coordinator.FailClosed:
		return 0
	case coordinator.FailSafe:
		return s.SafeScale
	}
	return 1
}

// together is the state of several replicas as if they were one. Rates, shares
// and counts are sums; the scale is the mean by share, and an owner's the lowest
// of those that it has put on any; the level, the breaker and the cool-downs are
// the worst. The base rate is that of the budget which they share. Those that draw
// from a shared budget on a server have its rate and its burst once, together.
func together(states map[string]coordinator.State) coordinator.State {
	var all coordinator.State
	scales := map[coordinator.Owner]coordinator.Scale{}
	coolDowns := map[string]coordinator.CoolDown{}
	weighted, same := 0.0, true
	drawn, drawnBurst := 0.0, 0
	for i, address := range slices.Sorted(maps.Keys(states)) {
		s := states[address]
		if i == 0 {
			all.Provider, all.FailMode, all.SafeScale, all.Scale, all.Breaker = s.Provider, s.FailMode, s.SafeScale, s.Scale, s.Breaker
			all.Breaker.Failures = 0
		}
		same = same && s.Scale == all.Scale
		weighted += s.Share * s.Scale
		all.BasePerSecond = max(all.BasePerSecond, s.BasePerSecond)
		if s.Shared != nil && s.Shared.State == coordinator.SharedConnected {
			drawn, drawnBurst = max(drawn, s.EffectivePerSecond), max(drawnBurst, s.Burst)
		} else {
			all.EffectivePerSecond += s.EffectivePerSecond
			all.Burst += s.Burst
		}
		all.FloorPerSecond += s.FloorPerSecond
		all.Share += s.Share
		all.Level = max(all.Level, s.Level)
		all.Waiters += s.Waiters
		all.Granted += s.Granted
		all.Version += s.Version
		all.Breaker = worse(all.Breaker, s.Breaker)
		for _, scale := range s.Scales {
			if lowest, found := scales[scale.Owner]; !found || scale.Scale < lowest.Scale {
				scales[scale.Owner] = scale
			}
		}
		for _, c := range s.CoolDowns {
			if c.RemainingSeconds > coolDowns[c.Scope].RemainingSeconds {
				coolDowns[c.Scope] = c
			}
		}
	}
	all.EffectivePerSecond += drawn
	all.Burst += drawnBurst
	if !same {
		all.Scale = weighted / all.Share
	}
	all.Scales = slices.SortedFunc(maps.Values(scales), func(a, b coordinator.Scale) int { return cmp.Compare(a.Owner, b.Owner) })
	all.CoolDowns = slices.SortedFunc(maps.Values(coolDowns), func(a, b coordinator.CoolDown) int { return cmp.Compare(a.Scope, b.Scope) })
	return all
}

// worse is the breaker that lets less through, with the failures of both.
func worse(a, b coordinator.Breaker) coordinator.Breaker {
	rank := map[string]int{"closed": 0, "half-open": 1, "open": 2}
	failures := a.Failures + b.Failures
	if r := cmp.Or(cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(a.RemainingSeconds, b.RemainingSeconds)); r < 0 {
		a = b
	}
	a.Failures = failures
	return a
}
