package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// group is rows that are measured together.
type group struct {
	name string
	// about says what is measured and how, for the page.
	about   string
	measure func(ctx context.Context, rounds int) ([]Row, error)
}

// groups lists everything that is measured, in the order of the table.
func groups() []group {
	return []group{
		acquireGroup(),
		waitersGroup(),
		queueGroup(),
		jetstreamGroup(),
		sqliteGroup(),
		postgresGroup(),
		tickGroup(),
		memoryGroup(),
		scalerGroup(),
		pollingGroup(),
		eventsGroup(),
		sharesGroup(),
		binariesGroup(),
	}
}

// Row is one line of the result. Ours and Peer are in the unit; where the peer
// is a limit rather than a contender, it is the limit.
type Row struct {
	Name     string `json:"name"`
	Ours     Figure `json:"ours"`
	Peer     Figure `json:"peer"`
	PeerName string `json:"peer_name"`
	Unit     string `json:"unit"`
	Ratio    Figure `json:"ratio"` // of ours to the peer's
	Bar      string `json:"bar"`   // on the ratio
	Holds    bool   `json:"holds"`

	note string // for the page, where there is more to say
}

// Figure is a number to four significant digits; one that is not finite is null.
type Figure float64

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(f.rounded())
}

func (f Figure) rounded() float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', 4, 64), 64)
	if err != nil {
		return float64(f)
	}
	return v
}

// String is the figure with thousands apart, for people.
func (f Figure) String() string {
	v := f.rounded()
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) < 1000:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	if v < 0 {
		return "-" + b.String()
	}
	return b.String()
}

// bar is what a ratio has to keep.
type bar struct {
	sign  string // "<=", ">=", "<" or "="; empty where there is no bar
	value float64
}

func atMost(v float64) bar  { return bar{"<=", v} }
func atLeast(v float64) bar { return bar{">=", v} }
func below(v float64) bar   { return bar{"<", v} }
func exactly(v float64) bar { return bar{"=", v} }
func none() bar             { return bar{} }

func (b bar) String() string {
	if b.sign == "" {
		return "none"
	}
	return fmt.Sprintf("%s %s", b.sign, strconv.FormatFloat(b.value, 'g', 3, 64))
}

func (b bar) holds(ratio float64) bool {
	switch b.sign {
	case "<=":
		return ratio <= b.value
	case ">=":
		return ratio >= b.value
	case "=":
		return ratio == b.value
	case "":
		return true
	}
	return ratio < b.value
}

// against makes a row of a comparison.
func (b bar) against(name, unit, peerName string, ours, peer float64) Row {
	ratio := ours / peer
	return Row{
		Name: name, Unit: unit, PeerName: peerName, Ours: Figure(ours), Peer: Figure(peer),
		Ratio: Figure(ratio), Bar: b.String(), Holds: b.holds(ratio),
	}
}
