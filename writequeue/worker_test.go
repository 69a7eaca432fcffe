package writequeue_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/writequeue"
)

func TestBatchesAreCutBySizeAndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Workers, c.BatchSize = 2, 3 })
		r.start(t)
		mustPut(t, r.Queue, items("a", 4))
		time.Sleep(100 * time.Millisecond)
		mustPut(t, r.Queue, items("b", 1))
		time.Sleep(10 * time.Second)
		mustPut(t, r.Queue, items("c", 1))
		time.Sleep(time.Second)
		want := []write{
			{0, []string{"a-0", "a-1", "a-2"}},
			{250 * time.Millisecond, []string{"a-3", "b-0"}},
			{10*time.Second + 350*time.Millisecond, []string{"c-0"}},
		}
		if diff := cmp.Diff(want, r.store.Writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestAllWorkersWriteAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Second)), nil)
		r.start(t)
		synctest.Wait()
		mustPut(t, r.Queue, items("a", 2250))
		time.Sleep(10 * time.Second)
		var at []time.Duration
		for _, w := range r.store.Writes() {
			at = append(at, w.At)
		}
		if diff := cmp.Diff([]time.Duration{0, 0, 0, 0, time.Second}, at); diff != "" {
			t.Errorf("times of writing (-want +got):\n%s", diff)
		}
	})
}

func TestWhatAWorkerLeavesBehindIsTakenByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(10*time.Second)), func(c *writequeue.Config) { c.Workers, c.BatchSize = 2, 3 })
		r.start(t)
		synctest.Wait()
		mustPut(t, r.Queue, items("a", 4))
		time.Sleep(time.Minute)
		want := []write{{0, []string{"a-0", "a-1", "a-2"}}, {250 * time.Millisecond, []string{"a-3"}}}
		if diff := cmp.Diff(want, r.store.Writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestSomebodyAlwaysWatchesTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Workers, c.BatchSize = 2, 3 })
		r.start(t)
		synctest.Wait()
		var want []write
		for round := range 5 {
			begin := time.Duration(round) * time.Minute
			batch := items(fmt.Sprint(round), 4)
			mustPut(t, r.Queue, batch[:1]) // watched
			time.Sleep(100 * time.Millisecond)
			mustPut(t, r.Queue, batch[1:3]) // fills the batch: the watcher is called
			synctest.Wait()
			mustPut(t, r.Queue, batch[3:]) // must be watched again
			time.Sleep(time.Minute - 100*time.Millisecond)
			want = append(want,
				write{begin + 100*time.Millisecond, []string{batch[0].Key, batch[1].Key, batch[2].Key}},
				write{begin + 350*time.Millisecond, []string{batch[3].Key}})
		}
		if diff := cmp.Diff(want, r.store.Writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestAQueueThatIsFullByWhatIsBeingWrittenDoesNotWaitEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Hour)), func(c *writequeue.Config) {
			c.Capacity, c.BatchSize, c.Workers, c.BatchWait, c.WriteTimeout = 10, 8, 2, time.Minute, 2*time.Hour
		})
		r.start(t)
		synctest.Wait()
		mustPut(t, r.Queue, items("a", 8))
		synctest.Wait()
		mustPut(t, r.Queue, items("b", 1)) // is watched
		synctest.Wait()
		mustPut(t, r.Queue, items("c", 1)) // no more can come
		time.Sleep(time.Second)
		want := []write{{0, r.store.Writes()[0].Keys}, {0, []string{"b-0", "c-0"}}}
		if diff := cmp.Diff(want, r.store.Writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestItemsKeepTheirOrderWhileTheQueueGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Second)), func(c *writequeue.Config) {
			c.BatchSize, c.Workers, c.BatchWait = 200, 1, 0
		})
		r.start(t)
		synctest.Wait()
		var want, got []string
		for i, n := range []int{200, 200, 300, 900} { // taken, a whole chunk, parts of chunks, many
			batch := items(fmt.Sprint(i), n)
			mustPut(t, r.Queue, batch)
			synctest.Wait()
			for _, item := range batch {
				want = append(want, item.Key)
			}
		}
		time.Sleep(time.Minute)
		for _, w := range r.store.Writes() {
			got = append(got, w.Keys...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestTheQueueLetsGoOfWhatWasWritten(t *testing.T) {
	r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.BatchWait = 0 })
	r.start(t)
	payload := new([1 << 16]byte)
	gone := weak.Make(payload)
	mustPut(t, r.Queue, []writequeue.Item{{Key: "a", Payload: payload[:]}})
	payload = nil
	for r.Stats().Written == 0 || r.Stats().InFlight > 0 {
		runtime.Gosched()
	}
	// The worker clears its hands right after it has counted.
	for deadline := time.Now().Add(10 * time.Second); gone.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the payload of a written item is still held")
		}
	}
}

func TestRetriesAreLimitedByTheirNumberAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(fails(4, errBusy)), func(c *writequeue.Config) {
			c.Breaker.Failures, c.Retry.Initial, c.Retry.Max = 100, time.Hour, time.Hour
		})
		r.start(t)
		mustPut(t, r.Queue, items("a", 1))
		time.Sleep(5 * time.Hour)
		if s := r.Stats(); s.Written != 1 {
			t.Errorf("stats are %+v, want the item written after four hours of failures", s)
		}
	})
}

func TestAFullQueueDoesNotWaitForItsBatchToFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity, c.BatchWait = 4, time.Hour })
		r.start(t)
		go mustPut(t, r.Queue, items("a", 8))
		time.Sleep(time.Minute)
		if got := r.Stats().Written; got != 8 {
			t.Errorf("%d items written, want two full queues of 4", got)
		}
	})
}

func TestAFailedWriteIsTriedAgainWithGrowingDelays(t *testing.T) {
	nominal := []time.Duration{50, 100, 200, 400, 800, 1600, 2000, 2000}
	for range 50 { // the delays are random
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, newStore(fails(8, errBusy)), func(c *writequeue.Config) {
				c.Retry.Attempts, c.Breaker.Failures, c.BatchWait = 9, 100, 0
			})
			r.start(t)
			mustPut(t, r.Queue, items("a", 10))
			time.Sleep(time.Minute)
			writes := r.store.Writes()
			if len(writes) != 9 || r.Stats().Written != 10 {
				t.Fatalf("%d writes and %d items written, want 9 and 10", len(writes), r.Stats().Written)
			}
			for i, n := range nominal {
				most := n * time.Millisecond
				if got := writes[i+1].At - writes[i].At; got < most/2 || got > most {
					t.Errorf("delay %d is %v, want 50 to 100 %% of %v", i+1, got, most)
				}
			}
		})
	}
}

func TestABatchThatFailsTooOftenGoesToTheDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(fails(5, errBusy)), func(c *writequeue.Config) { c.Breaker.Failures = 100 })
		r.start(t)
		put := items("a", 3)
		mustPut(t, r.Queue, put)
		time.Sleep(time.Minute)
		letters := r.dead.Letters()
		if len(letters) != 3 {
			t.Fatalf("%d dead letters, want 3", len(letters))
		}
		at := letters[0].At
		for i, l := range letters {
			want := writequeue.Letter{Item: put[i], CoordinatorID: "bars-coord", Error: "store is busy", Attempts: 5, At: at}
			if diff := cmp.Diff(want, l); diff != "" {
				t.Errorf("letter (-want +got):\n%s", diff)
			}
		}
		mustPut(t, r.Queue, items("b", 2))
		time.Sleep(time.Minute)
		s := r.Stats()
		checkConserved(t, s)
		if s.DeadLettered != 3 || s.Written != 2 || s.Waiting != 0 {
			t.Errorf("stats are %+v, want 3 dead letters, 2 written", s)
		}
	})
}

func TestOnlyThePoisonedItemsOfABatchAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(func(_ context.Context, _ int, batch []writequeue.Item) error {
			if has(batch, "poison") {
				return fmt.Errorf("insert: %w", writequeue.Permanent(errBroken))
			}
			return nil
		})
		r := newRig(t, s, nil)
		put := items("a", 500)
		put[7].Key, put[8].Key, put[499].Key = "poison-7", "poison-8", "poison-499"
		mustPut(t, r.Queue, put)
		r.start(t)
		time.Sleep(time.Minute)
		var keys []string
		for _, l := range r.dead.Letters() {
			keys = append(keys, l.Item.Key)
			if l.Error != "insert: row breaks a constraint" || l.Attempts < 2 || l.Attempts > 11 {
				t.Errorf("letter tells %q after %d attempts", l.Error, l.Attempts)
			}
		}
		if diff := cmp.Diff([]string{"poison-7", "poison-8", "poison-499"}, keys); diff != "" {
			t.Errorf("dead letters (-want +got):\n%s", diff)
		}
		if r.store.Rows() != 497 || r.Stats().Written != 497 || r.Stats().Waiting != 0 {
			t.Errorf("%d rows, stats %+v; want 497 written", r.store.Rows(), r.Stats())
		}
		if writes := len(r.store.Writes()); writes > 60 {
			t.Errorf("%d writes for three bad rows of 500, want at most 60", writes)
		}
		if diff := cmp.Diff(writequeue.Health{Status: "ok"}, r.Health()); diff != "" {
			t.Errorf("a bad row is no illness of the store (-want +got):\n%s", diff)
		}
	})
}

func TestWorkersWaitWhileTheBreakerIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Down for ten minutes, with every worker holding a batch.
		var down atomic.Bool
		down.Store(true)
		s := newStore(func(context.Context, int, []writequeue.Item) error {
			if down.Load() {
				return errBusy
			}
			return nil
		})
		r := newRig(t, s, func(c *writequeue.Config) { c.BatchSize, c.BatchWait = 10, 0 })
		mustPut(t, r.Queue, items("a", 1000))
		r.start(t)
		time.Sleep(30 * time.Second)
		opened := len(s.Writes())
		if opened < 5 || opened > 8 { // the fifth failure opens it; others were on their way
			t.Errorf("%d writes until the breaker opened, want 5 to 8", opened)
		}
		if diff := cmp.Diff(writequeue.Health{Status: "degraded", Reasons: []string{"store_failing", "breaker_open"}}, r.Health()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Minute)
		if got := len(s.Writes()) - opened; got != 2 {
			t.Errorf("%d writes in two minutes of an open breaker, want one a minute", got)
		}
		if got := r.Stats(); got.DeadLettered != 0 || got.Waiting != 1000 {
			t.Errorf("stats are %+v, want all 1000 waiting", got)
		}
		down.Store(false)
		time.Sleep(2 * time.Minute)
		if got := r.Stats(); got.Written != 1000 || got.DeadLettered != 0 {
			t.Errorf("stats are %+v, want all 1000 written", got)
		}
		if diff := cmp.Diff(writequeue.Health{Status: "ok"}, r.Health()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

func TestAWriteThatHangsIsEndedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(func(ctx context.Context, write int, _ []writequeue.Item) error {
			if write == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		r := newRig(t, s, nil)
		r.start(t)
		mustPut(t, r.Queue, items("a", 3))
		time.Sleep(time.Minute)
		writes := s.Writes()
		if len(writes) != 2 || writes[1].At < 30*time.Second || r.Stats().Written != 3 {
			t.Errorf("writes %v, %d items written; want a second write after 30 s", writes, r.Stats().Written)
		}
	})
}

