package writequeue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/discard"
)

func TestRefusingQueueTakesWhatFits(t *testing.T) {
	r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity, c.Overflow = 10, writequeue.Refuse })
	for _, step := range []struct {
		put, accepted int
		err           error
	}{{7, 7, nil}, {7, 3, writequeue.ErrFull}, {1, 0, writequeue.ErrFull}, {0, 0, nil}} {
		n, err := r.Put(context.Background(), items("a", step.put)...)
		if n != step.accepted || !errors.Is(err, step.err) {
			t.Errorf("Put(%d items) = %d, %v; want %d, %v", step.put, n, err, step.accepted, step.err)
		}
	}
	s := r.Stats()
	checkConserved(t, s)
	if s.Accepted != 10 || s.Refused != 5 || s.Dropped != 0 {
		t.Errorf("stats are %+v, want 10 accepted and 5 refused", s)
	}
}

func TestDroppingQueueKeepsTheNewest(t *testing.T) {
	tests := map[string]struct {
		puts    []int // so many items each
		kept    []string
		dropped uint64
	}{
		"what fits":                     {[]int{2, 3}, []string{"0-0", "0-1", "1-0", "1-1", "1-2"}, 0},
		"one too many":                  {[]int{5, 1}, []string{"0-1", "0-2", "0-3", "0-4", "1-0"}, 1},
		"a whole queue of newer ones":   {[]int{5, 5}, []string{"1-0", "1-1", "1-2", "1-3", "1-4"}, 5},
		"more at once than the queue":   {[]int{2, 8}, []string{"1-3", "1-4", "1-5", "1-6", "1-7"}, 5},
		"much more, one after the next": {[]int{8, 9, 3}, []string{"1-7", "1-8", "2-0", "2-1", "2-2"}, 15},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newStore(nil), func(c *writequeue.Config) {
					c.Capacity, c.Overflow, c.BatchSize = 5, writequeue.DropOldest, 100
				})
				for i, n := range tt.puts {
					mustPut(t, r.Queue, items(fmt.Sprint(i), n))
					checkConserved(t, r.Stats())
				}
				r.start(t)
				synctest.Wait()
				writes := r.store.Writes()
				if diff := cmp.Diff(tt.kept, writes[0].Keys); diff != "" || len(writes) != 1 {
					t.Errorf("kept in %d writes (-want +got):\n%s", len(writes), diff)
				}
				if got := r.Stats().Dropped; got != tt.dropped {
					t.Errorf("%d dropped, want %d", got, tt.dropped)
				}
			})
		})
	}
}

func TestDroppingQueueWhoseItemsAreAllBeingWrittenDropsTheNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, newStore(hold(release)), func(c *writequeue.Config) {
			c.Capacity, c.Overflow, c.Workers = 5, writequeue.DropOldest, 1
		})
		r.start(t)
		mustPut(t, r.Queue, items("a", 5))
		synctest.Wait()
		mustPut(t, r.Queue, items("b", 3))
		want := writequeue.Stats{CoordinatorID: "bars-coord", Accepted: 8, Waiting: 5, InFlight: 5, Dropped: 3,
			MaxDepth: 5, Capacity: 5, Level: pressure.Hard}
		if diff := cmp.Diff(want, r.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		close(release)
	})
}

func TestBlockedProducersAreServedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Second)), func(c *writequeue.Config) {
			c.Capacity, c.BatchSize, c.Workers, c.BatchWait = 10, 5, 1, 0
		})
		mustPut(t, r.Queue, items("first", 10))
		for i, n := range []int{7, 1, 23, 4} { // 23 is more than the queue can hold
			go mustPut(t, r.Queue, items(fmt.Sprint(i), n))
			synctest.Wait()
		}
		if got := r.Stats().BlockedPuts; got != 4 {
			t.Errorf("%d producers wait, want 4", got)
		}
		r.start(t)
		time.Sleep(time.Minute)
		var order []string
		for _, w := range r.store.Writes() {
			order = append(order, w.Keys...)
		}
		var want []string
		for _, batch := range [][]writequeue.Item{items("first", 10), items("0", 7), items("1", 1), items("2", 23), items("3", 4)} {
			for _, item := range batch {
				want = append(want, item.Key)
			}
		}
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("order of writing (-want +got):\n%s", diff)
		}
		if s := r.Stats(); s.MaxDepth != 10 || s.Written != 45 {
			t.Errorf("stats are %+v, want at most 10 waiting and 45 written", s)
		}
	})
}

func TestANewcomerDoesNotOvertakeThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, newStore(hold(release)), func(c *writequeue.Config) {
			c.Capacity, c.BatchSize, c.Workers, c.BatchWait = 4, 2, 1, 0
		})
		mustPut(t, r.Queue, items("a", 4))
		go mustPut(t, r.Queue, items("waits", 5))
		synctest.Wait()
		r.start(t)
		release <- struct{}{} // two go out, two of the five come in
		synctest.Wait()
		go mustPut(t, r.Queue, items("late", 1))
		synctest.Wait()
		close(release)
		synctest.Wait()
		writes := r.store.Writes()
		last := writes[len(writes)-1].Keys
		if got := last[len(last)-1]; got != "late-0" {
			t.Errorf("written last: %s, want late-0", got)
		}
	})
}

func TestABlockedProducerThatGivesUpKnowsWhatWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity = 10 })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n, err := r.Put(ctx, items("a", 15)...)
		if n != 10 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put = %d, %v; want 10, %v", n, err, context.DeadlineExceeded)
		}
		s := r.Stats()
		checkConserved(t, s)
		if s.Accepted != 10 || s.Refused != 5 || s.BlockedPuts != 0 {
			t.Errorf("stats are %+v, want 10 accepted, 5 refused and nobody who waits", s)
		}
	})
}

func TestPutCopiesTheItemsOfABlockedProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity = 1 })
		ctx, cancel := context.WithCancel(context.Background())
		put := items("a", 3)
		done := make(chan struct{})
		go func() { defer close(done); _, _ = r.Put(ctx, put...) }()
		synctest.Wait()
		cancel()
		<-done
		put[0].Key = "changed"
		r.start(t)
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"a-0"}, r.store.Writes()[0].Keys); diff != "" {
			t.Errorf("written (-want +got):\n%s", diff)
		}
	})
}

func TestAnItemWithoutAKeyIsRefusedWithAllThatCameWithIt(t *testing.T) {
	r := newRig(t, newStore(nil), nil)
	n, err := r.Put(context.Background(), writequeue.Item{Key: "a"}, writequeue.Item{})
	if n != 0 || !errors.Is(err, writequeue.ErrNoKey) || r.Stats().Accepted != 0 {
		t.Errorf("Put = %d, %v; want 0, %v", n, err, writequeue.ErrNoKey)
	}
}

func TestEachCrossingIsPublishedOnce(t *testing.T) {
	marks := func(soft, hard, softExit, hardExit string) writequeue.Marks {
		var m writequeue.Marks
		for text, mark := range map[*pressure.Mark]string{&m.SoftEnter: soft, &m.HardEnter: hard, &m.SoftExit: softExit, &m.HardExit: hardExit} {
			if mark != "" {
				if err := text.UnmarshalText([]byte(mark)); err != nil {
					t.Fatal(err)
				}
			}
		}
		return m
	}
	tests := map[string]struct {
		marks writequeue.Marks
		steps []int // depth to go to
		want  []string
	}{
		"soft above half, hard at 80 percent, and back": {
			writequeue.DefaultConfig("x").Marks,
			[]int{50, 51, 79, 80, 100, 80, 79, 51, 50, 0},
			[]string{"SOFT high_watermark 51", "HARD high_watermark 80", "SOFT low_watermark 79", "OK low_watermark 50"},
		},
		"soft may be skipped on the way up": {
			writequeue.DefaultConfig("x").Marks, []int{100, 70, 90},
			[]string{"HARD high_watermark 100", "SOFT low_watermark 79", "HARD high_watermark 90"},
		},
		"exits below the entries": {
			marks("50%", "80%", "30%", "60%"), []int{51, 40, 80, 70, 60, 59, 31, 30},
			[]string{"SOFT high_watermark 51", "HARD high_watermark 80", "SOFT low_watermark 59", "OK low_watermark 30"},
		},
		"marks in items, and soft until empty": {
			marks("5", "10", "0%", ""), []int{6, 10, 9, 1, 0},
			[]string{"SOFT high_watermark 6", "HARD high_watermark 10", "SOFT low_watermark 9", "OK low_watermark 0"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// One write in hand at a time, of one item, let go one by one.
				release := make(chan struct{})
				r := newRig(t, newStore(hold(release)), func(c *writequeue.Config) {
					c.Capacity, c.BatchSize, c.Workers, c.Marks = 100, 1, 1, tt.marks
				})
				r.start(t)
				for depth, i := 0, 0; i < len(tt.steps); i++ {
					for ; depth < tt.steps[i]; depth = tt.steps[i] {
						mustPut(t, r.Queue, items(fmt.Sprint(i), tt.steps[i]-depth))
					}
					for ; depth > tt.steps[i]; depth-- {
						release <- struct{}{}
					}
					synctest.Wait()
					if got := r.Stats().Waiting; got != uint64(depth) {
						t.Fatalf("%d items wait, want %d", got, depth)
					}
				}
				if diff := cmp.Diff(tt.want, r.feed.Told()); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				close(release)
			})
		})
	}
}

func TestAnEventHasAllThatTheGateNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity = 1000 })
		mustPut(t, r.Queue, items("a", 850))
		want := []pressure.Event{{CoordinatorID: "bars-coord", QueueSize: 850, Capacity: 1000, Level: pressure.Hard,
			Reason: "high_watermark", Utilization: 0.85, Source: "write_queue", Time: time.Now()}}
		if diff := cmp.Diff(want, r.feed.events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if err := r.feed.events[0].Validate(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheFirstWriteTellsThatTheStoreIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(fails(2, errBusy)), nil)
		r.start(t)
		mustPut(t, r.Queue, items("a", 3))
		time.Sleep(250 * time.Millisecond)
		if got := r.feed.Told(); got != nil {
			t.Errorf("told before the store took anything: %v", got)
		}
		time.Sleep(time.Minute)
		mustPut(t, r.Queue, items("b", 3))
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"OK store_ready 0"}, r.feed.Told()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestTheStoreIsNotCalledReadyWhereALevelWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity, c.BatchSize = 10, 10 })
		mustPut(t, r.Queue, items("a", 10))
		r.start(t)
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"HARD high_watermark 10", "OK low_watermark 0"}, r.feed.Told()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestASubscriberMayUseTheQueueAndMayPanic(t *testing.T) {
	var r *rig
	var seen []string
	s := newStore(nil)
	cfg := writequeue.DefaultConfig("bars-coord")
	cfg.Capacity, cfg.Overflow = 10, writequeue.Refuse
	q, err := writequeue.New(cfg, s, &letterbox{}, func(e pressure.Event) {
		seen = append(seen, fmt.Sprintf("%v of %d", e.Level, r.Stats().Waiting))
		if e.Level == pressure.Soft {
			_, _ = r.Put(context.Background(), items("more", 4)...) // crosses the next mark
		}
		panic("subscriber is broken")
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r = &rig{Queue: q}
	mustPut(t, q, items("a", 6))
	if diff := cmp.Diff([]string{"SOFT of 6", "HARD of 10"}, seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestAnItemOnItsWayAllocatesNothing(t *testing.T) {
	const each = 500
	cfg := writequeue.DefaultConfig("bars-coord")
	cfg.BatchSize = each
	q, err := writequeue.New(cfg, discard.Sink{}, &letterbox{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Queue: q}
	r.start(t)
	batch := items("a", each)
	put := func() {
		mustPut(t, q, batch)
		for q.Stats().Waiting > 0 {
			runtime.Gosched()
		}
	}
	put()
	if n := testing.AllocsPerRun(200, put); n > each/10 {
		t.Errorf("%d items made %v allocations, want a few for the batch and none for each item", each, n)
	}
}

func TestNewReportsAllFaultsOfTheSettingsAtOnce(t *testing.T) {
	bad := writequeue.Config{
		Capacity: 100, Overflow: "explode", Marks: writequeue.Marks{SoftEnter: pressure.Mark{Value: 90}, HardEnter: pressure.Mark{Value: 80}},
		Workers: 0, BatchSize: -1, BatchWait: -1, Retry: writequeue.Retry{Attempts: 0, Initial: 2, Max: 1},
		Breaker: writequeue.Breaker{}, WriteTimeout: 0, DrainTimeout: -1,
	}
	_, err := writequeue.New(bad, newStore(nil), &letterbox{}, nil, nil)
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"coordinator_id", "soft_enter", "soft_exit", "overflow", "workers", "batch_size", "batch_wait",
		"retry_attempts", "retry_max", "breaker_failures", "breaker_timeout", "write_timeout", "drain_timeout"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
	if _, err := writequeue.New(writequeue.DefaultConfig("x"), nil, nil, nil, nil); len(invalid.All(err)) != 1 {
		t.Errorf("error without a sink is %v", err)
	}
	for _, capacity := range []int{0, -5, 1 << 40} {
		cfg := writequeue.DefaultConfig("x")
		cfg.Capacity = capacity
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "capacity is ") {
			t.Errorf("capacity %d: error is %v", capacity, err)
		}
	}
}

// hold answers each write when something comes from release or it is closed.
func hold(release <-chan struct{}) func(context.Context, int, []writequeue.Item) error {
	return func(ctx context.Context, _ int, _ []writequeue.Item) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// slow answers each write after that time.
func slow(d time.Duration) func(context.Context, int, []writequeue.Item) error {
	return func(ctx context.Context, _ int, _ []writequeue.Item) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fails answers the first n writes with an error.
func fails(n int, err error) func(context.Context, int, []writequeue.Item) error {
	return func(_ context.Context, write int, _ []writequeue.Item) error {
		if write <= n {
			return err
		}
		return nil
	}
}
