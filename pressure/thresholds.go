package pressure

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// Mark is a point on a queue's depth: a number of items ("8000") or a share of
// the capacity ("80%").
type Mark struct {
	Value   float64 // items, or percent of the capacity; finite and >= 0
	Percent bool    // Value is percent
}

// ParseMark reads "8000" or "80%". The error is an *invalid.Value for the field
// "mark".
func ParseMark(s string) (Mark, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(value >= 0) || math.IsInf(value, 0) || (percent && value > 100) {
		return Mark{}, invalid.New("mark", s, `items such as "8000", or a share of the capacity from "0%" to "100%"`)
	}
	return Mark{Value: value, Percent: percent}, nil
}

// String returns what ParseMark reads.
func (m Mark) String() string {
	s := strconv.FormatFloat(m.Value, 'f', -1, 64)
	if m.Percent {
		s += "%"
	}
	return s
}

// MarshalText is String as bytes.
func (m Mark) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what ParseMark reads; on an error m keeps its value.
func (m *Mark) UnmarshalText(text []byte) error {
	parsed, err := ParseMark(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Items is the mark in items for a queue of that capacity. The capacity is not
// looked at where the mark is in items already.
func (m Mark) Items(capacity float64) float64 {
	if m.Percent {
		return m.Value / 100 * capacity
	}
	return m.Value
}

// Thresholds turn a depth into a level, with hysteresis in value (a level is
// left lower than it was entered) and in time (it is entered after For, and
// left after CoolDown). All depths are in items and finite, with
//
//	SoftExit <= SoftEnter <= HardEnter and SoftExit <= HardExit <= HardEnter.
type Thresholds struct {
	SoftEnter float64 // SOFT when the depth is above it
	SoftExit  float64 // OK again when the depth is at or below it
	HardEnter float64 // HARD when the depth is at or above it
	HardExit  float64 // no longer HARD when the depth is below it

	For      time.Duration // how long the depth must ask for a worse level; 0 is at once
	CoolDown time.Duration // how long a level lasts at least before it falls; 0 is not at all
}

// Validate reports every threshold that is out of order, joined.
func (t Thresholds) Validate() error {
	var errs []error
	for _, mark := range []struct {
		field string
		value float64
	}{
		{"soft_exit", t.SoftExit}, {"soft_enter", t.SoftEnter},
		{"hard_exit", t.HardExit}, {"hard_enter", t.HardEnter},
	} {
		if !(mark.value >= 0) || math.IsInf(mark.value, 0) {
			errs = append(errs, invalid.New(mark.field, mark.value, "items >= 0"))
		}
	}
	atMost := func(lowName string, low float64, highName string, high float64) {
		if low > high {
			errs = append(errs, invalid.New(lowName, low, fmt.Sprintf("at most %s, which is %v", highName, high)))
		}
	}
	atMost("soft_enter", t.SoftEnter, "hard_enter", t.HardEnter)
	atMost("soft_exit", t.SoftExit, "soft_enter", t.SoftEnter)
	atMost("hard_exit", t.HardExit, "hard_enter", t.HardEnter)
	atMost("soft_exit", t.SoftExit, "hard_exit", t.HardExit)
	if t.For < 0 {
		errs = append(errs, invalid.New("for", t.For, "a duration >= 0"))
	}
	if t.CoolDown < 0 {
		errs = append(errs, invalid.New("cool_down", t.CoolDown, "a duration >= 0"))
	}
	return errors.Join(errs...)
}

// Tracker follows one depth and holds the level that the thresholds make of
// it. It starts at OK. It must not be used by several goroutines at once.
type Tracker struct {
	thresholds Thresholds
	level      Level
	since      time.Time // when level was entered; zero before the first Observe

	// pending[l] is since when the depth has asked for at least l without a
	// break; zero where it does not.
	pending [Hard + 1]time.Time
}

// NewTracker returns a tracker at OK. The thresholds must be valid.
func NewTracker(t Thresholds) *Tracker { return &Tracker{thresholds: t} }

// SetThresholds replaces the thresholds, as when the capacity that they are a
// share of has changed. The level and its times stay; the next Observe judges
// by the new ones. The thresholds must be valid.
func (t *Tracker) SetThresholds(thresholds Thresholds) { t.thresholds = thresholds }

// Level is the level now, and since when.
func (t *Tracker) Level() (Level, time.Time) { return t.level, t.since }

// Observe takes the depth seen at a time, and with it what the coordinator
// says of itself (OK where it says nothing): the worse of the two counts.
// Times must not run backwards; one that does counts as the last one.
// A depth that is NaN asks for nothing beyond the reported level.
// It returns the level now and whether it changed.
func (t *Tracker) Observe(at time.Time, depth float64, reported Level) (level Level, changed bool) {
	if t.since.IsZero() {
		t.since = at
	}
	enter, hold := t.wants(depth)
	enter, hold = max(enter, reported), max(hold, reported)

	next := t.level
	for l := Soft; l <= Hard; l++ {
		switch {
		case enter < l:
			t.pending[l] = time.Time{}
		case t.pending[l].IsZero():
			t.pending[l] = at
		}
		if enter >= l && l > next && at.Sub(t.pending[l]) >= t.thresholds.For {
			next = l
		}
	}
	if next == t.level && hold < t.level && at.Sub(t.since) >= t.thresholds.CoolDown {
		next = hold
	}
	if next == t.level {
		return t.level, false
	}
	t.level, t.since = next, at
	return t.level, true
}

// wants returns the level that the depth is high enough to enter, and the one
// that it is high enough to stay in.
func (t *Tracker) wants(depth float64) (enter, hold Level) {
	switch {
	case depth >= t.thresholds.HardEnter:
		return Hard, Hard
	case depth > t.thresholds.SoftEnter:
		enter = Soft
	}
	switch {
	case t.level == Hard && depth >= t.thresholds.HardExit:
		hold = Hard
	case t.level >= Soft && depth > t.thresholds.SoftExit:
		hold = Soft
	default:
		hold = enter
	}
	return enter, hold
}
