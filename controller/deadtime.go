package controller

import (
	"math"
	"time"
)

// deadTime finds out how long a change in the queue takes to reach the
// provider. From the first samples on it is the sum of the mean times from one
// sample to the next, from one decision to the next, and of an apply. Once
// changes of the rate were seen to show in the arrivals, it is the mean time
// which that took: it is the same way, walked from the command back to a
// decision. It has no clock.
type deadTime struct {
	sampling, deciding, applying mean
	measured                     mean

	sampled time.Time // when the newest sample was taken, on Prometheus' clock
	watched *change   // the command whose effect is waited for
}

// change is a command and what it should do to the arrivals.
type change struct {
	at            time.Time
	before, after float64 // items per second
}

// Bounds of what is believed.
const (
	// enough effects were seen to trust in their mean.
	enoughEffects = 3

	// worthWatching is the least change of a rate whose effect can be told from
	// noise, as a share of the larger one.
	worthWatching = 0.25

	// believed is how far a measured dead time may be from the sum.
	leastOfSum, mostOfSum = 0.5, 2
)

// mean is a mean that forgets, over some ten values.
type mean struct {
	seconds float64
	n       int
}

func (m *mean) add(d time.Duration) {
	m.n++
	m.seconds += (d.Seconds() - m.seconds) / float64(min(m.n, 10))
}

func (m mean) duration() time.Duration { return time.Duration(m.seconds * float64(time.Second)) }

// saw takes in a decision at now, made elapsed after the one before, on a
// sample taken at a time with these arrivals.
func (d *deadTime) saw(now time.Time, elapsed time.Duration, sample time.Time, arrivals float64) {
	if elapsed > 0 {
		d.deciding.add(elapsed)
	}
	if !sample.After(d.sampled) {
		return
	}
	if !d.sampled.IsZero() {
		d.sampling.add(sample.Sub(d.sampled))
	}
	d.sampled = sample
	w := d.watched
	switch {
	case w == nil || math.IsNaN(arrivals):
	case now.Sub(w.at) > time.Duration(mostOfSum*float64(d.sum())):
		d.watched = nil // the provider does not do what it may
	case math.Abs(arrivals-w.after) < math.Abs(arrivals-w.before):
		d.measured.add(now.Sub(w.at))
		d.watched = nil
	}
}

// commanded takes in that an apply has ended, after a time, and has changed the
// rate. Only one change is watched at a time.
func (d *deadTime) commanded(now time.Time, took time.Duration, before, after, arrivals float64) {
	d.applying.add(took)
	larger := math.Max(before, after)
	if math.Abs(after-before) < worthWatching*larger {
		return
	}
	// Where the provider does not use up its rate, a change does not show.
	if d.watched != nil || !(arrivals >= 0.8*before) {
		d.watched = nil
		return
	}
	d.watched = &change{now, before, after}
}

// sum is the sum of the parts that are known.
func (d *deadTime) sum() time.Duration {
	return d.sampling.duration() + d.deciding.duration() + d.applying.duration()
}

// value is what is believed; 0 before there were two samples.
func (d *deadTime) value() time.Duration {
	sum := d.sum()
	if d.sampling.n == 0 {
		return 0
	}
	if d.measured.n < enoughEffects {
		return sum
	}
	seconds := min(mostOfSum*sum.Seconds(), max(leastOfSum*sum.Seconds(), d.measured.seconds))
	return time.Duration(seconds * float64(time.Second))
}
