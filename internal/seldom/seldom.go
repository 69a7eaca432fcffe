// Package seldom keeps out of the log what would be said again and again, and
// counts it. What is new is said at once; what goes on is said after a minute,
// after two more, after four and so on, and in the end once a day; and what did
// not happen for an hour is new again.
//
// Nothing here has a clock, and only Shared has a lock: callers give the time,
// which must not run backwards, and see to it that one goroutine at a time calls.
package seldom

import (
	"slices"
	"sync"
	"time"
)

const (
	first   = time.Minute    // to the second time
	longest = 24 * time.Hour // between two times
	forgets = time.Hour      // after so long without it, it is new again

	// settled is how long something may stay as it is without being told.
	settled = time.Hour
)

// Line is one thing that may have to be said often. Its zero value has not been
// said yet.
type Line struct {
	asked   time.Time // last; zero before the first time
	next    time.Time // when it may be said again
	wait    time.Duration
	leftOut int
}

// Tell reports whether it is to be said now, and how often it was left out since
// it was said last.
func (l *Line) Tell(now time.Time) (leftOut int, tell bool) {
	if now.Sub(l.asked) >= forgets {
		l.wait = 0
	}
	l.asked = now
	if l.wait > 0 && now.Before(l.next) {
		l.leftOut++
		return 0, false
	}
	return l.said(now), true
}

// said notes that it is said, and returns how often it was left out before.
func (l *Line) said(now time.Time) (leftOut int) {
	l.wait = min(longest, max(first, 2*l.wait))
	l.next = now.Add(l.wait)
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut
}

// Shared is a Line that several goroutines may use at once.
type Shared struct {
	mu   sync.Mutex
	line Line
}

// Tell is Line's.
func (s *Shared) Tell(now time.Time) (leftOut int, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.line.Tell(now)
}

// Changes are those of one thing that has no usual state, such as a list. What
// was told of it is so, or was so an hour before it began to rest. The zero value
// has not changed yet.
type Changes struct {
	line   Line
	untold bool
}

// Now takes in whether it has changed since the last call. It reports whether how
// it is now is to be told, and how many changes were left out since the last time.
func (c *Changes) Now(now time.Time, changed bool) (leftOut int, tell bool) {
	switch {
	case changed:
		leftOut, tell = c.line.Tell(now)
	case c.untold && (!now.Before(c.line.next) || now.Sub(c.line.asked) >= settled):
		c.line.leftOut-- // the last one is told now
		leftOut, tell = c.line.said(now), true
	default:
		return 0, false
	}
	c.untold = !tell
	return leftOut, tell
}

// Told notes that it was told how it is for a reason of its own, and returns how
// many changes were left out since the last time.
func (c *Changes) Told() (leftOut int) {
	leftOut, c.line.leftOut, c.untold = c.line.leftOut, 0, false
	return leftOut
}

// State is how something is, where that may change faster than anybody wants to
// read. Its zero value, and S's, is the usual state, and nobody was told of
// another. Whoever reads what was told knows how it is now, or how it was an hour
// ago at most.
type State[S comparable] struct {
	told    S
	lines   []lineOf[S] // of the states that are not the usual one; they are few
	now     S
	other   time.Time // since when it is not as was told; zero while it is
	leftOut int
}

// lineOf is the line of one state.
type lineOf[S comparable] struct {
	of   S
	line Line
}

// Now takes in how it is. It reports whether that is to be told, and how many
// changes were left out since the last time. That it is as usual again is told
// where it was told that it was not.
func (s *State[S]) Now(now time.Time, is S) (leftOut int, tell bool) {
	var usual S
	came := is != s.now
	s.now = is
	if is == s.told {
		s.other = time.Time{}
		return 0, false
	}
	if s.other.IsZero() {
		s.other = now
	}
	switch line := s.line(now, is); {
	case is == usual:
		tell = true
	case came:
		_, tell = line.Tell(now)
	case !now.Before(line.next) || now.Sub(s.other) >= settled:
		line.said(now)
		s.leftOut-- // which was this one
		tell = true
	}
	if !tell {
		if came {
			s.leftOut++
		}
		return 0, false
	}
	return s.Told(is), true
}

// Told notes that it was told how it is for a reason of its own, and returns how
// many changes were left out since the last time.
func (s *State[S]) Told(is S) (leftOut int) {
	s.now, s.told, s.other = is, is, time.Time{}
	leftOut, s.leftOut = s.leftOut, 0
	return leftOut
}

// line is the one of a state, until it is called again, and nil for the usual
// one. Those that are as good as new are forgotten.
func (s *State[S]) line(now time.Time, is S) *Line {
	var usual S
	if is == usual {
		return nil
	}
	for i := range s.lines {
		if s.lines[i].of == is {
			return &s.lines[i].line
		}
	}
	s.lines = slices.DeleteFunc(s.lines, func(l lineOf[S]) bool { return now.Sub(l.line.asked) >= forgets })
	s.lines = append(s.lines, lineOf[S]{of: is})
	return &s.lines[len(s.lines)-1].line
}

// Condition is a state that holds or does not.
type Condition = State[bool]
