package replicas

import (
	"math"
	"time"
)

// StoreGuard finds out that the store is the limit, and not the writers: it
// compares the drain of the fleet before and after it grew. Where Tries
// scale-outs in a row did not raise it by a fair part of what they should
// have, the fleet is store-bound and more replicas are not asked for until
// RetryAfter went by, or the drain shows that the store has changed.
//
// Only what is measured under a backlog counts, and only once the number of
// replicas has been the same for Settle. The zero state is that of a fleet
// that nothing is known of.
type StoreGuard struct {
	Settle     time.Duration // how long new replicas take to show in the drain
	Tries      int           // scale-outs in vain that it takes, at least 1
	RetryAfter time.Duration // how long the verdict lasts

	Bound     bool          // the store is the limit
	BoundFor  time.Duration // since that was found
	Limit     int           // replicas when it was found; 0 while not Bound
	Enough    int           // fewest replicas that had the same drain; 0 while Fruitless is 0
	Fruitless int           // scale-outs in a row that were in vain
	Judging   bool          // a scale-out is waiting for its verdict

	replicas   int
	steadyFor  time.Duration
	settled    bool // the number of replicas has not changed for Settle, or ever
	drain      average
	before     measure // what the scale-out under judgement started from
	boundDrain float64
}

// fairPart is how much of the gain that more replicas promise must be seen.
const fairPart = 0.3

// measure is a drain and the number of replicas that had it.
type measure struct {
	replicas int
	drain    float64 // items per second
}

// average is a mean over time that forgets.
type average struct {
	value   float64
	samples int
}

func (a *average) add(value float64, elapsed, within time.Duration) {
	a.samples++
	if a.samples == 1 {
		a.value = value
		return
	}
	// The first few samples weigh alike; later the mean follows within `within`.
	weight := max(1/float64(a.samples), 1-math.Exp(-elapsed.Seconds()/max(within.Seconds(), 1e-9)))
	a.value += weight * (value - a.value)
}

// Unmeasured reports that a scale-out now could not be judged, nor the next one:
// the replicas have changed a moment ago, so that what they drain is not known
// yet. Without a backlog there is nothing to judge.
func (g *StoreGuard) Unmeasured(s Signals) bool {
	return s.Replicas > 0 && !g.settled && (math.IsNaN(s.DrainPerSecond) || s.Busy())
}

// Step takes in what was seen after elapsed went by.
func (g *StoreGuard) Step(elapsed time.Duration, s Signals) {
	if g.Bound {
		g.BoundFor += elapsed
	}
	if s.Replicas != g.replicas {
		g.changed(s.Replicas)
	} else {
		g.steadyFor += elapsed
		g.settled = g.settled || g.steadyFor >= g.Settle
	}
	if g.settled && s.Busy() {
		g.drain.add(s.DrainPerSecond, elapsed, g.Settle)
	}
	switch {
	case g.Judging:
		g.judge(s)
	case g.Bound && g.drain.samples >= enoughSamples && g.storeChanged():
		g.clear()
	}
	if g.Bound && g.BoundFor >= g.RetryAfter {
		g.Bound, g.BoundFor, g.Limit = false, 0, 0
		g.Fruitless = g.Tries - 1 // one more in vain will do
	}
}

// enoughSamples make a drain that is worth a verdict.
const enoughSamples = 2

func (g *StoreGuard) changed(replicas int) {
	grown := replicas > g.replicas
	first := g.replicas == 0
	if grown && !g.Judging && g.drain.samples > 0 {
		g.Judging, g.before = true, measure{g.replicas, g.drain.value}
	}
	if !grown {
		g.Judging = false
	}
	g.replicas, g.steadyFor, g.settled, g.drain = replicas, 0, first, average{}
}

// judge compares what a scale-out brought with what it should have.
func (g *StoreGuard) judge(s Signals) {
	switch {
	case !g.settled:
	case g.drain.samples >= enoughSamples:
		g.Judging = false
		promised := float64(g.replicas-g.before.replicas) / float64(max(1, g.before.replicas))
		if g.drain.value-g.before.drain > fairPart*promised*g.before.drain {
			g.clear()
			return
		}
		if g.Fruitless == 0 || g.Enough == 0 {
			g.Enough = g.before.replicas
		}
		g.Fruitless++
		if g.Fruitless >= g.Tries {
			g.Bound, g.BoundFor, g.Limit, g.boundDrain = true, 0, g.replicas, g.drain.value
		}
	case !s.Busy() && g.steadyFor >= 2*g.Settle: // the backlog is gone: nothing is in the way
		g.Judging = false
		g.clear()
	}
}

// storeChanged reports that the drain is no longer what it was when the fleet
// was found to be store-bound: the store got faster, or fewer replicas do less.
func (g *StoreGuard) storeChanged() bool {
	return g.drain.value > (1+fairPart)*g.boundDrain || g.drain.value < (1-fairPart)*g.boundDrain
}

func (g *StoreGuard) clear() {
	g.Bound, g.BoundFor, g.Limit, g.Enough, g.Fruitless = false, 0, 0, 0, 0
}
