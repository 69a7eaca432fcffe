package coordinator

import (
	"math"
	"sync/atomic"
	"time"
)

// bucket is a token bucket with a line. It fills with rate tokens per second up
// to burst; a call takes its tokens at once, or waits in line until those before
// it are served and there are enough. So in any span of time it gives away at
// most burst tokens and what the rate brought in that time.
//
// A bucket whose rate is 0 is parked: it gives nothing away and fills with
// nothing, and what was in it is gone, so that its waking lets no old tokens
// through at once.
//
// While nobody waits the bucket is open, and pass takes tokens without a lock:
// all that changes with a grant is one number, what has been spent of the
// epoch's inflow. To do anything else its provider's lock is held and the bucket
// is shut, which takes that number away from those who pass. A change of rate
// begins a new epoch and leaves the old one shut for ever, so that whoever still
// looks at the old one finds nothing there to take.
//
// It has no clock and no timer of its own: the provider calls serve when a time
// comes that next told. Times must not run backwards for the one who holds the
// lock; for those who pass, an old time only means fewer tokens.
type bucket struct {
	epoch atomic.Pointer[epoch]

	// The provider's lock guards these.
	rate   float64 // tokens per second, in [0, 1e12]
	burst  int     // the most tokens that it holds, in [1, mostBurst]
	isShut bool
	spent  int64 // the epoch's, while the bucket is shut
	line   line  // of those who wait, only while it is shut

	// Calls that passed: for one token, in epochs that are over; and all others.
	passedSingles             atomic.Uint64
	passedCalls, passedTokens atomic.Uint64
}

// mostBurst is as much as a bucket can count. A larger burst counts as that.
const mostBurst = 1 << mostUnitsLog2

// epoch is a time over which the rate stays as it is. But for the two numbers at
// its end it does not change. It fills one line of a cache, so that cores that
// take tokens at once have no more than that to take from one another.
type epoch struct {
	inflow
	burst int64 // in units

	// spent is how much of the inflow was given away or ran over, in units; what
	// was in the bucket at the start is taken off. It is never above what came in.
	// While the bucket is shut it is the mark for that.
	spent atomic.Int64

	// singles are the calls that passed for one token. When the epoch is over it
	// is the mark for that and what was counted on it.
	singles atomic.Uint64
}

// afterTaking is what is spent when some more is taken while so much came in. It
// is above that if there is not enough. What runs over is counted when something
// is taken from a full bucket; of the last unit a part may be kept, which is at
// most a millionth of a token and never adds up.
func (e *epoch) afterTaking(cost, spent, arrived int64) int64 {
	return max(spent, arrived-e.burst) + cost
}

const (
	// shutMark is more than can ever be spent.
	shutMark = math.MaxInt64

	// overMark is more than can ever be counted.
	overMark = 1 << 63
)

// start makes a full bucket of the zero one. It is shut.
func (b *bucket) start(rate float64, burst int, now time.Duration) {
	b.rate, b.burst, b.isShut = rate, min(burst, mostBurst), true
	b.begin(newInflow(rate, b.burst, now))
	if rate > 0 {
		b.spent = -b.epoch.Load().burst
	}
}

// begin begins an epoch, shut and with all spent.
func (b *bucket) begin(in inflow) {
	e := &epoch{inflow: in, burst: in.cost(b.burst)}
	e.spent.Store(shutMark)
	if before := b.epoch.Swap(e); before != nil {
		b.passedSingles.Add(before.singles.Swap(overMark))
	}
	b.spent = 0
}

// passage is what became of a call that takes no lock.
type passage uint8

const (
	passed    passage = iota // it has its tokens
	tooFew                   // there are too few of them now
	needsLock                // whether it may have them can only be told with the lock
)

// pass takes n tokens without the lock, if it can.
func (b *bucket) pass(n int, now time.Duration) passage {
	e := b.epoch.Load()
	if uint64(n)-1 >= uint64(e.burst)>>(e.unit&63) { // also for an n below 1
		return needsLock
	}
	elapsed := uint64(now - e.since)
	if elapsed > e.longest {
		if now > e.since {
			return needsLock
		}
		elapsed = 0
	}
	arrived, _ := e.at(elapsed)
	cost := e.cost(n)
	for {
		spent := e.spent.Load()
		if spent == shutMark {
			return needsLock
		}
		after := e.afterTaking(cost, spent, arrived)
		if after > arrived {
			return tooFew
		}
		if e.spent.CompareAndSwap(spent, after) {
			if n != 1 || e.singles.Add(1) >= overMark {
				b.countPassed(n)
			}
			return passed
		}
	}
}

