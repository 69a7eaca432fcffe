package replicas

import (
	"github.com/headgate/headgate/pressure"
)

// Tolerance is the relative difference that a HorizontalPodAutoscaler passes
// over, by its default.
const Tolerance = 0.1

// Relative turns a plan into a multiplier of the replicas that are there, for
// a trigger of metricType Value with target 1: above 1 the fleet grows, at 1
// it stays, below 1 it shrinks. It is the one metric that can hold a fleet.
//
//   - OK follows the plan both ways.
//   - SOFT never shrinks; it follows the plan upward, and holds while the store
//     is the limit.
//   - HARD grows by the smallest step that the autoscaler sees, one verdict at
//     a time, for one scale-out in vain proves nothing yet. A store-bound fleet
//     it holds, or with stepBack shrinks towards the fewest replicas that do as
//     much.
//
// Where the fleet should stay the answer is 1 exactly. Elsewhere it lies
// outside of the Tolerance, and the autoscaler's ceil(replicas x answer) makes
// just the wanted number of it.
func Relative(p Plan, s Signals, stepBack bool) (multiplier float64, cause Cause) {
	wanted, cause := p.Replicas, p.Cause
	if s.Replicas == 0 {
		// Without replicas the autoscaler takes the answer as their number.
		return float64(max(1, wanted)), cause
	}
	switch s.Level {
	case pressure.Soft:
		if wanted < s.Replicas {
			wanted, cause = s.Replicas, CauseLevel
		}
		if p.StoreBound && wanted > s.Replicas {
			wanted, cause = s.Replicas, CauseStoreBound
		}
	case pressure.Hard:
		wanted, cause = atHard(p, s.Replicas, stepBack)
	}
	if wanted == s.Replicas {
		return 1, cause
	}
	return toMultiplier(wanted, s.Replicas, cause)
}

// smallestStep is the smallest change of that many replicas that lies outside
// of the tolerance.
func smallestStep(replicas int) int { return int(Tolerance*float64(replicas)) + 1 }

func atHard(p Plan, replicas int, stepBack bool) (wanted int, cause Cause) {
	step := smallestStep(replicas)
	switch {
	case p.StoreBound && stepBack && p.Enough > 0 && replicas > p.Enough:
		return max(p.Enough, replicas-step), CauseStoreBound
	case p.StoreBound:
		return replicas, CauseStoreBound
	case p.Judging:
		return replicas, CauseLevel
	case p.Replicas > replicas+step:
		return replicas + step, CauseLevel
	}
	return max(replicas, p.Replicas), p.Cause
}

// offset keeps the product below the wanted whole number, so that neither the
// thousandths that KEDA rounds the answer to nor floating point can round it up
// to the next one.
const offset = 0.25

func toMultiplier(wanted, replicas int, cause Cause) (float64, Cause) {
	n := float64(replicas)
	change := float64(wanted) / n
	if tolerated(change) {
		return 1, CauseTolerance
	}
	multiplier := (float64(max(1, wanted)) - offset) / n
	if change > 1 {
		return max(multiplier, 1+Tolerance+0.001), cause
	}
	return multiplier, cause
}
