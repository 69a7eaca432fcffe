// Package synthetic makes up a market's opening: what a market-data feed sends
// when trading begins, item counts in bins of 100 ms.
package synthetic

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/pipeline/source/replay"
)

// Bin is the interval whose items are counted together.
const Bin = 100 * time.Millisecond

// The shape, in items per second where nothing else is said.
const (
	quiet      = 10.0  // before the opening
	firstStep  = 380.0 // the first second after it
	secondStep = 830.0 // the second one
	plateau    = 250.0 // from settled on; in between the rate falls in a straight line

	settled   = 30 * time.Second // after the opening
	numStorms = 4                // between the steps and settled, one in each quarter of that time

	stormLeast, stormMost = 1000, 1400 // items in one bin
)

// Profile is a market's opening. Two profiles that are equal have equal items;
// a bin's count is a function of the profile and the bin alone.
type Profile struct {
	Seed       int64
	Scale      float64       // what all rates are multiplied by, > 0
	OpensAfter time.Duration // the quiet time, >= 0
}

// Slots gives the bins one after another, without end where the duration is 0.
func (p Profile) Slots(duration time.Duration) iter.Seq[replay.Slot] {
	return func(yield func(replay.Slot) bool) {
		storms := p.storms()
		for i := 0; ; i++ {
			at := time.Duration(i) * Bin
			if duration > 0 && at >= duration {
				return
			}
			if !yield(replay.Slot{At: at, Span: Bin, Count: p.count(i, storms)}) {
				return
			}
		}
	}
}

// RatePerSecond is the expected rate at a time, without the storms.
func (p Profile) RatePerSecond(at time.Duration) float64 {
	since := at - p.OpensAfter
	rate := plateau
	switch {
	case since < 0:
		rate = quiet
	case since < time.Second:
		rate = firstStep
	case since < 2*time.Second:
		rate = secondStep
	case since < settled:
		fallen := float64(since-2*time.Second) / float64(settled-2*time.Second)
		rate = secondStep + fallen*(plateau-secondStep)
	}
	return rate * p.Scale
}

func (p Profile) count(bin int, storms map[int]int) int {
	if items, is := storms[bin]; is {
		return items
	}
	mean := p.RatePerSecond(time.Duration(bin)*Bin) * Bin.Seconds()
	return poisson(rand.New(rand.NewPCG(uint64(p.Seed), uint64(bin))), mean)
}

// storms draws the bins of the storms and their items.
func (p Profile) storms() map[int]int {
	random := rand.New(rand.NewPCG(uint64(p.Seed), math.MaxUint64))
	first := int((p.OpensAfter + 2*time.Second) / Bin)
	quarter := int((settled - 2*time.Second) / Bin / numStorms)
	storms := map[int]int{}
	for i := range numStorms {
		items := stormLeast + random.IntN(stormMost-stormLeast)
		storms[first+i*quarter+random.IntN(quarter)] = int(math.Round(float64(items) * p.Scale))
	}
	return storms
}

// poisson draws how many of many independent events of that mean number occur:
// by Knuth's product of uniforms, and by the normal law where the mean is
// large.
func poisson(random *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	limit, product, n := math.Exp(-mean), random.Float64(), 0
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}
