package backtest

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// queue is the write queue as it would have been with another scale in force:
// fed by what arrived, as far as the gate had let it through, and drained by
// what the store took. Items are counted in fractions.
//
// It errs where the past does not tell enough. Where the recorded queue was
// empty the store may have been able to take more than it was seen to: what
// waits and overflows is then an upper bound. Where the provider was held back,
// more may have been there to arrive: all of it is a lower bound.
type queue struct {
	capacity float64 // items, NaN where it is not known; it may change
	depth    float64 // in the queue
	held     float64 // before the gate

	came, refused, written, accepted float64 // since the start

	entered []entry // by accepted
	waits   []wait
}

// entry says how much had been accepted by a time.
type entry struct {
	accepted float64
	at       time.Time
}

// wait is how long items were in the queue.
type wait struct{ seconds, items float64 }

// newQueue starts with what waited at a time. How long it had waited already is
// not known, and does not count.
func newQueue(now time.Time, depth float64) *queue {
	return &queue{
		capacity: math.NaN(), depth: depth, accepted: depth,
		entered: []entry{{0, now}, {depth, now}},
	}
}

// resume begins anew with what waits at a time. What was before counts.
func (q *queue) resume(now time.Time, depth float64) {
	q.held, q.depth = 0, depth
	q.accepted = q.written + depth
	q.entered = []entry{{q.written, now}, {q.accepted, now}}
}

// flow lets the time from one moment to another go by, with so many items a
// second that arrive at the gate, that it lets through at most, and that the
// store takes at most.
func (q *queue) flow(from, to time.Time, arrivals, allowed, drain float64) {
	seconds := to.Sub(from).Seconds()
	q.held += arrivals * seconds
	in := min(q.held, allowed*seconds)
	q.held -= in
	q.came += in
	out := min(drain*seconds, q.depth+in)
	q.depth = max(0, q.depth+in-out)
	if over := q.depth - q.capacity; over > 0 {
		q.refused += over
		in -= over
		q.depth = q.capacity
	}
	q.accepted += in
	q.pass(from, to, out)
}

// follow lets the time go by in which it really was so, up to the depth that was
// measured in the end.
func (q *queue) follow(from, to time.Time, arrivals, drain, depth float64) {
	seconds := to.Sub(from).Seconds()
	q.came += arrivals * seconds
	q.depth = depth
	q.accepted = max(q.accepted, q.written+drain*seconds+depth)
	q.pass(from, to, drain*seconds)
}

// pass notes what came in and what went out in some time.
func (q *queue) pass(from, to time.Time, out float64) {
	q.entered = append(q.entered, entry{q.accepted, to})
	if out > 0 {
		middle := from.Add(to.Sub(from) / 2)
		q.waits = append(q.waits, wait{max(0, middle.Sub(q.enteredAt(q.written+out/2)).Seconds()), out})
	}
	q.written += out
	for len(q.entered) > 2 && q.entered[1].accepted < q.written {
		q.entered = q.entered[1:]
	}
}

// enteredAt is when the item after so many others came into the queue.
func (q *queue) enteredAt(others float64) time.Time {
	i, _ := slices.BinarySearchFunc(q.entered, others, func(e entry, others float64) int {
		if e.accepted < others {
			return -1
		}
		return 1
	})
	i = min(max(i, 1), len(q.entered)-1)
	before, after := q.entered[i-1], q.entered[i]
	share := 1.0
	if after.accepted > before.accepted {
		share = min(max((others-before.accepted)/(after.accepted-before.accepted), 0), 1)
	}
	return before.at.Add(time.Duration(share * float64(after.at.Sub(before.at))))
}

// quantile is the wait in seconds that this share of the items did not exceed;
// NaN where there are none.
func quantile(waits []wait, share float64) float64 {
	slices.SortFunc(waits, func(a, b wait) int { return cmp.Compare(a.seconds, b.seconds) })
	total := 0.0
	for _, w := range waits {
		total += w.items
	}
	sum := 0.0
	for _, w := range waits {
		if sum += w.items; sum >= share*total {
			return w.seconds
		}
	}
	return math.NaN()
}
