package shard_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller/shard"
)

// address is that of a provider's coordinator, as a fleet of pods has them.
func address(i int) string { return fmt.Sprintf("http://bars-%d.bars.prod.svc:9400", i) }

func TestEveryProviderFallsToOneShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.IntRange(0, 50).Draw(t, "of")
		url, provider := rapid.String().Draw(t, "url"), rapid.String().Draw(t, "provider")
		holders := 0
		for index := range max(1, of) {
			if (shard.Shard{Index: index, Of: of}).Holds(url, provider) {
				holders++
			}
		}
		if holders != 1 {
			t.Errorf("%d shards hold it", holders)
		}
	})
}

func TestMoreShardsMoveProvidersOnlyToTheNewOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.IntRange(1, 50).Draw(t, "before")
		after := rapid.IntRange(before, 60).Draw(t, "after")
		url, provider := rapid.String().Draw(t, "url"), rapid.String().Draw(t, "provider")
		was, is := shard.At(url, provider, before), shard.At(url, provider, after)
		if is != was && is < before {
			t.Errorf("it moves from %d to %d, which was there before", was, is)
		}
	})
}

func TestProvidersAreSharedEvenlyAndAsFewMoveAsCanBe(t *testing.T) {
	const providers = 100_000
	for _, before := range []int{1, 4, 10, 99} {
		t.Run(fmt.Sprintf("from %d to %d", before, before+1), func(t *testing.T) {
			held := make([]float64, before+1)
			moved := 0.0
			for i := range providers {
				held[shard.At(address(i), "ibkr", before+1)]++
				if shard.At(address(i), "ibkr", before) != shard.At(address(i), "ibkr", before+1) {
					moved++
				}
			}
			// Five times the deviation of so many throws of a die: one test in a
			// million would fail by chance, and the hash has none.
			share := 1 / float64(before+1)
			most := 5 * math.Sqrt(share*(1-share)*providers)
			for index, n := range held {
				if math.Abs(n-share*providers) > most {
					t.Errorf("shard %d holds %v of %d, want %.0f +- %.0f", index, n, providers, share*providers, most)
				}
			}
			if math.Abs(moved-share*providers) > most {
				t.Errorf("%v move, want %.0f +- %.0f", moved, share*providers, most)
			}
		})
	}
}

func TestAMillionProvidersFallEvenlyToAHundredShardsAndOneMoreTakesItsPartFromAll(t *testing.T) {
	const providers, shards = 1_000_000, 100
	held, given := make([]int, shards), make([]int, shards)
	moved := 0
	for i := range providers {
		was, is := shard.At(address(i), "ibkr", shards), shard.At(address(i), "ibkr", shards+1)
		held[was]++
		if is != was {
			moved++
			given[was]++
			if is != shards {
				t.Fatalf("provider %d moves from %d to %d, want it to stay or go to the new one", i, was, is)
			}
		}
	}
	most, least := slices.Max(held), slices.Min(held)
	t.Logf("of %d providers each of %d shards has %d to %d, %.3f of the mean at most; one more takes %d, %d to %d from each",
		providers, shards, least, most, float64(most)*shards/providers, moved, slices.Min(given), slices.Max(given))
	if ratio := float64(most) * shards / providers; ratio > 1.05 {
		t.Errorf("the fullest shard has %.3f times the mean", ratio)
	}
	if want := providers / (shards + 1); moved < want*95/100 || moved > want*105/100 {
		t.Errorf("%d providers move to the new shard, want about %d", moved, want)
	}
}

func TestTheTicksOfAHundredControllersAreSpreadOverTheInterval(t *testing.T) {
	const interval, shards = 5 * time.Second, 100
	var begins []time.Duration
	for index := range shards {
		begins = append(begins, shard.Shard{Index: index, Of: shards}.Phase(fmt.Sprint("controller-", index), interval))
	}
	slices.Sort(begins)
	for second := range interval / time.Second {
		n := 0
		for _, begin := range begins {
			if begin >= second*time.Second && begin < (second+1)*time.Second {
				n++
			}
		}
		if n != shards/5 {
			t.Errorf("in second %d begin %d ticks, want a fifth of them", second, n)
		}
	}
}

func TestWhereAProviderFallsNeverChanges(t *testing.T) {
	// Controllers of different versions work side by side, so these are for ever.
	for _, test := range []struct {
		address, provider string
		of, want          int
	}{
		{"http://gate:9400", "ibkr", 1, 0},
		{"http://gate:9400", "ibkr", 5, 1},
		{"http://gate:9400/", "ibkr", 5, 1},
		{"http://gate:9400", "bulk", 5, 4},
		{"dns+http://pipeline:9400", "ibkr", 1000, 778},
	} {
		if got := shard.At(test.address, test.provider, test.of); got != test.want {
			t.Errorf("%s at %s falls to %d of %d, want %d", test.provider, test.address, got, test.of, test.want)
		}
	}
}

func TestControllersBeginTheirTicksApart(t *testing.T) {
	const interval = 5 * time.Second
	for index := range 5 {
		s := shard.Shard{Index: index, Of: 5}
		for _, holder := range []string{"controller-0", "controller-1", "a", ""} {
			begin, end := time.Duration(index)*time.Second, time.Duration(index+1)*time.Second
			if phase := s.Phase(holder, interval); phase < begin || phase >= end {
				t.Errorf("%v: %q begins at %v, want it from %v to %v", s, holder, phase, begin, end)
			}
		}
	}
	whole := shard.Shard{}
	if a, b := whole.Phase("controller-0", interval), whole.Phase("controller-1", interval); a == b {
		t.Errorf("two controllers of all targets begin both at %v", a)
	}
}

func Example() {
	s := shard.Shard{Index: 1, Of: 5}
	fmt.Println(s, "holds ibkr:", s.Holds("http://gate:9400", "ibkr"), "and bulk:", s.Holds("http://gate:9400", "bulk"))
	// Output: shard 1 of 5 holds ibkr: true and bulk: false
}
