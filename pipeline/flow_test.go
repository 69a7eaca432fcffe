package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/pipeline/transform"
	"github.com/headgate/headgate/writequeue"
)

// room is a stage that accepts items until it has no room.
type room struct {
	left  int
	err   error
	items []writequeue.Item
	puts  []int // sizes
}

func (r *room) put(_ context.Context, items []writequeue.Item) (int, error) {
	r.puts = append(r.puts, len(items))
	n := min(r.left, len(items))
	r.items = append(r.items, items[:n]...)
	r.left -= n
	if n < len(items) {
		return n, r.err
	}
	return n, nil
}

func numbered(from, n int) []writequeue.Item {
	var items []writequeue.Item
	for i := range n {
		items = append(items, writequeue.Item{Key: fmt.Sprint("k", from+i), Payload: fmt.Appendf(nil, `{"n":%d}`, from+i)})
	}
	return items
}

func counter() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "counter"})
}

// gated returns a gate before next, with a provider that lets so much through.
func gated(t *testing.T, next stage, perSecond float64, burst int) *gateStage {
	t.Helper()
	c := coordinator.New()
	t.Cleanup(c.Close)
	if err := c.Register(coordinator.Provider{Name: "ibkr", BasePerSecond: perSecond, Burst: burst, FloorPerSecond: 1}); err != nil {
		t.Fatal(err)
	}
	return &gateStage{coordinator: c, provider: "ibkr", batch: 500, next: next}
}

func TestAGateAsksForFewItemsAtOnceAndNeverMoreThanTheBurst(t *testing.T) {
	for _, test := range []struct {
		name      string
		perSecond float64
		burst     int
		most      int
	}{
		{"what comes in within ten milliseconds", 2000, 5000, 20},
		{"the burst", 100_000, 7, 7},
		{"the setting", 1e6, 5000, 500},
		{"one at a trickle", 1, 5000, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				next := &room{left: 1000}
				if n, err := gated(t, next, test.perSecond, test.burst).put(t.Context(), numbered(0, 1000)); n != 1000 || err != nil {
					t.Fatalf("accepted %d, error %v", n, err)
				}
				for _, n := range next.puts {
					if n > test.most {
						t.Fatalf("%d at once, want at most %d", n, test.most)
					}
				}
			})
		})
	}
}

func TestAGateLetsSingleItemsThroughAtATrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &room{left: 1000}
		gate := gated(t, next, 1000, 100)
		if _, err := gate.put(t.Context(), numbered(0, 100)); err != nil {
			t.Fatal(err)
		}
		gate.coordinator.SetScale("ibkr", 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		n, err := gate.put(ctx, numbered(100, 200))
		if n != 10 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d items in ten seconds at HARD, error %v; want 10 and the deadline", n, err)
		}
		var busy *busyError
		if !errors.As(err, &busy) || busy.RetryAfter() != 190*time.Second {
			t.Errorf("got %v, want to come again after 190 s for 190 items", err)
		}
	})
}

func TestAGateWaitsUntilACoolDownIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &room{left: 10}
		gate := gated(t, next, 1000, 100)
		gate.coordinator.CoolDown("ibkr", coordinator.GlobalScope, 42*time.Second)
		begin := time.Now()
		if n, err := gate.put(t.Context(), numbered(0, 1)); n != 1 || err != nil {
			t.Fatalf("accepted %d, error %v", n, err)
		}
		if waited := time.Since(begin); waited < 42*time.Second || waited > 43*time.Second {
			t.Errorf("waited %v, want 42 s", waited)
		}
	})
}

func TestAGateTellsWhatIsBroken(t *testing.T) {
	gate := gated(t, &room{}, 1, 1)
	gate.provider = "nosuch"
	if _, err := gate.put(t.Context(), numbered(0, 1)); !errors.Is(err, coordinator.ErrUnknownProvider) {
		t.Errorf("got %v, want %v", err, coordinator.ErrUnknownProvider)
	}
}

func TestATransformAnswersForTheItemsThatItWasGiven(t *testing.T) {
	// k0, k3 and k4 go on.
	keep := transform.Filter{Field: "n", In: []string{"0", "3", "4"}}
	for _, test := range []struct {
		room     int
		accepted int
	}{
		{3, 6}, // all, with what was removed
		{2, 4}, // up to k4
		{1, 3}, // up to k3
		{0, 0},
	} {
		s := &transformStage{transform: keep, next: &room{left: test.room, err: writequeue.ErrFull}, kept: counter(), removed: counter()}
		n, err := s.put(t.Context(), numbered(0, 6))
		if n != test.accepted || (test.room < 3) != errors.Is(err, writequeue.ErrFull) {
			t.Errorf("with room for %d: accepted %d, error %v; want %d", test.room, n, err, test.accepted)
		}
		if kept, removed := value(s.kept), value(s.removed); kept != uint64(test.room) || kept+removed != uint64(test.accepted) {
			t.Errorf("with room for %d: %d kept and %d removed of %d", test.room, kept, removed, test.accepted)
		}
	}
}