func TestItemsWaitWhileTheDeadLettersCannotBeKept(t *testing.T) {
	for name, tt := range map[string]struct {
		store        error // what the store says while it fails
		mendStore    bool  // which of the two is mended
		written      uint64
		deadLettered uint64
	}{
		"then the disk has room again":    {writequeue.Permanent(errBroken), false, 0, 1},
		"then the store takes them again": {errBusy, true, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failing atomic.Bool
				failing.Store(true)
				s := newStore(func(context.Context, int, []writequeue.Item) error {
					if failing.Load() {
						return tt.store
					}
					return nil
				})
				r := newRig(t, s, func(c *writequeue.Config) { c.Breaker.Failures = 1000 })
				r.dead.Break(true)
				r.start(t)
				mustPut(t, r.Queue, items("a", 1))
				time.Sleep(10 * time.Minute)
				if got := r.Stats(); got.Waiting != 1 || got.Dropped != 0 {
					t.Errorf("stats are %+v, want one item waiting", got)
				}
				if h := r.Health(); h.Status != "degraded" || h.Reasons[len(h.Reasons)-1] != "dead_letters_failing" {
					t.Errorf("health is %+v, want one that tells of the dead letters", h)
				}
				if tt.mendStore {
					failing.Store(false)
				} else {
					r.dead.Break(false)
				}
				time.Sleep(time.Minute)
				got := r.Stats()
				checkConserved(t, got)
				if got.Written != tt.written || got.DeadLettered != tt.deadLettered || got.Waiting != 0 {
					t.Errorf("stats are %+v, want %d written, %d dead letters", got, tt.written, tt.deadLettered)
				}
				if diff := cmp.Diff(writequeue.Health{Status: "ok"}, r.Health()); diff != "" {
					t.Errorf("health (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestStoppingDrainsWhatTheStoreTakesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Second)), func(c *writequeue.Config) { c.BatchSize, c.BatchWait = 10, time.Hour })
		mustPut(t, r.Queue, items("a", 1234))
		r.start(t)
		before := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		took := time.Since(before) // 30 s x 4 workers x 10 items is 1200, and the limit ends the write after that
		if took != 30*time.Second {
			t.Errorf("stopping took %v, want the limit of 30s", took)
		}
		s := r.Stats()
		checkConserved(t, s)
		if s.Written < 1160 || s.Written > 1200 || s.Waiting != 0 || s.DeadLettered != 1234-s.Written {
			t.Errorf("stats are %+v, want some 1200 written and the rest in the dead letters", s)
		}
		for _, l := range r.dead.Letters() {
			if !strings.HasPrefix(l.Error, "the time limit for draining the write queue passed") || l.Attempts > 1 {
				t.Errorf("letter tells %q after %d attempts", l.Error, l.Attempts)
			}
		}
		if diff := cmp.Diff(writequeue.Health{Status: "stopped"}, r.Health()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

func TestStoppingAnEmptyQueueIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), nil)
		r.start(t)
		mustPut(t, r.Queue, items("a", 700))
		synctest.Wait()
		before := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(before); took != 0 || r.Stats().Written != 700 {
			t.Errorf("stopping took %v with %d written, want no time and 700", took, r.Stats().Written)
		}
	})
}

func TestStoppingSendsProducersHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Second)), func(c *writequeue.Config) { c.Capacity, c.Workers = 10, 1 })
		r.start(t)
		type outcome struct {
			N   int
			Err error
		}
		blocked := make(chan outcome, 1)
		go func() {
			n, err := r.Put(context.Background(), items("a", 25)...)
			blocked <- outcome{n, err}
		}()
		time.Sleep(1500 * time.Millisecond) // ten are written, ten more are in
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if got := <-blocked; got.N != 20 || !errors.Is(got.Err, writequeue.ErrClosed) {
			t.Errorf("the blocked Put returned %+v, want 20 and %v", got, writequeue.ErrClosed)
		}
		if n, err := r.Put(context.Background(), items("b", 1)...); n != 0 || !errors.Is(err, writequeue.ErrClosed) {
			t.Errorf("a later Put = %d, %v; want 0, %v", n, err, writequeue.ErrClosed)
		}
		s := r.Stats()
		checkConserved(t, s)
		if s.Accepted != 20 || s.Written != 20 || s.Refused != 6 {
			t.Errorf("stats are %+v, want 20 accepted and written, 6 refused", s)
		}
	})
}

func TestStoppingWhileTheStoreIsDownKeepsEverything(t *testing.T) {
	for name, cfg := range map[string]func(*writequeue.Config){
		"in the middle of retries":  func(c *writequeue.Config) { c.Breaker.Failures, c.Retry.Attempts = 1000, 1000 },
		"before an open breaker":    func(c *writequeue.Config) {},
		"without any time to drain": func(c *writequeue.Config) { c.DrainTimeout = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newStore(fails(1<<30, errBusy)), cfg)
				mustPut(t, r.Queue, items("a", 3456))
				r.start(t)
				time.Sleep(time.Second)
				if err := r.stop(); err != nil {
					t.Error(err)
				}
				s := r.Stats()
				checkConserved(t, s)
				if s.DeadLettered != 3456 || len(r.dead.Letters()) != 3456 || s.Waiting != 0 {
					t.Errorf("stats are %+v with %d letters, want all 3456 there", s, len(r.dead.Letters()))
				}
			})
		})
	}
}

func TestWhatNobodyTakesBeforeTheEndIsCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(fails(1<<30, errBusy)), nil)
		r.dead.Break(true)
		mustPut(t, r.Queue, items("a", 3000))
		r.start(t)
		time.Sleep(time.Second)
		err := r.stop()
		if err == nil || !strings.Contains(err.Error(), "lost 3000 items") {
			t.Errorf("Run returned %v, want that 3000 items were lost", err)
		}
		s := r.Stats()
		checkConserved(t, s)
		if s.Dropped != 3000 || s.Waiting != 0 {
			t.Errorf("stats are %+v, want 3000 dropped", s)
		}
	})
}

func TestAQueueRunsOnce(t *testing.T) {
	r := newRig(t, newStore(nil), nil)
	r.start(t)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run returned no error")
	}
}
