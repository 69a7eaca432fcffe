package controller

import (
	"math"

	"github.com/headgate/headgate/pressure"
)

// Guard limits what a law may do, whatever the law. Its zero value lets any
// scale in [0, 1] pass, and none but 0 at HARD.
type Guard struct {
	HardCap float64 // the most at HARD, in [0, 1]
	Floor   float64 // the least at OK and SOFT, in [0, 1]
}

// Guardrail names the limit that changed a law's scale.
type Guardrail string

const (
	GuardNone    Guardrail = ""         // none did
	GuardRange   Guardrail = "range"    // the law's scale was not in [0, 1]
	GuardFloor   Guardrail = "floor"    // it was below Floor
	GuardHardCap Guardrail = "hard_cap" // it was above HardCap at HARD
)

// Limit returns the scale that is allowed in place of the one that the law
// wanted, and the last limit that changed it. It is always in [0, 1]; where the
// law's is not a number it is 0.
func (g *Guard) Limit(level pressure.Level, wanted float64) (float64, Guardrail) {
	scale, bit := wanted, GuardNone
	if !(scale >= 0 && scale <= 1) {
		scale, bit = math.Min(1, math.Max(0, scale)), GuardRange
		if math.IsNaN(wanted) {
			scale = 0
		}
	}
	switch {
	case level >= pressure.Hard && scale > g.HardCap:
		return g.HardCap, GuardHardCap
	case level < pressure.Hard && scale < g.Floor:
		return g.Floor, GuardFloor
	}
	return scale, bit
}
