package writequeue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
)

// TestConservation runs queues of all kinds between producers that come and
// go and a store and dead letters that fail as they like, and checks the law in
// every cut, and in the end against what really came out.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := writequeue.DefaultConfig("bars-coord")
		cfg.Capacity = rapid.IntRange(1, 50).Draw(rt, "capacity")
		cfg.Overflow = rapid.SampledFrom([]writequeue.Overflow{writequeue.Block, writequeue.Refuse, writequeue.DropOldest}).Draw(rt, "overflow")
		cfg.Workers = rapid.IntRange(1, 4).Draw(rt, "workers")
		cfg.BatchSize = rapid.IntRange(1, 20).Draw(rt, "batch size")
		cfg.BatchWait = time.Duration(rapid.IntRange(0, 100).Draw(rt, "batch wait")) * time.Millisecond
		cfg.Retry.Attempts = rapid.IntRange(1, 3).Draw(rt, "attempts")
		cfg.Breaker.Failures = rapid.IntRange(1, 5).Draw(rt, "failures")
		cfg.Breaker.Timeout = time.Second
		cfg.DrainTimeout = time.Duration(rapid.IntRange(0, 2000).Draw(rt, "drain")) * time.Millisecond
		puts := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 80), 1, 10), 1, 4).Draw(rt, "puts of each producer")
		flaky := rapid.IntRange(0, 60).Draw(rt, "percent of writes that fail")
		deadFlaky := rapid.IntRange(0, 60).Draw(rt, "percent of appends that fail")
		stopAfter := time.Duration(rapid.IntRange(0, 3000).Draw(rt, "stop after")) * time.Millisecond
		seed := rapid.Uint64().Draw(rt, "seed")

		var failed string
		synctest.Test(t, func(t *testing.T) {
			failed = runFlaky(cfg, puts, flaky, deadFlaky, stopAfter, seed)
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// dice are random numbers for several goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) percent(p int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(100) < p
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// flakyLetters are dead letters that fail now and then.
type flakyLetters struct {
	letterbox
	dice    *dice
	percent int
}

func (f *flakyLetters) Append(ctx context.Context, letters []writequeue.Letter) error {
	if f.dice.percent(f.percent) {
		return errors.New("no space left on device")
	}
	return f.letterbox.Append(ctx, letters)
}

func runFlaky(cfg writequeue.Config, puts [][]int, flaky, deadFlaky int, stopAfter time.Duration, seed uint64) (failed string) {
	d := &dice{rng: rand.New(rand.NewPCG(seed, 0))}
	fail := func(format string, args ...any) {
		if failed == "" {
			failed = fmt.Sprintf(format, args...)
		}
	}
	s := newStore(func(ctx context.Context, _ int, batch []writequeue.Item) error {
		select {
		case <-time.After(time.Duration(d.below(50)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case has(batch, "poison"):
			return writequeue.Permanent(errBroken)
		case d.percent(flaky):
			return errBusy
		}
		return nil
	})
	dead := &flakyLetters{dice: d, percent: deadFlaky}
	var levels []pressure.Level
	q, err := writequeue.New(cfg, s, dead, func(e pressure.Event) { levels = append(levels, e.Level) }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err.Error()
	}

	var mu sync.Mutex
	check := func(when string) writequeue.Stats {
		mu.Lock()
		defer mu.Unlock()
		st := q.Stats()
		if st.Accepted != st.Written+st.Waiting+st.Dropped+st.DeadLettered || st.Waiting > st.Capacity || st.InFlight > st.Waiting {
			fail("%s: not conserved: %+v", when, st)
		}
		return st
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	var producers sync.WaitGroup
	accepted := make([]uint64, len(puts))
	for p, sizes := range puts {
		producers.Go(func() {
			for i, n := range sizes {
				batch := items(fmt.Sprintf("%d-%d", p, i), n)
				for j := range batch {
					if d.percent(2) {
						batch[j].Key += "-poison"
					}
				}
				patience, done := context.WithTimeout(context.Background(), time.Duration(d.below(2000))*time.Millisecond)
				k, _ := q.Put(patience, batch...)
				done()
				accepted[p] += uint64(k)
				check("after a put")
				time.Sleep(time.Duration(d.below(300)) * time.Millisecond)
			}
		})
	}
	for range 10 {
		time.Sleep(stopAfter / 10)
		check("while it runs")
	}
	cancel()
	runErr := <-ended
	producers.Wait()

	st := check("after the end")
	var sum uint64
	for _, n := range accepted {
		sum += n
	}
	letters := dead.Letters()
	switch {
	case st.Waiting != 0 || st.InFlight != 0:
		fail("items wait after the end: %+v", st)
	case st.Accepted != sum:
		fail("%d accepted, but the producers were told of %d", st.Accepted, sum)
	case st.DeadLettered != uint64(len(letters)):
		fail("%d dead-lettered, but there are %d letters", st.DeadLettered, len(letters))
	case st.Written != uint64(s.Rows()):
		fail("%d written, but there are %d rows", st.Written, s.Rows())
	case cfg.Overflow != writequeue.DropOldest && (st.Dropped > 0) != (runErr != nil):
		fail("%d dropped, and Run returned %v", st.Dropped, runErr)
	}
	for _, l := range letters {
		if s.rows[l.Item.Key] > 0 {
			fail("%s is a row and a dead letter", l.Item.Key)
		}
	}
	// Up and down by turns: no level is told twice in a row, but for an OK at
	// the start that says that the store is ready.
	if again := slices.Compact(slices.Clone(levels)); !slices.Equal(again, levels) {
		fail("a level was told twice: %v", levels)
	}
	return failed
}

// TestTheQueueIsAQueue holds a refusing queue without workers against the
// obvious model, a slice; then everything is drained in order.
func TestTheQueueIsAQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		capacity := rapid.IntRange(1, 600).Draw(rt, "capacity") // more than the first slots for chunks hold too
		drop := rapid.Bool().Draw(rt, "drop oldest")
		var model, got []string
		synctest.Test(t, func(t *testing.T) {
			s := newStore(nil)
			r := newRig(t, s, func(c *writequeue.Config) {
				c.Capacity, c.Workers, c.BatchSize, c.Overflow = capacity, 1, 7, writequeue.Refuse
				if drop {
					c.Overflow = writequeue.DropOldest
				}
			})
			for i, n := range rapid.SliceOfN(rapid.IntRange(0, 700), 1, 6).Draw(rt, "puts") {
				batch := items(fmt.Sprint(i), n)
				k, _ := r.Put(context.Background(), batch...)
				for _, item := range batch[:k] {
					model = append(model, item.Key)
				}
				if over := len(model) - capacity; over > 0 && drop {
					model = model[over:]
				}
			}
			r.start(t)
			if err := r.stop(); err != nil {
				rt.Fatal(err)
			}
			for _, w := range s.Writes() {
				got = append(got, w.Keys...)
			}
		})
		if diff := cmp.Diff(model, got); diff != "" {
			rt.Fatalf("items (-model +queue):\n%s", diff)
		}
	})
}
