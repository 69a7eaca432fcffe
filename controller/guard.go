package controller

import (
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/pressure"
)

// Guard limits what a law may do, whatever the law. Its zero value lets any
// scale in [0, 1] pass, and none but 0 at HARD.
type Guard struct {
	HardCap float64 // the most at HARD, in [0, 1]
	Floor   float64 // the least at OK and SOFT, in [0, 1]

	RisePerSecond float64 // by how much the scale may rise, > 0; 0 is without a limit

	// ResumeWithin is the time over which providers that were parked, at a scale
	// of 0, come back one after another; 0 is at once.
	ResumeWithin time.Duration

	// ReversalsPerHour is how often the scale may change its direction in an
	// hour; 0 is without a limit. Once that is used up it may fall and no longer
	// rise.
	ReversalsPerHour int
}

// Guardrail names the limit that changed a law's scale.
type Guardrail string

const (
	GuardNone      Guardrail = ""          // none did
	GuardRange     Guardrail = "range"     // the law's scale was not in [0, 1]
	GuardFloor     Guardrail = "floor"     // it was below Floor
	GuardHardCap   Guardrail = "hard_cap"  // it was above HardCap at HARD
	GuardRise      Guardrail = "rise"      // it rose faster than RisePerSecond
	GuardResume    Guardrail = "resume"    // it is not yet this provider's turn to come back
	GuardReversals Guardrail = "reversals" // there were ReversalsPerHour
)

// smallestChange is the least change of a scale that counts as one of
// direction.
const smallestChange = 0.01

// Limiter is a Guard at work on one provider. It belongs to one goroutine, and
// has no clock: the same calls give the same scales.
type Limiter struct {
	guard Guard
	seed  uint64

	clock     time.Duration // sum of what elapsed
	direction float64       // of the last change, -1 or 1; 0 before the first
	reversals []time.Duration
	resumes   uint64
	parked    bool
	resumeAt  time.Duration
}

// NewLimiter returns a limiter. The seed chooses the provider's turn to come
// back; those of different providers should differ.
func NewLimiter(g Guard, seed uint64) *Limiter { return &Limiter{guard: g, seed: seed} }

// Limit returns the scale that is allowed in place of the one that the law
// wanted, and the last limit that changed it. Last is the scale before, NaN
// where there was none, and elapsed the time since. The result is always in
// [0, 1]; where the law's is not a number it is 0.
func (l *Limiter) Limit(elapsed time.Duration, level pressure.Level, wanted, last float64) (float64, Guardrail) {
	l.clock += max(0, elapsed)
	scale, bit := l.guard.bound(level, wanted)
	if math.IsNaN(last) {
		l.parked = scale == 0
		return scale, bit
	}
	if allowed, rail := l.rise(elapsed, scale, last); rail != GuardNone {
		scale, bit = allowed, rail
		if level >= pressure.Hard && scale > l.guard.HardCap { // the scale before was above it
			scale, bit = l.guard.HardCap, GuardHardCap
		}
	}
	l.turn(scale - last)
	return scale, bit
}

// bound keeps to the limits that need no memory.
func (g Guard) bound(level pressure.Level, wanted float64) (float64, Guardrail) {
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

// rise keeps a rising scale to the limits.
func (l *Limiter) rise(elapsed time.Duration, scale, last float64) (float64, Guardrail) {
	if scale == 0 || l.guard.ResumeWithin <= 0 {
		l.parked = scale == 0
	} else if last == 0 {
		if l.parked {
			l.parked = false
			l.resumes++
			l.resumeAt = l.clock + time.Duration(fraction(l.seed, l.resumes)*float64(l.guard.ResumeWithin))
		}
		if l.clock < l.resumeAt {
			return 0, GuardResume
		}
	}
	if scale <= last {
		return scale, GuardNone
	}
	if l.guard.ReversalsPerHour > 0 && l.direction < 0 && l.inLastHour() >= l.guard.ReversalsPerHour {
		return last, GuardReversals
	}
	if most := last + l.guard.RisePerSecond*max(0, elapsed).Seconds(); l.guard.RisePerSecond > 0 && scale > most {
		return most, GuardRise
	}
	return scale, GuardNone
}

// turn notes the direction of a change.
func (l *Limiter) turn(change float64) {
	if l.guard.ReversalsPerHour == 0 || math.Abs(change) < smallestChange {
		return
	}
	direction := math.Copysign(1, change)
	if l.direction != 0 && direction != l.direction {
		l.inLastHour()
		l.reversals = append(l.reversals, l.clock)
	}
	l.direction = direction
}

// inLastHour counts the reversals, and forgets those before.
func (l *Limiter) inLastHour() int {
	old := 0
	for old < len(l.reversals) && l.reversals[old] <= l.clock-time.Hour {
		old++
	}
	l.reversals = slices.Delete(l.reversals, 0, old) // in place, so that nothing is allocated for ever
	return len(l.reversals)
}

// fraction is a number in [0, 1) that looks drawn, and is always the same for
// the same arguments (Steele et al., SplitMix, OOPSLA 2014).
func fraction(seed, n uint64) float64 {
	z := seed + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}
