package replay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/pipeline/source/replay"
	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustRead(t *testing.T, csv string) trace.Trace {
	t.Helper()
	read, err := trace.Read(strings.NewReader(csv))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// tick is less than the distance of two items.
const tick = 10 * time.Millisecond

// arrival is an item as a pipeline saw it.
type arrival struct {
	After time.Duration // since the start
	Key   string
}

// record collects what is put.
type record struct {
	start    time.Time
	arrivals []arrival
	items    []writequeue.Item
	wait     time.Duration // that each Put takes
	err      error         // that each Put returns
}

func (r *record) put(ctx context.Context, items []writequeue.Item) (int, error) {
	time.Sleep(r.wait)
	for _, item := range items {
		r.arrivals = append(r.arrivals, arrival{time.Since(r.start), item.Key})
		r.items = append(r.items, item)
	}
	return len(items), r.err
}

func key(sequence uint64) string { return fmt.Sprint("k", sequence) }

func counts(r *record, slots func(func(replay.Slot) bool)) *replay.Counts {
	r.start = time.Now()
	return &replay.Counts{
		Source: "open", Slots: slots, Key: key, Put: r.put,
		Skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "skipped"}),
		Lag:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "lag"}),
	}
}

func TestACountIsSpreadOverItsInterval(t *testing.T) {
	csv := mustRead(t, "0,2\n1,0\n2,4\n")
	synctest.Test(t, func(t *testing.T) {
		var got record
		if err := counts(&got, replay.Slots(csv, 1, 1, false)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []arrival{
			{0, "k0"}, {500 * time.Millisecond, "k1"},
			{2000 * time.Millisecond, "k2"}, {2250 * time.Millisecond, "k3"}, {2500 * time.Millisecond, "k4"}, {2750 * time.Millisecond, "k5"},
		}
		if diff := cmp.Diff(want, got.arrivals); diff != "" {
			t.Error(diff)
		}
		if passed := time.Since(got.start); passed != 3*time.Second {
			t.Errorf("it took %v, want the length of the recording", passed)
		}
		wantPayload := `{"source":"open","sequence":3,"t_seconds":2.25}`
		if diff := cmp.Diff(wantPayload, string(got.items[3].Payload)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSpeedMultiplierAndLoopsChangeTheTimesAndTheNumbers(t *testing.T) {
	csv := mustRead(t, "0,1\n1,1\n")
	var got []replay.Slot
	for slot := range replay.Slots(csv, 2, 1.5, true) {
		got = append(got, slot)
		if len(got) == 5 {
			break
		}
	}
	half := 500 * time.Millisecond
	want := []replay.Slot{{0, half, 1}, {half, half, 2}, {2 * half, half, 1}, {3 * half, half, 2}, {4 * half, half, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMultipliedCountsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.IntRange(0, 1000), 1, 200).Draw(t, "counts")
		tenths := rapid.IntRange(1, 50).Draw(t, "tenths")
		var csv trace.Trace
		total := 0
		for i, v := range values {
			csv.Points = append(csv.Points, trace.Point{At: time.Duration(i) * time.Second, Value: float64(v)})
			total += v
		}
		csv.Interval = time.Second
		made := 0
		for slot := range replay.Slots(csv, 1, float64(tenths)/10, false) {
			made += slot.Count
		}
		if want := total * tenths / 10; made != want {
			t.Fatalf("%d items, want %d", made, want)
		}
	})
}

func TestTheSameRecordingGivesTheSameKeys(t *testing.T) {
	csv := mustRead(t, "0,30\n0.1,2000\n0.2,5\n")
	keys := func(wait time.Duration) (keys []string) {
		synctest.Test(t, func(t *testing.T) {
			got := record{wait: wait}
			if err := counts(&got, replay.Slots(csv, 1, 1, false)).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, a := range got.arrivals {
				keys = append(keys, a.Key)
			}
		})
		return keys
	}
	fast, slow := keys(0), keys(70*time.Millisecond)
	if len(fast) != 2035 {
		t.Errorf("%d items, want 2035", len(fast))
	}
	if diff := cmp.Diff(fast, slow); diff != "" {
		t.Error("a slow pipeline got other items:", diff)
	}
}

func TestItemsThatComeTooLateAreSkippedAndCounted(t *testing.T) {
	csv := mustRead(t, "0,10\n1,10\n")
	synctest.Test(t, func(t *testing.T) {
		got := record{wait: 450 * time.Millisecond}
		c := counts(&got, replay.Slots(csv, 1, 1, false))
		c.MaxLag = 300 * time.Millisecond
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var counter dto.Metric
		if err := c.Skipped.Write(&counter); err != nil {
			t.Fatal(err)
		}
		skipped := int(counter.GetCounter().GetValue())
		if skipped == 0 || skipped+len(got.arrivals) != 20 {
			t.Errorf("%d skipped and %d offered, want 20 in all", skipped, len(got.arrivals))
		}
		for _, item := range got.items {
			number := int(item.Time.Sub(got.start) / (100 * time.Millisecond))
			if item.Key != key(uint64(number)) {
				t.Errorf("the item of %v has the key %s: what is skipped keeps its number", item.Time.Sub(got.start), item.Key)
			}
		}
	})
}

func TestASourceEndsWithItsContextOrTheIntake(t *testing.T) {
	csv := mustRead(t, "0,10\n1,10\n")
	broken := errors.New("no such provider")
	for _, test := range []struct {
		name string
		put  error
		want error
	}{
		{"the queue is closed", writequeue.ErrClosed, nil},
		{"something is broken", broken, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := record{err: test.put}
				err := counts(&got, replay.Slots(csv, 1, 1, true)).Run(t.Context())
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
	t.Run("the context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second-tick)
			defer cancel()
			var got record
			if err := counts(&got, replay.Slots(csv, 1, 1, true)).Run(ctx); err != nil {
				t.Error(err)
			}
			if len(got.arrivals) != 900 {
				t.Errorf("%d items in 90 s, want 900", len(got.arrivals))
			}
		})
	})
	t.Run("a refusal for want of room ends nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := record{err: writequeue.ErrFull}
			if err := counts(&got, replay.Slots(csv, 1, 1, false)).Run(t.Context()); err != nil || len(got.arrivals) != 20 {
				t.Errorf("got %v after %d items, want all 20 offered", err, len(got.arrivals))
			}
		})
	})
}

