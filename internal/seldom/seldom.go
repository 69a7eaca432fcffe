// Package seldom keeps out of the log what would be said again and again, and
// counts it. What is new is said at once; what goes on is said after a minute,
// after two more, after four and so on, and in the end once a day; and what did
// not happen for an hour is new again.
//
// Nothing here has a clock or a lock: callers give the time, which must not run
// backwards, and see to it that one goroutine at a time calls.
package seldom

import "time"

const (
	first   = time.Minute    // to the second time
	longest = 24 * time.Hour // between two times
	forgets = time.Hour      // after so long without it, it is new again

	// settled is how long a condition may last that was not told.
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

// Condition is something that holds or does not, and may come and go faster than
// anybody wants to read. Whoever reads what was told knows how it is now, or how
// it was an hour ago at most. Its zero value is one that does not hold, and
// nobody was told of anything.
type Condition struct {
	line  Line
	told  bool      // that it holds
	other time.Time // since when it is not as was told; zero while it is
}

// Now takes in whether it holds. It reports whether that is to be told, and how
// often it came without being told since the last time. That it goes is told
// where it was told that it came.
func (c *Condition) Now(now time.Time, holds bool) (leftOut int, tell bool) {
	switch {
	case holds == c.told:
		c.other = time.Time{}
		return 0, false
	case !holds:
		tell = true
	case c.other.IsZero():
		c.other = now
		leftOut, tell = c.line.Tell(now)
	case !now.Before(c.line.next) || now.Sub(c.other) >= settled:
		leftOut, tell = max(0, c.line.leftOut-1), true // without this very time
		c.line.said(now)
	}
	if tell {
		c.told, c.other = holds, time.Time{}
	}
	return leftOut, tell
}
