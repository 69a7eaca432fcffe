package coordinator

import (
	"container/list"
	"math"
	"time"
)

// bucket is a token bucket with a queue. It fills with rate tokens per second
// up to burst; a call takes its tokens at once, or waits in line until those
// before it are served and there are enough. So in any span of time it gives
// away at most burst tokens and what the rate brought in that time.
//
// A bucket whose rate is 0 is parked: it gives nothing away and fills with
// nothing, and what was in it is gone, so that its waking lets no old tokens
// through at once.
//
// It has no lock and no timer of its own: its provider guards it, and calls
// serve when a time comes that next told.
type bucket struct {
	rate   float64       // tokens per second, >= 0
	burst  float64       // the most that it holds, > 0
	tokens float64       // in it at the time at; in [0, burst]
	at     time.Duration // on the clock of the caller

	waiting list.List // of *waiter, the oldest first
}

// waiter is a call that waits in line.
type waiter struct {
	n      float64       // tokens
	since  time.Duration // when it came
	result chan error    // of size one: told once, nil when it has its tokens
}

func newBucket(rate, burst float64, now time.Duration) bucket {
	return bucket{rate: rate, burst: burst, tokens: burst, at: now}
}

// fill brings the tokens up to date.
func (b *bucket) fill(now time.Duration) {
	if now > b.at {
		b.tokens = min(b.burst, b.tokens+b.rate*(now-b.at).Seconds())
		b.at = now
	}
}

// take takes n tokens if nobody waits and there are as many.
func (b *bucket) take(n float64, now time.Duration) bool {
	if b.waiting.Len() > 0 || b.rate == 0 {
		return false
	}
	b.fill(now)
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// setRate changes the rate from now on, for those who wait too. The caller
// serves them.
func (b *bucket) setRate(rate float64, now time.Duration) {
	b.fill(now)
	b.rate = rate
	if rate == 0 {
		b.tokens = 0
	}
}

// serve gives those at the head of the line their tokens, calling granted for
// each, until there are too few for the next one.
func (b *bucket) serve(now time.Duration, granted func(*waiter)) {
	if b.rate == 0 {
		return
	}
	b.fill(now)
	for first := b.waiting.Front(); first != nil; first = b.waiting.Front() {
		w := first.Value.(*waiter)
		if b.tokens < w.n {
			return
		}
		b.tokens -= w.n
		b.waiting.Remove(first)
		granted(w)
	}
}

// next is when there will be enough for the first in line, or by the rounding
// of the sums a nanosecond before that; serve then waits for the rest. There is
// no such time while nobody waits or the bucket is parked.
func (b *bucket) next() (at time.Duration, ok bool) {
	first := b.waiting.Front()
	if first == nil || b.rate == 0 {
		return 0, false
	}
	missing := max(0, first.Value.(*waiter).n-b.tokens)
	nanoseconds := math.Ceil(missing / b.rate * 1e9)
	if nanoseconds > float64(math.MaxInt64/2) {
		return 0, false // longer than any process lives
	}
	return b.at + time.Duration(nanoseconds), true
}
