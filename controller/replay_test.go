package controller

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/metrics"
)

// recorder writes down what a reader answers, and when.
type recorder struct {
	Reader
	ticks []recorded
}

type recorded struct {
	at       time.Time
	snapshot metrics.Snapshot
}

func (r *recorder) Read(ctx context.Context) (metrics.Snapshot, error) {
	s, err := r.Reader.Read(ctx)
	r.ticks = append(r.ticks, recorded{time.Now(), s})
	return s, err
}

func TestAReplayDecidesWhatTheLoopDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		p.rate = metrics.Rate{PerSecond: 40, Known: true}
		drain := func(t *Target) {
			t.CoordinatorIDs = []string{"ticks"}
			t.Providers[0].LawName, t.Providers[0].Law = policy.DrainName, policy.NewDrain()
		}
		targets := func() []Target { return []Target{target(t, "bars", newGate()), target(t, "ticks", newGate(), drain)} }
		reader := &recorder{Reader: p}
		c, stop := start(t, config(), reader, nil, targets()...)
		for i, depth := range []float64{0, 300, 600, 900, 900, 650, 300, 100, 0, 0} {
			p.set(func(p *fakePrometheus) {
				p.depth["bars"], p.depth["ticks"] = depth, depth/2
				p.age["bars"] = time.Duration(i*i) * time.Second / 2
				if i == 5 {
					delete(p.depth, "bars")
				}
			})
			pass(2 * interval)
		}
		stop()
		want, _ := c.Decisions("", 100)
		slices.Reverse(want) // the oldest first

		replay, err := NewReplay(config(), targets(), slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		var got []*Decision
		for _, tick := range reader.ticks {
			decisions := replay.Tick(t.Context(), tick.at, tick.snapshot, nil)
			slices.Reverse(decisions)
			got = append(got, decisions...)
		}
		same := cmp.Comparer(func(a, b Number) bool { return a == b || !a.Known() && !b.Known() })
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Decision{}), same); diff != "" {
			t.Errorf("the replay differs:\n%s", diff)
		}
		if len(got) < 40 {
			t.Errorf("%d decisions, want those of twenty ticks and two targets", len(got))
		}
	})
}

func TestAReplayFallsBackWhereTheSignalsCannotBeRead(t *testing.T) {
	g := newGate()
	replay, err := NewReplay(config(), []Target{target(t, "bars", g)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	if d := replay.Tick(t.Context(), now, metrics.Snapshot{}, errDown)[0]; d.Reason != ReasonWaiting || d.Fault != FaultQueryFailed {
		t.Errorf("at first the reason is %s and the fault %s", d.Reason, d.Fault)
	}
	d := replay.Tick(t.Context(), now.Add(time.Minute), metrics.Snapshot{}, errDown)[0]
	if d.Reason != ReasonFailMode || d.Scale != 0.5 || g.count() != 1 {
		t.Errorf("after a minute the reason is %s, the scale %v and %d leases", d.Reason, d.Scale, g.count())
	}
}
