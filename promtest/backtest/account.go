package backtest

import (
	"math"
	"time"

	"github.com/headgate/headgate/pressure"
)

// account adds up what levels and scales there were, and for how long.
type account struct {
	levels [pressure.Hard + 1]time.Duration
	blind  time.Duration // without signals to go by

	scaleSeconds, seconds float64 // of known scales
	least                 float64 // NaN before the first
	variation             float64 // sum of the scale's changes
	turns                 int     // changes of its direction

	changes []change

	level *pressure.Level // now; nil where there are no signals
	scale float64         // now; NaN where none is known

	turned    float64 // the scale at the last change that counted; NaN before the first
	direction float64 // of that change; 0 before
}

// change is a new level; nil is that there are no signals to go by.
type change struct {
	At    time.Time       `json:"at"`
	Level *pressure.Level `json:"level"`
}

func newAccount() account {
	return account{least: math.NaN(), scale: math.NaN(), turned: math.NaN()}
}

// pass counts some time of what there is now.
func (a *account) pass(d time.Duration) {
	if a.level != nil {
		a.levels[*a.level] += d
	} else {
		a.blind += d
	}
	if !math.IsNaN(a.scale) {
		a.scaleSeconds += a.scale * d.Seconds()
		a.seconds += d.Seconds()
	}
}

// smallest is the least change of the scale that counts as one of direction.
const smallest = 0.01

// set says what there is from now on.
func (a *account) set(now time.Time, level *pressure.Level, scale float64) {
	same := len(a.changes) > 0 && (level == nil) == (a.level == nil) && (level == nil || *level == *a.level)
	if !same {
		a.changes = append(a.changes, change{now, level})
	}
	a.level = level
	if math.IsNaN(scale) {
		a.scale = scale
		return
	}
	if !math.IsNaN(a.scale) {
		a.variation += math.Abs(scale - a.scale)
	}
	a.scale = scale
	if math.IsNaN(a.least) || scale < a.least {
		a.least = scale
	}
	switch by := scale - a.turned; {
	case math.IsNaN(by):
		a.turned = scale
	case math.Abs(by) >= smallest:
		if a.direction*by < 0 {
			a.turns++
		}
		a.direction, a.turned = math.Copysign(1, by), scale
	}
}

// mean is the mean scale over the time in which one was known; else NaN.
func (a *account) mean() float64 { return a.scaleSeconds / a.seconds }
