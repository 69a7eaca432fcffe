// Package pressure is the vocabulary that every part of Headgate shares: how
// hard a store pushes back (Level), the message that says so (Event), and the
// thresholds that turn a queue's depth into a level (Thresholds, Tracker).
//
// Everything here is a pure value: no input or output, no clock, no locks.
package pressure

import (
	"strings"

	"github.com/headgate/headgate/internal/invalid"
)

// Level says how hard the store pushes back. Levels are ordered: a larger one
// is worse.
type Level uint8

const (
	OK   Level = 0 // the store keeps up
	Soft Level = 1 // the queue grows: slow down
	Hard Level = 2 // the queue is nearly full: stop, or trickle
)

// wantLevel is what an error says would have been a right level.
const wantLevel = "ok, soft or hard"

// ParseLevel reads a level by its name in any letter case, or by its number 0,
// 1 or 2. The error is an *invalid.Value for the field "level".
func ParseLevel(s string) (Level, error) {
	switch strings.ToLower(s) {
	case "ok", "0":
		return OK, nil
	case "soft", "1":
		return Soft, nil
	case "hard", "2":
		return Hard, nil
	}
	return OK, invalid.New("level", s, wantLevel)
}

// Known reports whether l is one of OK, Soft and Hard.
func (l Level) Known() bool { return l <= Hard }

// String returns the level's name in capitals, as logs and reports show it.
func (l Level) String() string {
	switch l {
	case OK:
		return "OK"
	case Soft:
		return "SOFT"
	case Hard:
		return "HARD"
	}
	return "UNKNOWN"
}

// MarshalText returns the level's name in lower case, as it goes over the
// wire. A level that is not Known is an error.
func (l Level) MarshalText() ([]byte, error) {
	if !l.Known() {
		return nil, invalid.New("level", uint8(l), wantLevel)
	}
	return []byte(strings.ToLower(l.String())), nil
}

// UnmarshalText reads what ParseLevel reads; on an error l keeps its value.
func (l *Level) UnmarshalText(text []byte) error {
	parsed, err := ParseLevel(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}