// countPassed counts a call that passed, where the epoch does not.
func (b *bucket) countPassed(n int) {
	if n == 1 {
		b.passedSingles.Add(1)
		return
	}
	b.passedCalls.Add(1)
	b.passedTokens.Add(uint64(n))
}

// passages is how many calls passed and with how many tokens, all in all. The
// lock is held, as in all that follows.
func (b *bucket) passages() (calls, tokens uint64) {
	singles := b.passedSingles.Load() + b.epoch.Load().singles.Load()
	return b.passedCalls.Load() + singles, b.passedTokens.Load() + singles
}

// shut keeps those out who pass without the lock.
func (b *bucket) shut() {
	if !b.isShut {
		b.spent = b.epoch.Load().spent.Swap(shutMark)
		b.isShut = true
	}
}

// open lets calls pass without the lock again. Nobody waits.
func (b *bucket) open() {
	if b.isShut {
		b.epoch.Load().spent.Store(b.spent)
		b.isShut = false
	}
}

// take takes n tokens, from 1 to the burst, if nobody waits and there are as
// many. The bucket is shut.
func (b *bucket) take(n int, now time.Duration) bool {
	return b.line.n == 0 && b.rate > 0 && b.spend(n, now)
}

// spend takes n tokens from a shut bucket if there are as many.
func (b *bucket) spend(n int, now time.Duration) bool {
	e := b.current(now)
	arrived, _ := e.at(uint64(max(0, now-e.since)))
	after := e.afterTaking(e.cost(min(n, mostBurst)), b.spent, arrived)
	if after > arrived {
		return false
	}
	b.spent = after
	return true
}

// serveFirst gives the first in line its tokens if there are as many, and returns
// it then. The bucket is shut.
func (b *bucket) serveFirst(now time.Duration) *waiter {
	w := b.line.head
	if w == nil || b.rate == 0 || !b.spend(w.n, now) {
		return nil
	}
	b.line.leave(w)
	return w
}

// setRate changes the rate from now on, for those who wait too, and leaves the
// bucket shut. The caller serves them. A bucket that was parked rests before it
// begins to fill.
func (b *bucket) setRate(rate float64, now, rest time.Duration) {
	b.shut()
	before := b.current(now)
	since := max(now, before.since)
	switch {
	case b.rate == 0:
		since = now + rest
	case rate == 0:
		since = now
	}
	b.restart(before, rate, now, since)
}

// setBurst changes the most tokens that the bucket holds, and leaves it shut. What
// is in it beyond that is gone.
func (b *bucket) setBurst(burst int, now time.Duration) {
	b.shut()
	before := b.current(now)
	b.burst = min(burst, mostBurst)
	b.restart(before, b.rate, now, max(now, before.since))
}

// current is the epoch, a new one where the old one cannot count up to now.
func (b *bucket) current(now time.Duration) *epoch {
	e := b.epoch.Load()
	longest := time.Duration(e.longest) // the same while the rate is
	for now-e.since > longest {
		end, next := e.since+longest, e.since+longest
		if arrived, _ := e.at(uint64(longest)); arrived-b.spent >= e.burst {
			next = now // it is full, and stays so
		}
		b.restart(e, b.rate, end, next)
		e = b.epoch.Load()
	}
	return e
}

// restart begins a new epoch of a shut bucket with what is in it now, at most
// the longest time after the start of the one before. It fills from since on.
func (b *bucket) restart(before *epoch, rate float64, now, since time.Duration) {
	arrived, fraction := before.at(uint64(max(0, now-before.since)))
	tokens := arrived - b.spent
	most := before.burst
	if int64(b.burst) < most>>before.unit {
		most = before.cost(b.burst)
	}
	if tokens >= most {
		tokens, fraction = most, 0
	}
	if rate == 0 {
		tokens, fraction = 0, 0
	}
	in := newInflow(rate, b.burst, since)
	tokens, in.fraction = in.convert(&before.inflow, tokens, fraction)
	b.rate = rate
	b.begin(in)
	b.spent = -tokens
}

// next is when there will be enough for the first in line. There is no such time
// while nobody waits or the bucket is parked. The bucket is shut.
func (b *bucket) next() (at time.Duration, ok bool) {
	if b.line.head == nil || b.rate == 0 {
		return 0, false
	}
	e := b.epoch.Load()
	return e.when(max(0, b.spent+e.cost(min(b.line.head.n, mostBurst))))
}
