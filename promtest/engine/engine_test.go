package engine

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/headgate/headgate/metrics"
)

// load returns a querier of series in promqltest's notation, a minute of them.
func load(t *testing.T, series string) *Querier {
	t.Helper()
	loader, err := promqltest.NewLazyLoader("load 10s\n"+series, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loader.Close(); err != nil {
			t.Error(err)
		}
	})
	loader.WithSamplesTill(time.Unix(60, 0), func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	return &Querier{Engine: loader.QueryEngine(), Queryable: loader.Queryable()}
}

func TestTheReaderReadsASnapshotFromTheEngine(t *testing.T) {
	q := load(t, `  coordinator_queue_depth{coordinator_id="bars"} 0+10x6
  coordinator_queue_capacity{coordinator_id="bars"} 1000x6
  coordinator_backpressure_soft{coordinator_id="bars"} 0x6
  coordinator_backpressure_hard{coordinator_id="bars"} 0x6
  coordinator_items_accepted_total{coordinator_id="bars"} 0+500x6
  coordinator_items_written_total{coordinator_id="bars"} 0+400x6
  coordinator_queue_depth{coordinator_id="ticks"} 5 5 stale
  coordinator_queue_depth{coordinator_id="bonds"} 7 _x6
`)
	reader, err := metrics.NewReader(q, []metrics.Names{metrics.DefaultNames()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Depth, Capacity, Drain float64
		Age                    time.Duration
	}
	got := map[string]seen{}
	for _, at := range []time.Time{time.Unix(20, 0), time.Unix(34, 0)} {
		q.Now = at
		snapshot, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		for id, o := range snapshot.Coordinators {
			if o.Capacity != o.Capacity {
				o.Capacity = -1
			}
			got[id] = seen{o.Depth, o.Capacity, o.Drain.PerSecond, snapshot.Age(o)}
		}
	}
	want := map[string]seen{
		"bars":  {30, 1000, 40, 4 * time.Second},
		"bonds": {7, -1, 0, 34 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheFirstSampleOfAllTimeIsRead(t *testing.T) {
	q := load(t, `  coordinator_queue_depth{coordinator_id="bars"} 3x6`)
	q.Now = time.Unix(0, 0)
	reader, err := metrics.NewReader(q, []metrics.Names{metrics.DefaultNames()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := reader.Read(t.Context())
	if err != nil || snapshot.Coordinators["bars"].Depth != 3 {
		t.Errorf("got %+v and %v, want a depth of 3", snapshot, err)
	}
}

func TestAHistogramIsNoDepth(t *testing.T) {
	q := load(t, `  coordinator_queue_depth{coordinator_id="bars"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x6`)
	q.Now = time.Unix(10, 0)
	reader, err := metrics.NewReader(q, []metrics.Names{metrics.DefaultNames()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := reader.Read(t.Context())
	if _, has := snapshot.Coordinators["bars"]; err != nil || has {
		t.Errorf("got %+v and %v, want no coordinator", snapshot, err)
	}
}

func TestAnAnswerIsAVectorOrAScalarOrAnError(t *testing.T) {
	q := load(t, `  up 1x6`)
	for expr, want := range map[string]string{
		"up": "up => 1 @[7]", "1+1": "scalar: 2 @[7]", "up[1m]": "", "up{": "", `"text"`: "",
	} {
		value, _, _, err := q.Query(context.Background(), expr, time.Unix(7, 0))
		if (err != nil) != (want == "") {
			t.Errorf("%s: error %v", expr, err)
		}
		if err == nil && value.String() != want {
			t.Errorf("%s: got %s, want %s", expr, value, want)
		}
	}
}

func TestARangeIsTheInstantQueriesOfItsSteps(t *testing.T) {
	q := load(t, `  coordinator_queue_depth{coordinator_id="bars"} 0+10x6
  coordinator_queue_depth{coordinator_id="ticks"} 5 5 stale
  coordinator_items_written_total{coordinator_id="bars"} 0+400x3 {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x3
`)
	reader, err := metrics.NewReader(q, []metrics.Names{metrics.DefaultNames()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	steps := v1.Range{Start: time.Unix(3, 0), End: time.Unix(60, 0), Step: 7 * time.Second}
	value, _, _, err := q.QueryRange(t.Context(), reader.Query(), steps)
	if err != nil {
		t.Fatal(err)
	}
	got := map[model.Time]map[string]bool{}
	add := func(at model.Time, s *model.Sample) {
		if got[at] == nil {
			got[at] = map[string]bool{}
		}
		got[at][s.String()] = true
	}
	for _, stream := range value.(model.Matrix) {
		for _, p := range stream.Values {
			add(p.Timestamp, &model.Sample{Metric: stream.Metric, Timestamp: p.Timestamp, Value: p.Value})
		}
		for _, p := range stream.Histograms {
			add(p.Timestamp, &model.Sample{Metric: stream.Metric, Timestamp: p.Timestamp, Histogram: p.Histogram})
		}
	}
	for at := steps.Start; !at.After(steps.End); at = at.Add(steps.Step) {
		value, _, _, err := q.Query(t.Context(), reader.Query(), at)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for _, s := range value.(model.Vector) {
			want[s.String()] = true
		}
		if diff := cmp.Diff(want, got[model.TimeFromUnixNano(at.UnixNano())]); diff != "" {
			t.Errorf("at %v: %s", at.Unix(), diff)
		}
	}
}

func TestARangeOfWhatIsNoVectorIsAnError(t *testing.T) {
	q := load(t, `  up 1x6`)
	steps := v1.Range{Start: time.Unix(0, 0), End: time.Unix(60, 0), Step: time.Second}
	for _, expr := range []string{"up{", `"text"`, "up[1m]"} {
		if _, _, _, err := q.QueryRange(t.Context(), expr, steps); err == nil {
			t.Errorf("%s is answered", expr)
		}
	}
}
