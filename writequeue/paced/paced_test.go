package paced_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/discard"
	"github.com/headgate/headgate/writequeue/paced"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is a store that notes when each batch came.
type log struct {
	mu    sync.Mutex
	epoch time.Time
	lines []string
}

func newLog() *log { return &log{epoch: time.Now()} }

func (l *log) Write(_ context.Context, batch []writequeue.Item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%v: %d", time.Since(l.epoch).Round(time.Microsecond), len(batch)))
	return nil
}

func profile(t *testing.T, csv string) trace.Trace {
	t.Helper()
	p, err := trace.Read(strings.NewReader(csv))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newSink(t *testing.T, next writequeue.Sink, capacity trace.Trace) *paced.Sink {
	t.Helper()
	s, err := paced.New(next, capacity)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBatchesAreServedAtTheProfilesPace(t *testing.T) {
	tests := map[string]struct {
		csv     string
		batches []int
		want    []string
	}{
		"a constant rate": {"0,100", []int{50, 100, 25},
			[]string{"500ms: 50", "1.5s: 100", "1.75s: 25"}},
		"a dip in the middle of a batch": {"0,100\n1,10\n3,100", []int{100, 70},
			[]string{"1s: 100", "3.5s: 70"}},
		"a stall that ends": {"0,100\n1,0\n10,50", []int{50, 100},
			[]string{"500ms: 50", "11s: 100"}},
		"the last value held for ever": {"0,10\n1,20", []int{10, 200},
			[]string{"1s: 10", "11s: 200"}},
		"a batch over many short steps": {"0,10\n0.1,20\n0.2,30\n0.3,40\n0.4,50", []int{15},
			[]string{"500ms: 15"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newLog()
				s := newSink(t, store, profile(t, tt.csv))
				for _, n := range tt.batches {
					if err := s.Write(context.Background(), make([]writequeue.Item, n)); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(tt.want, store.lines); diff != "" {
					t.Errorf("writes (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAllWritersTogetherHaveTheCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLog()
		s := newSink(t, store, paced.Constant(1000))
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range 10 {
					if err := s.Write(context.Background(), make([]writequeue.Item, 250)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if got := store.lines[39]; got != "10s: 250" {
			t.Errorf("the last of 40 batches of 250 came at %s, want 10s", got)
		}
	})
}

func TestUnusedCapacityIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLog()
		s := newSink(t, store, paced.Constant(100))
		time.Sleep(time.Hour)
		if err := s.Write(context.Background(), make([]writequeue.Item, 100)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1h0m1s: 100"}, store.lines); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestAChangeAppliesToTheBatchThatIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLog()
		s := newSink(t, store, paced.Constant(0))
		var writer sync.WaitGroup
		writer.Go(func() { _ = s.Write(context.Background(), make([]writequeue.Item, 100)) })
		for _, step := range []struct {
			wait time.Duration
			rate float64
		}{{time.Minute, 10}, {5 * time.Second, 0}, {time.Minute, 100}} {
			time.Sleep(step.wait)
			if err := s.Set(paced.Constant(step.rate)); err != nil {
				t.Fatal(err)
			}
			if got := s.RowsPerSecond(); got != step.rate {
				t.Errorf("capacity is %v, want %v", got, step.rate)
			}
		}
		writer.Wait() // half of it at 10/s, the rest at 100/s
		if diff := cmp.Diff([]string{"2m5.5s: 100"}, store.lines); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestAWriterThatGivesUpWritesNothingAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newLog()
		s := newSink(t, store, profile(t, "0,0\n60,100"))
		var writers sync.WaitGroup
		for range 2 { // one is served, one waits for its turn
			writers.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if err := s.Write(ctx, make([]writequeue.Item, 1000)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error is %v, want %v", err, context.DeadlineExceeded)
				}
			})
		}
		writers.Wait()
		if err := s.Write(context.Background(), make([]writequeue.Item, 100)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1m1s: 100"}, store.lines); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestTheErrorOfTheStoreIsPassedOn(t *testing.T) {
	broken := errors.New("broken")
	s := newSink(t, failing{broken}, paced.Constant(1e9))
	if err := s.Write(context.Background(), make([]writequeue.Item, 1)); err != broken {
		t.Errorf("error is %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Write(context.Context, []writequeue.Item) error { return f.err }

func TestProfilesThatMakeNoSenseAreRefused(t *testing.T) {
	for name, p := range map[string]trace.Trace{
		"empty":                  {},
		"does not begin at 0":    {Points: []trace.Point{{At: 1, Value: 1}}},
		"negative":               paced.Constant(-1),
		"not a number":           paced.Constant(math.NaN()),
		"infinite":               paced.Constant(math.Inf(1)),
		"time that runs back":    {Points: []trace.Point{{At: 0, Value: 1}, {At: 2, Value: 1}, {At: 1, Value: 1}}},
		"two values at one time": {Points: []trace.Point{{At: 0, Value: 1}, {At: 0, Value: 2}}},
	} {
		if _, err := paced.New(discard.Sink{}, p); len(invalid.All(err)) != 1 {
			t.Errorf("%s: error is %v, want one that says what is right", name, err)
		}
		s := newSink(t, discard.Sink{}, paced.Constant(7))
		if err := s.Set(p); err == nil || s.RowsPerSecond() != 7 {
			t.Errorf("%s: Set returned %v and the capacity is %v, want an error and 7", name, err, s.RowsPerSecond())
		}
	}
}
