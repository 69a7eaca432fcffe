package controller

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// longLease makes a lease last for twenty intervals.
func longLease(t *Target) { t.Lease = 20 * interval }

// times are when a gate took its leases, in intervals since began.
func times(g *gate, began time.Time) (all []float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, at := range g.appliedAt {
		all = append(all, at.Sub(began).Seconds()/interval.Seconds())
	}
	return all
}

func TestALeaseIsRenewedWhenItChangesOrExpiresAndNotBefore(t *testing.T) {
	for name, test := range map[string]struct {
		lease   time.Duration
		happens func(*fakePrometheus, *gate) // just before the sixth tick
		ticks   int
		want    string
	}{
		"three intervals are each renewed": {lease: 3 * interval, ticks: 5, want: "[0 1 2 3 4]"},
		"of six the half goes by":          {lease: 6 * interval, ticks: 8, want: "[0 3 6]"},
		"of twenty the half goes by":       {lease: 20 * interval, ticks: 30, want: "[0 10 20]"},
		"a change is told at once": {lease: 20 * interval, ticks: 18, want: "[0 5 15]",
			happens: func(p *fakePrometheus, _ *gate) { p.set(func(p *fakePrometheus) { p.depth["bars"] = 900 }) }},
		"a failed renewal is tried again at each tick": {lease: 10 * interval, ticks: 14, want: "[0 8 13]",
			happens: func(_ *fakePrometheus, g *gate) {
				g.set(func(g *gate) { g.err = errDown })
				time.AfterFunc(3*interval, func() { g.set(func(g *gate) { g.err = nil }) })
			}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				prometheus, g := newPrometheus(), newGate()
				began := time.Now()
				if test.happens != nil {
					time.AfterFunc(5*interval-time.Second, func() { test.happens(prometheus, g) })
				}
				c, stop := start(t, config(), prometheus, nil, target(t, "bars", g, func(t *Target) { t.Lease = test.lease }))
				pass(time.Duration(test.ticks)*interval - time.Second)
				if got := fmt.Sprint(times(g, began)); got != test.want {
					t.Errorf("leases were taken at the ticks %s, want %s", got, test.want)
				}
				if _, inForce := g.last(); !inForce {
					t.Error("the lease ran out")
				}
				if d := newest(t, c, "bars"); d.Outcome != OutcomeApplied || !d.InForce.Known() {
					t.Errorf("the newest decision is %s with %v in force: %s", d.Outcome, d.InForce, d.Explanation)
				}
				stop()
			})
		})
	}
}

// restless is a gate that has to be called at every tick.
type restless struct{ *gate }

func (restless) Restless() {}

func TestAGateThatLooksForReplicasIsCalledAtEveryTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		_, stop := start(t, config(), newPrometheus(), nil, target(t, "bars", restless{g}, longLease))
		pass(10*interval - time.Second)
		stop()
		if g.count() != 10 {
			t.Errorf("it was called %d times in 10 ticks", g.count())
		}
	})
}

// many is a reader of so many coordinators, whose depths move at each read.
type many struct {
	mu    sync.Mutex
	n     int
	reads int
}

func (m *many) Read(context.Context) (metrics.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	now := time.Now()
	s := metrics.Snapshot{ReadAt: now, Coordinators: make(map[string]metrics.Observation, m.n)}
	for i := range m.n {
		id := fmt.Sprint("bars-", i)
		s.Coordinators[id] = metrics.Observation{
			CoordinatorID: id, Depth: float64((i*31 + m.reads*7) % 1000), Capacity: 1000, Level: pressure.OK, HasLevel: true,
			Arrivals: metrics.Rate{PerSecond: 90, Known: true}, Drain: metrics.Rate{PerSecond: 100, Known: true}, At: now, Newest: now,
		}
	}
	return s, nil
}

// counted counts the calls of all gates that share it, and those under way.
type counted struct {
	mu             sync.Mutex
	calls          int
	inFlight, most int
}

func (c *counted) Apply(ctx context.Context, _ string, l coordinator.ScaleRequest) (coordinator.State, error) {
	c.mu.Lock()
	c.calls++
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inFlight--
	}()
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return coordinator.State{}, ctx.Err()
	}
	return coordinator.State{BasePerSecond: 100, EffectivePerSecond: 100 * l.Scale, Scale: l.Scale}, nil
}

// seen is how many calls there were, and how many of them at once at most.
func (c *counted) seen() (calls, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.most
}

func (c *counted) State(context.Context, string) (coordinator.State, error) {
	return coordinator.State{}, nil
}

// tenThousand are as many targets, all of whose gates are counted together.
func tenThousand(t *testing.T, g Gate, change ...func(*Target)) (all []Target) {
	for i := range 10_000 {
		all = append(all, target(t, fmt.Sprint("t-", i), g, append(change, func(t *Target) {
			t.CoordinatorIDs = []string{fmt.Sprint("bars-", i)}
		})...))
	}
	return all
}

func TestTenThousandTargetsTakeOneQueryATickAndBoundedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prometheus, g := &many{n: 10_000}, &counted{}
		c, stop := start(t, config(), prometheus, nil, tenThousand(t, g, longLease)...)
		pass(interval - time.Second)
		first, _ := g.seen()
		pass(4 * interval)
		stop()
		all, most := g.seen()
		if ticks := c.Health().Ticks; ticks != 5 || prometheus.reads != 5 {
			t.Errorf("%d ticks took %d queries, want 5 of both", ticks, prometheus.reads)
		}
		if first != 10_000 || most > slots {
			t.Errorf("the first tick made %d calls, all had %d at once, want 10000 and at most %d", first, most, slots)
		}
		// The depths move by 7 of 1000 a tick, so that few levels change.
		if later := all - first; later == 0 || later > 4*10_000/20 {
			t.Errorf("four more ticks made %d calls, want those of the changed levels alone", later)
		}
	})
}

func TestTheMemoryOfTenThousandTargetsIsBoundedAndFlat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mebibyte = 1 << 20
		empty := inUse() / mebibyte
		_, stop := start(t, config(), &many{n: 10_000}, nil, tenThousand(t, &counted{})...)
		defer stop()
		pass(5*interval - time.Second)
		few := inUse() / mebibyte
		pass(10 * interval)
		later := inUse() / mebibyte
		t.Logf("%.1f MiB after 5 ticks, %.1f after 15", few-empty, later-empty)
		if later-empty > 64 {
			t.Errorf("%.1f MiB are in use for 10,000 targets, want at most 64", later-empty)
		}
		if later > 1.1*few {
			t.Errorf("%.1f MiB are in use after 15 ticks, and were %.1f after 5", later, few)
		}
	})
}