func items(r *record, content string) *replay.Items {
	r.start = time.Now()
	return &replay.Items{
		Open:     func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
		KeyField: "id", Key: key, LongestLine: 1 << 10, ItemsPerBatch: 2, Put: r.put,
	}
}

func TestItemsComeWithTheirKeysOrOnesOfTheirLines(t *testing.T) {
	const content = `{"id":"a","p":1}` + "\n\n" + `{"p":2}` + "\n" + `{"id":7}` + "\n" + `{"id":null}`
	synctest.Test(t, func(t *testing.T) {
		var got record
		if err := items(&got, content).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []arrival{{0, "a"}, {0, "k3"}, {0, "7"}, {0, "k5"}}
		if diff := cmp.Diff(want, got.arrivals); diff != "" {
			t.Error(diff)
		}
		if payload := string(got.items[0].Payload); payload != `{"id":"a","p":1}` {
			t.Errorf("payload %s, want the line as it stands", payload)
		}
	})
}

func TestEachRoundHasKeysOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var got record
		source := items(&got, `{"id":"a"}`+"\n"+`{"p":2}`)
		source.Loop, source.PerSecond = true, 1
		if err := source.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, a := range got.arrivals {
			keys = append(keys, a.Key)
		}
		want := []string{"a", "k2", "a#2", "k4", "a#3", "k6"}
		if diff := cmp.Diff(want, keys[:6]); diff != "" {
			t.Error(diff)
		}
		slices.Sort(keys)
		if len(slices.Compact(slices.Clone(keys))) != len(keys) {
			t.Errorf("a key came twice: %v", keys)
		}
	})
}

func TestItemsAreOfferedAtTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got record
		source := items(&got, strings.Repeat("{}\n", 5))
		source.PerSecond = 4
		if err := source.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var after []time.Duration
		for _, a := range got.arrivals {
			after = append(after, a.After)
		}
		quarter := 250 * time.Millisecond
		want := []time.Duration{0, quarter, 2 * quarter, 3 * quarter, 4 * quarter}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Error(diff)
		}
	})
}

func TestABadLineEndsTheSourceAndIsNamed(t *testing.T) {
	for content, want := range map[string]string{
		"{}\n[1]":                 "line 2",
		`{"id":[]}`:               "line 1",
		strings.Repeat(" ", 2000): "line 1",
	} {
		var got record
		if err := items(&got, content).Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
	}
}
