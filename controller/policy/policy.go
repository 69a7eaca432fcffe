// Package policy holds the laws that turn what is known of a queue into a
// scale for the provider that fills it.
//
// A law is a pure function of its own state and of its Input: it has no clock,
// no random numbers and no input or output, so the same inputs always give the
// same outputs. That is what lets one law be run, simulated, replayed and
// explained alike.
package policy

import (
	"iter"
	"math"
	"time"

	"github.com/headgate/headgate/pressure"
)

// Law decides a scale. A law keeps whatever state it needs between calls and
// must not be used by several goroutines at once; each provider has its own.
// Decide must not allocate, and for every Input it must return a Scale in
// [0, 1], never NaN.
type Law interface {
	Decide(Input) Output
}

// Input is everything that a law may look at. Depths are in items, rates in
// items per second; NaN stands for what is not known.
type Input struct {
	Elapsed time.Duration // since the previous Decide; 0 at the first one

	Level           pressure.Level      // after hysteresis and cool-down
	Depth, Capacity float64             // Depth is finite and >= 0; Capacity is NaN when unknown
	Thresholds      pressure.Thresholds // in items

	ArrivalsPerSecond, DrainPerSecond float64 // into the queue and out of it; NaN when unknown
	BasePerSecond, FloorPerSecond     float64 // of the provider; NaN when unknown

	DeadTime time.Duration // from a change in the queue until the changed rate reaches the provider; 0 when unknown
	Age      time.Duration // of the newest sample, >= 0
	Fresh    bool          // there is a new sample since the previous Decide

	InForce float64 // the scale read back from the provider, in [0, 1]; NaN when unknown
}

// Output is what a law made of an Input.
type Output struct {
	Scale  float64 // in [0, 1]
	Reason Reason  // which branch of the law it came from
	Terms  Terms   // the numbers that Scale is made of
}

// Reason names the branch of a law that a scale came from. It is one of a
// closed set, so that it can be counted and compared.
type Reason string

// ReasonLevel says that the level alone chose the scale.
const ReasonLevel Reason = "level"

// Signals is a set of signals that not every coordinator gives.
type Signals uint8

const (
	SignalCapacity Signals = 1 << iota // the most items that the queue may hold
	SignalArrivals                     // items per second into the queue
	SignalDrain                        // items per second out of it
	SignalBase                         // the provider's base rate
)

// Has reports whether every signal of want is in s.
func (s Signals) Has(want Signals) bool { return s&want == want }

// Needer is a law that cannot decide without some of the signals. A law that
// is no Needer makes do with the depth and the level. A target that lacks a
// needed signal is refused before it is controlled.
type Needer interface {
	Needs() Signals
}

// Needs are the signals without which a law cannot decide.
func Needs(law Law) Signals {
	if n, ok := law.(Needer); ok {
		return n.Needs()
	}
	return 0
}

// Explainer is a law that can say in words how it came to an Output: one
// clause without a full stop, from whose numbers the scale can be recomputed.
// For any other law the terms are listed.
type Explainer interface {
	Explain(Input, Output) string
}

// Actor is a law that acts at another depth than the mark at which SOFT begins.
type Actor interface {
	// ActsAt is the depth in items at which the law lowers the rate to what the
	// store takes, for the capacity, the thresholds, the base rate and the dead
	// time of an Input.
	ActsAt(Input) float64
}

// ActsAt is the depth in items from which on a law throttles; see Actor.
func ActsAt(law Law, in Input) float64 {
	if a, ok := law.(Actor); ok {
		return a.ActsAt(in)
	}
	return in.Thresholds.SoftEnter
}

// Term is one number of a law's sum, such as the measured drain rate.
type Term struct {
	Name  string  // lower case, with the unit as its last word: "drain_per_second"
	Value float64 // may be NaN where the law went on without it
}

// Terms are the numbers that a scale is made of, in the order in which they
// were added. The zero value is empty. It holds at most maxTerms and is copied
// by value, so that a decision costs no allocation.
type Terms struct {
	terms [maxTerms]Term
	n     int
}

const maxTerms = 8

// Add appends a term. Beyond maxTerms it does nothing.
func (t *Terms) Add(name string, value float64) {
	if t.n < maxTerms {
		t.terms[t.n] = Term{Name: name, Value: value}
		t.n++
	}
}

// Value is the first term of that name, NaN where there is none.
func (t Terms) Value(name string) float64 {
	for _, term := range t.terms[:t.n] {
		if term.Name == name {
			return term.Value
		}
	}
	return math.NaN()
}

// Len is the number of terms.
func (t Terms) Len() int { return t.n }

// All iterates over the terms in their order.
func (t Terms) All() iter.Seq[Term] {
	return func(yield func(Term) bool) {
		for _, term := range t.terms[:t.n] {
			if !yield(term) {
				return
			}
		}
	}
}