func TestItemsThatWereRefusedBehindADedupeMayComeAgain(t *testing.T) {
	next := &room{left: 2, err: writequeue.ErrFull}
	s := &transformStage{transform: transform.NewDedupe("", 100, 0), next: next, kept: counter(), removed: counter()}
	if n, _ := s.put(t.Context(), numbered(0, 4)); n != 2 {
		t.Fatalf("accepted %d, want 2", n)
	}
	next.left = 10
	if n, err := s.put(t.Context(), numbered(0, 4)); n != 4 || err != nil {
		t.Fatalf("accepted %d, error %v", n, err)
	}
	if diff := cmp.Diff(numbered(0, 4), next.items); diff != "" {
		t.Error(diff)
	}
}

func TestATeeAcceptsWhatAllOfThemAccept(t *testing.T) {
	a, b := &room{left: 5}, &room{left: 3, err: writequeue.ErrFull}
	n, err := teeStage{a, b}.put(t.Context(), numbered(0, 5))
	if n != 3 || !errors.Is(err, writequeue.ErrFull) || len(a.items) != 5 {
		t.Errorf("accepted %d, error %v", n, err)
	}
}

func TestASourceTakesNoMoreOnceItIsToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		s := &sourceStage{stopping: stopping, next: gated(t, &room{left: 10}, 1, 1), offered: counter(), accepted: counter()}
		go func() {
			time.Sleep(3500 * time.Millisecond)
			stop()
		}()
		n, err := s.put(t.Context(), numbered(0, 10))
		if n != 4 || !errors.Is(err, writequeue.ErrClosed) {
			t.Errorf("accepted %d, error %v; want 4 and %v", n, err, writequeue.ErrClosed)
		}
		n, err = s.put(t.Context(), numbered(4, 1))
		if n != 0 || !errors.Is(err, writequeue.ErrClosed) {
			t.Errorf("accepted %d, error %v; want none and %v", n, err, writequeue.ErrClosed)
		}
		if offered, accepted := value(s.offered), value(s.accepted); offered != 10 || accepted != 4 {
			t.Errorf("%d offered and %d accepted, want 10 and 4", offered, accepted)
		}
	})
}

// failing is a sink that fails so many times.
type failing struct {
	times  int
	err    error
	writes int
}

func (s *failing) Write(context.Context, []writequeue.Item) error {
	s.writes++
	if s.writes <= s.times {
		return s.err
	}
	return nil
}

func TestASinkWithoutAQueueIsWrittenToAgainAndThenGivenUp(t *testing.T) {
	passing := errors.New("busy")
	for _, test := range []struct {
		name             string
		sink             *failing
		writes           int
		written, dropped uint64
	}{
		{"it works", &failing{}, 1, 3, 0},
		{"it fails twice", &failing{times: 2, err: passing}, 3, 3, 0},
		{"it fails for good", &failing{times: 99, err: passing}, directAttempts, 0, 3},
		{"it refuses for good", &failing{times: 99, err: writequeue.Permanent(passing)}, 1, 0, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				s := &directStage{
					name: "store", sink: test.sink, log: slog.New(slog.NewTextHandler(&log, nil)),
					writtenTotal: counter(), droppedTotal: counter(),
				}
				if n, err := s.put(t.Context(), numbered(0, 3)); n != 3 || err != nil {
					t.Errorf("accepted %d, error %v", n, err)
				}
				want := writequeue.Stats{Accepted: 3, Written: test.written, Dropped: test.dropped, MaxDepth: 3}
				if diff := cmp.Diff(want, s.Stats()); diff != "" {
					t.Error(diff)
				}
				if test.sink.writes != test.writes {
					t.Errorf("%d writes, want %d", test.sink.writes, test.writes)
				}
				if logged := strings.Contains(log.String(), "items are dropped"); logged != (test.dropped > 0) {
					t.Errorf("the log: %s", log.String())
				}
			})
		})
	}
}

func TestWhatASinkWithoutAQueueHasNotTakenWhenTimeIsOverIsNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		s := &directStage{
			name: "store", sink: &failing{times: 99, err: errors.New("busy")}, log: slog.New(slog.DiscardHandler),
			writtenTotal: counter(), droppedTotal: counter(),
		}
		if n, err := s.put(ctx, numbered(0, 3)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accepted %d, error %v", n, err)
		}
		if diff := cmp.Diff(writequeue.Stats{Refused: 3, MaxDepth: 3}, s.Stats()); diff != "" {
			t.Error(diff)
		}
	})
}
