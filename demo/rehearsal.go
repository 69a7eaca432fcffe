package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/headgate/headgate/trace"
)

// rehearsal is one market open on one machine: what the market sends, and what
// the store can take while it does. All rates are items (rows) per second.
type rehearsal struct {
	arrivals trace.Trace   // counts of the chosen window, from 0 on
	factor   float64       // every count is multiplied by it
	length   time.Duration // of the window, and of one round

	normal, lowered          float64       // what the store can take
	loweredFrom, loweredTill time.Duration // when it can take only lowered
	base                     float64       // the provider's budget
	burst                    int
	capacity                 int // of the write queue, items
}

const (
	// demandOverLowered is how many times the lowered capacity the market
	// asks for while the capacity is low.
	demandOverLowered = 2.0

	loweredCapacity = 400.0
	normalCapacity  = 1600.0
	providerBase    = 1500.0
	providerBurst   = 300
	queueCapacity   = 3000
)

// newRehearsal cuts from the arrivals the window of that length in which the
// store is low while the market asks for most, and multiplies it so that this
// is demandOverLowered times of what the store then takes.
func newRehearsal(arrivals trace.Trace, length time.Duration) (rehearsal, error) {
	r := rehearsal{
		length:      length,
		loweredFrom: length / 5, loweredTill: length / 2,
		normal: normalCapacity, lowered: loweredCapacity,
		base: providerBase, burst: providerBurst, capacity: queueCapacity,
	}
	start := busiest(arrivals, r.loweredFrom, r.loweredTill, length)
	var asked float64
	for _, p := range arrivals.Points {
		at := p.At - start
		if at < 0 || at >= length {
			continue
		}
		r.arrivals.Points = append(r.arrivals.Points, trace.Point{At: at, Value: p.Value})
		if at >= r.loweredFrom && at < r.loweredTill {
			asked += p.Value
		}
	}
	r.arrivals.Interval = arrivals.Interval
	if asked == 0 {
		return rehearsal{}, fmt.Errorf("the trace has no arrivals in any window of %v", r.loweredTill-r.loweredFrom)
	}
	r.factor = demandOverLowered * r.lowered * (r.loweredTill - r.loweredFrom).Seconds() / asked
	return r, nil
}

// busiest returns the start, at a row of the trace, of the window of that
// length whose part from..till holds most. Where the trace is shorter than the
// window it starts at 0.
func busiest(t trace.Trace, from, till, length time.Duration) time.Duration {
	best, most := time.Duration(0), -1.0
	sum, first, last := 0.0, 0, 0 // of the rows in [start+from, start+till)
	for _, p := range t.Points {
		start := p.At
		if start > 0 && start+length > t.Duration() {
			break
		}
		for ; last < len(t.Points) && t.Points[last].At < start+till; last++ {
			sum += t.Points[last].Value
		}
		for ; first < last && t.Points[first].At < start+from; first++ {
			sum -= t.Points[first].Value
		}
		if sum > most {
			best, most = start, sum
		}
	}
	return best
}

// arrivalsCSV is the window as the replay source reads it.
func (r rehearsal) arrivalsCSV() string { return profile(r.arrivals) }

// capacityCSV is the store's capacity over some rounds as the paced sink reads
// it.
func (r rehearsal) capacityCSV(rounds int) string {
	var t trace.Trace
	for round := range rounds {
		start := time.Duration(round) * r.length
		t.Points = append(t.Points,
			trace.Point{At: start, Value: r.normal},
			trace.Point{At: start + r.loweredFrom, Value: r.lowered},
			trace.Point{At: start + r.loweredTill, Value: r.normal},
		)
	}
	return profile(t)
}

// storeTakes is what the store can take at a time since the start.
func (r rehearsal) storeTakes(at time.Duration) float64 {
	at %= r.length
	if at >= r.loweredFrom && at < r.loweredTill {
		return r.lowered
	}
	return r.normal
}

// profile writes a trace as trace.Read reads it.
func profile(t trace.Trace) string {
	var b strings.Builder
	b.WriteString("t_seconds,value\n")
	for _, p := range t.Points {
		fmt.Fprintf(&b, "%g,%g\n", math.Round(p.At.Seconds()*1e6)/1e6, p.Value)
	}
	return b.String()
}
