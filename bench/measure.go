package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
)

// contender is one who does the work. Its benchmark's operation is what the row
// counts.
type contender struct {
	name string
	run  func(b *testing.B)
}

// result is what one contender did in one round.
type result struct {
	nsPerOp     float64
	allocsPerOp int64
}

// byTurns measures the contenders by turns, so that what else the machine does
// hits all of them alike. It returns the results of each round by contender.
func byTurns(ctx context.Context, rounds int, contenders ...contender) ([][]result, error) {
	all := make([][]result, rounds)
	for round := range all {
		for i := range contenders {
			// Who begins changes, for the first may find a colder machine.
			c := contenders[(round+i)%len(contenders)]
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r := testing.Benchmark(c.run)
			if r.N == 0 || r.T <= 0 {
				return nil, fmt.Errorf("%s failed", c.name)
			}
			if all[round] == nil {
				all[round] = make([]result, len(contenders))
			}
			all[round][(round+i)%len(contenders)] = result{
				float64(r.T.Nanoseconds()) / float64(r.N), r.AllocsPerOp(),
			}
		}
	}
	return all, nil
}

// medianRound is the round in which the ratio of one contender's time to the
// other's is the median: a pair that was measured at about the same time.
func medianRound(rounds [][]result, ours, peer int) (o, p result) {
	byRatio := slices.SortedFunc(slices.Values(rounds), func(a, b []result) int {
		x, y := a[ours].nsPerOp/a[peer].nsPerOp, b[ours].nsPerOp/b[peer].nsPerOp
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	median := byRatio[len(byRatio)/2]
	return median[ours], median[peer]
}

// growth says in words how a cost grows with the size, from the first of its
// measurements to the last.
func growth(sizes []int, costs []float64) string {
	last := len(sizes) - 1
	exponent := math.Log(costs[last]/costs[0]) / math.Log(float64(sizes[last])/float64(sizes[0]))
	word := "faster than linear"
	switch {
	case exponent < 0.25:
		word = "flat"
	case exponent < 0.75:
		word = "slower than linear"
	case exponent < 1.25:
		word = "linear"
	}
	return fmt.Sprintf("growth from %v to %v: %s (by a power of %.2f)", Figure(sizes[0]), Figure(sizes[last]), word, exponent)
}

// inParallel calls f in so many goroutines, n times in all.
func inParallel(goroutines, n int, f func()) {
	var all sync.WaitGroup
	for i := range goroutines {
		share := n / goroutines
		if i < n%goroutines {
			share++
		}
		all.Go(func() {
			for range share {
				f()
			}
		})
	}
	all.Wait()
}
