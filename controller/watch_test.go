package controller

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhoeverWatchesSeesEachTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := start(t, config(), newPrometheus(), nil, target(t, "bars", newGate()),
			target(t, "off", newGate(), func(t *Target) { t.Disabled = true }))
		defer stop()
		var at []time.Time
		for range 3 {
			<-c.Ticked()
			rows := c.Rows()
			if len(rows) != 2 || rows[0].Target.Name != "bars" || len(rows[0].Latest) != 1 || rows[1].Latest != nil {
				t.Fatalf("rows are %+v", rows)
			}
			at = append(at, rows[0].Latest[0].At)
		}
		got := []time.Duration{at[1].Sub(at[0]), at[2].Sub(at[1])}
		if diff := cmp.Diff([]time.Duration{interval, interval}, got); diff != "" {
			t.Errorf("time between the decisions that were seen (-want +got):\n%s", diff)
		}
	})
}

func TestHealthTellsOfTicksAndQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		idle, err := New(config(), p, []Target{target(t, "bars", newGate())}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Health{Holder: "a", IntervalSeconds: 5}, idle.Health()); diff != "" {
			t.Errorf("health before the first tick (-want +got):\n%s", diff)
		}
		began := time.Now()
		c, stop := start(t, config(), p, nil, target(t, "bars", newGate()))
		defer stop()
		pass(time.Second)
		p.set(func(p *fakePrometheus) { p.err = errDown })
		pass(interval)
		last := began.Add(interval)
		want := Health{
			Holder: "a", IntervalSeconds: 5, Ticks: 2, LastTick: &last,
			Queries: 2, QueryErrors: 1, QueryError: "connection refused", LastSnapshot: &began,
		}
		if diff := cmp.Diff(want, c.Health()); diff != "" {
			t.Errorf("health after an error (-want +got):\n%s", diff)
		}
		p.set(func(p *fakePrometheus) { p.err, p.slow = nil, 3500*time.Millisecond })
		pass(6 * interval)
		if h := c.Health(); h.QueryError != "" || h.LastSnapshot.Equal(began) || !h.QueryPending {
			t.Errorf("health while queries are slow is %+v", h)
		}
	})
}
