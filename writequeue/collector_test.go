package writequeue_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/writequeue"
)

// own are the names of the series that the catalog has of the write queue:
// those with a coordinator's id that this package exports.
func own(t *testing.T, q *writequeue.Queue) []string {
	t.Helper()
	descs := make(chan *prometheus.Desc, 100)
	q.Describe(descs)
	close(descs)
	var names []string
	for desc := range descs {
		_, rest, _ := strings.Cut(desc.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestAllSeriesAreThereFromTheStart(t *testing.T) {
	r := newRig(t, newStore(nil), nil)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Queue)

	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, error %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		got = append(got, family.GetName())
		series, ok := metrics.Find(family.GetName())
		if !ok || string(series.Kind) != strings.ToLower(family.GetType().String()) {
			t.Errorf("%s is a %v, but a %q in the catalog", family.GetName(), family.GetType(), series.Kind)
		}
	}
	if diff := cmp.Diff(own(t, r.Queue), got); diff != "" {
		t.Errorf("series (-described +collected):\n%s", diff)
	}
	durable := []string{metrics.QueueShared, metrics.ItemsRepeated, metrics.ItemsGivenBack}
	var want []string
	for _, series := range metrics.Catalog() {
		if strings.HasPrefix(series.Name, "coordinator_") && !slices.Contains(durable, series.Name) {
			want = append(want, series.Name)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-catalog +collected):\n%s", diff)
	}
}

func TestTheSeriesTellWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(func(_ context.Context, write int, batch []writequeue.Item) error {
			switch {
			case write == 1:
				return errBusy
			case has(batch, "poison"):
				return writequeue.Permanent(errBroken)
			}
			return nil
		})
		r := newRig(t, s, func(c *writequeue.Config) {
			c.Capacity, c.Overflow, c.Workers, c.BatchSize = 10, writequeue.DropOldest, 1, 8
		})
		put := items("a", 13)
		put[5].Key = "poison"
		mustPut(t, r.Queue, put) // 3 dropped, 10 wait
		r.start(t)
		time.Sleep(time.Minute)
		mustPut(t, r.Queue, items("late", 6))
		want := `
# HELP coordinator_backpressure_events_total Feedback events published, by the level that they told.
# TYPE coordinator_backpressure_events_total counter
coordinator_backpressure_events_total{coordinator_id="bars-coord",level="hard"} 1
coordinator_backpressure_events_total{coordinator_id="bars-coord",level="ok"} 1
coordinator_backpressure_events_total{coordinator_id="bars-coord",level="soft"} 2
# HELP coordinator_backpressure_hard 1 while the write queue's level is HARD, else 0.
# TYPE coordinator_backpressure_hard gauge
coordinator_backpressure_hard{coordinator_id="bars-coord"} 0
# HELP coordinator_backpressure_ok 1 while the write queue's level is OK, else 0.
# TYPE coordinator_backpressure_ok gauge
coordinator_backpressure_ok{coordinator_id="bars-coord"} 0
# HELP coordinator_backpressure_soft 1 while the write queue's level is SOFT, else 0.
# TYPE coordinator_backpressure_soft gauge
coordinator_backpressure_soft{coordinator_id="bars-coord"} 1
# HELP coordinator_items_accepted_total Items accepted into the write queue.
# TYPE coordinator_items_accepted_total counter
coordinator_items_accepted_total{coordinator_id="bars-coord"} 19
# HELP coordinator_items_dead_lettered_total Accepted items that went to the dead letters.
# TYPE coordinator_items_dead_lettered_total counter
coordinator_items_dead_lettered_total{coordinator_id="bars-coord"} 1
# HELP coordinator_items_dropped_total Accepted items that were lost, by reason.
# TYPE coordinator_items_dropped_total counter
coordinator_items_dropped_total{coordinator_id="bars-coord",reason="dead_letters_failing"} 0
coordinator_items_dropped_total{coordinator_id="bars-coord",reason="overflow"} 3
# HELP coordinator_items_written_total Items that the store has taken.
# TYPE coordinator_items_written_total counter
coordinator_items_written_total{coordinator_id="bars-coord"} 9
# HELP coordinator_queue_capacity The most items that may wait in the write queue.
# TYPE coordinator_queue_capacity gauge
coordinator_queue_capacity{coordinator_id="bars-coord"} 10
# HELP coordinator_queue_depth Items waiting in the write queue, with those that a worker is writing.
# TYPE coordinator_queue_depth gauge
coordinator_queue_depth{coordinator_id="bars-coord"} 6
# HELP coordinator_queue_max_depth The most items that waited at once since the start.
# TYPE coordinator_queue_max_depth gauge
coordinator_queue_max_depth{coordinator_id="bars-coord"} 10
# HELP coordinator_store_breaker_state 1 for the state that the store's circuit breaker is in, else 0.
# TYPE coordinator_store_breaker_state gauge
coordinator_store_breaker_state{coordinator_id="bars-coord",state="closed"} 1
coordinator_store_breaker_state{coordinator_id="bars-coord",state="half_open"} 0
coordinator_store_breaker_state{coordinator_id="bars-coord",state="open"} 0
# HELP coordinator_write_retries_total Writes that were tried again after a failure that may pass.
# TYPE coordinator_write_retries_total counter
coordinator_write_retries_total{coordinator_id="bars-coord"} 1
`
		if err := testutil.CollectAndCompare(r.Queue, strings.NewReader(want),
			metrics.BackpressureEvents, metrics.BackpressureHard, metrics.BackpressureOK, metrics.BackpressureSoft,
			metrics.ItemsAccepted, metrics.ItemsDeadLettered, metrics.ItemsDropped, metrics.ItemsWritten,
			metrics.QueueCapacity, metrics.QueueDepth, metrics.QueueMaxDepth,
			metrics.StoreBreakerState, metrics.WriteRetries); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]uint64{metrics.QueueWait: 9, metrics.WriteBatchItems: 2, metrics.WriteDuration: 9} {
			if got := observations(t, r.Queue, name); got != want {
				t.Errorf("%s has %d observations, want %d", name, got, want)
			}
		}
	})
}

// observations is how often a histogram was observed, over all its labels.
func observations(t *testing.T, q *writequeue.Queue, name string) (n uint64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(q)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				n += m.GetHistogram().GetSampleCount()
				if m.GetHistogram().GetSchema() == 0 && len(m.GetHistogram().GetPositiveSpan()) == 0 && m.GetHistogram().GetZeroThreshold() == 0 {
					t.Errorf("%s has no native buckets", name)
				}
			}
		}
	}
	return n
}
