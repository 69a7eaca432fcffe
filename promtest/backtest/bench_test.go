package backtest

import (
	"context"
	"io"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/headgate/headgate/metrics"
)

// day is one of a coordinator that is scraped every five seconds: arrivals with
// a daily swing, and a store that is slow for half an hour in every six.
func day() history {
	start := time.Unix(1_760_000_000, 0)
	named := map[string]*series{}
	add := func(at time.Time, name string, v float64) {
		if named[name] == nil {
			named[name] = &series{labels: labels.FromStrings("__name__", name, "coordinator_id", "bars", "instance", "p:9400", "job", "pipeline", "provider", "ibkr")}
		}
		named[name].add(at.UnixMilli(), v)
	}
	const ticks, capacity = 24 * 720, 10_000.0
	depth, accepted, written := 0.0, 0.0, 0.0
	for i := range ticks {
		at := start.Add(time.Duration(i) * 5 * time.Second)
		in := 5 * (900 + 600*math.Sin(2*math.Pi*float64(i)/ticks))
		take := 5 * 1600.0
		if i/360%12 == 0 {
			take = 5 * 500
		}
		out := min(take, depth+in)
		in = min(in, capacity-depth+out)
		depth, accepted, written = depth+in-out, accepted+in, written+out
		for name, v := range map[string]float64{
			metrics.QueueDepth: depth, metrics.QueueCapacity: capacity, metrics.ItemsAccepted: accepted, metrics.ItemsWritten: written,
			metrics.BackpressureSoft: 0, metrics.BackpressureHard: 0, metrics.BaseRate: 2000, metrics.ScaleFactor: 1,
		} {
			add(at, name, v)
		}
	}
	var h history
	for _, s := range named {
		h = append(h, s)
	}
	return h
}

func BenchmarkDay(b *testing.B) {
	b.Setenv("HEADGATE_COORDINATOR_IDS", "bars")
	h := day()
	for name, policy := range map[string]string{"one policy": "drain", "all policies": "all"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := Command{Source: recordedFile, Policy: policy, Floor: 1}
				r, err := c.prepare(context.Background(), io.Discard)
				if err != nil {
					b.Fatal(err)
				}
				first, last, _ := h.span([]string{metrics.QueueDepth})
				r.source.ranger, r.from, r.to = h.querier(), first, last
				if err := r.walk(context.Background()); err != nil {
					b.Fatal(err)
				}
				if r.pasts[0].unknown > time.Minute {
					b.Fatalf("for %v nothing is known", r.pasts[0].unknown)
				}
			}
		})
	}
}
