package controller

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/controller/shard"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
)

// readTimes notes when it is asked.
type readTimes struct {
	Reader
	at []time.Time
}

func (r *readTimes) Read(ctx context.Context) (metrics.Snapshot, error) {
	r.at = append(r.at, time.Now())
	return r.Reader.Read(ctx)
}

func TestTicksBeginAtTheirPhaseAndTheFirstAtOnce(t *testing.T) {
	for _, phase := range []time.Duration{0, time.Millisecond, 2 * time.Second, interval - time.Nanosecond} {
		t.Run(phase.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1500 * time.Millisecond) // the clock stood at a whole interval
				began := time.Now()
				cfg := config()
				cfg.Phase = phase
				reader := &readTimes{Reader: newPrometheus()}
				_, stop := start(t, cfg, reader, nil, target(t, "bars", newGate()))
				pass(4 * interval)
				stop()
				if !reader.at[0].Equal(began) {
					t.Errorf("the first tick is %v late", reader.at[0].Sub(began))
				}
				for i, at := range reader.at[1:] {
					if got := time.Duration(at.UnixNano() % int64(interval)); got != phase {
						t.Errorf("tick %d begins %v after a whole interval, want %v", i+2, got, phase)
					}
					if wait := at.Sub(reader.at[i]); wait <= 0 || wait > interval {
						t.Errorf("tick %d comes %v after the one before", i+2, wait)
					}
				}
			})
		})
	}
}

func TestAPhaseIsWithinTheInterval(t *testing.T) {
	for _, phase := range []time.Duration{-1, interval, time.Hour} {
		cfg := config()
		cfg.Phase = phase
		_, err := New(cfg, newPrometheus(), []Target{target(t, "bars", newGate())}, nil)
		if all := invalid.All(err); len(all) != 1 || all[0].Field != "phase" {
			t.Errorf("a phase of %v: %v", phase, err)
		}
	}
}

func TestAShardWithoutTargetsRunsAndIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := New(config(), newPrometheus(), nil, nil); err == nil {
			t.Error("a controller of all targets has none and takes that for right")
		}
		cfg := config()
		cfg.Shard = shard.Shard{Index: 3, Of: 5}
		c, stop := start(t, cfg, newPrometheus(), nil)
		defer stop()
		pass(2 * interval)
		if err := c.Ready(); err != nil || c.Health().Ticks < 2 {
			t.Errorf("it is not ready: %v, %+v", err, c.Health())
		}
	})
}

func TestTheShardIsToldWhereThereAreSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, part := range []shard.Shard{{}, {Of: 1}, {Index: 2, Of: 5}} {
			cfg := config()
			cfg.Shard = part
			c, stop := start(t, cfg, newPrometheus(), nil, target(t, "bars", newGate()))
			pass(time.Second)
			var served struct{ Shard *shard.Shard }
			if code := ask(t, c.Handler(prom.NewRegistry(), access.Everyone()), "/v1/targets", &served); code != http.StatusOK {
				t.Errorf("status %d", code)
			}
			want := &part
			if part.Only() {
				want = nil
			}
			for where, got := range map[string]*shard.Shard{"/v1/targets": served.Shard, "the health": c.Health().Shard} {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s of %v (-want +got):\n%s", where, part, diff)
				}
			}
			stop()
		}
	})
}

// local is a coordinator in this process as the controller sees it.
type local struct{ *coordinator.Coordinator }

func (l local) Apply(_ context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	return l.Coordinator.Apply(provider, lease)
}

func (l local) State(_ context.Context, provider string) (coordinator.State, error) {
	return l.Coordinator.State(provider)
}

// canal is many providers, each at a coordinator of its own, and the controllers
// that divide them.
type canal struct {
	gates []local
	stops map[int]func() // of the controllers that run, by shard
}

const canalGates = 60

func newCanal(t *testing.T, gates int) *canal {
	t.Helper()
	c := &canal{stops: map[int]func(){}}
	for range gates {
		gate := coordinator.New()
		c.gates = append(c.gates, local{gate})
		if err := gate.Register(coordinator.Provider{
			Name: "ibkr", BasePerSecond: 100, Burst: 10, FloorPerSecond: 1, FailMode: coordinator.FailSafe, SafeScale: 0.5,
		}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *canal) close() {
	for _, gate := range c.gates {
		gate.Close()
	}
}

func (c *canal) url(i int) string { return fmt.Sprintf("http://gate-%d:9400", i) }

// run starts the controller of a shard, whose law gives a scale by which it is
// known.
func (c *canal) run(t *testing.T, name string, part shard.Shard, scale float64) {
	t.Helper()
	var own []Target
	for i, gate := range c.gates {
		if !part.Holds(c.url(i), "ibkr") {
			continue
		}
		own = append(own, target(t, fmt.Sprint(i), gate, func(target *Target) {
			law, err := policy.NewStep(scale, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			target.Providers[0].URL, target.Providers[0].Law = c.url(i), law
		}))
	}
	cfg := config()
	cfg.Shard, cfg.Holder, cfg.Phase = part, name, part.Phase(name, interval)
	_, c.stops[part.Index] = start(t, cfg, newPrometheus(), nil, own...)
}

// held is whose lease is in force at each provider, and with what scale.
func (c *canal) held(t *testing.T) (all []string) {
	t.Helper()
	for i, gate := range c.gates {
		s, err := gate.Coordinator.State("ibkr")
		if err != nil {
			t.Fatal(err)
		}
		var holders []string
		for _, scale := range s.Scales {
			if scale.Owner == coordinator.OwnerController && scale.ExpiresInSeconds != nil {
				holders = append(holders, fmt.Sprintf("%s with %v", scale.Holder, scale.Scale))
				if s.Scale != scale.Scale {
					t.Errorf("gate %d: a scale of %v is in force, and the lease says %v", i, s.Scale, scale.Scale)
				}
			}
		}
		if len(holders) > 1 {
			t.Fatalf("gate %d has two scales in force: %q", i, holders)
		}
		all = append(all, strings.Join(append(holders, "nobody")[:1], ""))
	}
	return all
}

func TestFromFourShardsToFiveNoProviderHasTwoScalesAndEachIsHandedOverWithinALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCanal(t, canalGates)
		defer c.close()
		before, after := func(i int) string { return fmt.Sprintf("old-%d with 0.9", i) }, func(i int) string { return fmt.Sprintf("new-%d with 0.7", i) }
		for i := range 4 {
			c.run(t, fmt.Sprintf("old-%d", i), shard.Shard{Index: i, Of: 4}, 0.9)
		}
		lease := target(t, "", nil).Lease
		pass(lease)
		was := c.held(t)
		for i, holder := range was {
			if want := before(shard.At(c.url(i), "ibkr", 4)); holder != want {
				t.Errorf("at first gate %d is held by %s, want %s", i, holder, want)
			}
		}

		// As a StatefulSet does: the new one first, and then the others anew, from
		// the last to the first, one after another. Until then they know nothing of
		// the fifth.
		unheld := make([]time.Duration, canalGates) // in a row
		longest := time.Duration(0)
		moves := 0
		watch := func(d time.Duration) {
			const step = 100 * time.Millisecond
			for range d / step {
				pass(step)
				for i, holder := range c.held(t) {
					if unheld[i] += step; holder != "nobody" {
						unheld[i] = 0
						if was[i] != holder {
							moves++
							was[i] = holder
						}
					}
					longest = max(longest, unheld[i])
				}
			}
		}
		c.run(t, "new-4", shard.Shard{Index: 4, Of: 5}, 0.7)
		watch(20 * time.Second)
		moved := 0
		for i, holder := range c.held(t) {
			if want := before(shard.At(c.url(i), "ibkr", 4)); holder != want {
				t.Errorf("while the fifth only wants it gate %d is held by %s, want %s", i, holder, want)
			}
			if shard.At(c.url(i), "ibkr", 5) == 4 {
				moved++
			}
		}
		for _, index := range []int{3, 2, 1, 0} {
			c.stops[index]()
			watch(7 * time.Second) // until its pod is there again
			c.run(t, fmt.Sprintf("new-%d", index), shard.Shard{Index: index, Of: 5}, 0.7)
			watch(20 * time.Second)
		}
		for i, holder := range c.held(t) {
			if want := after(shard.At(c.url(i), "ibkr", 5)); holder != want {
				t.Errorf("in the end gate %d is held by %s, want %s", i, holder, want)
			}
		}
		if moved == 0 || moved > canalGates/3 {
			t.Errorf("%d of %d providers move, want about one in five", moved, canalGates)
		}
		if moves != canalGates {
			t.Errorf("leases changed hands %d times, want once at each of %d providers", moves, canalGates)
		}
		// From the end of the last one's lease until a controller that stands by
		// has it there is an interval at most: what waits out a lease asks when it
		// ends.
		if longest > interval {
			t.Errorf("a provider was without a lease for %v, want at most an interval", longest)
		}
		t.Logf("%d of %d providers move; the longest time without a lease was %v", moved, canalGates, longest)
		for _, stop := range c.stops {
			stop()
		}
	})
}

func TestALostShardsProvidersGoToTheirFailModeWithinTheirLeaseAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const shards, gates, lost = 10, 2000, 3
		c := newCanal(t, gates)
		defer c.close()
		holder := func(index int) string { return fmt.Sprint("controller-", index) }
		for index := range shards {
			c.run(t, holder(index), shard.Shard{Index: index, Of: shards}, 0.9)
		}
		// check counts the providers that are held by another than their shard, and
		// the scale of those that nobody holds.
		check := func(when string, nobody bool) {
			t.Helper()
			for i, got := range c.held(t) {
				index := shard.At(c.url(i), "ibkr", shards)
				want := holder(index) + " with 0.9"
				if nobody && index == lost {
					want = "nobody"
					if s, err := c.gates[i].Coordinator.State("ibkr"); err != nil || s.Scale != 0.5 {
						t.Fatalf("%s: gate %d is at a scale of %v, want that of its fail mode", when, i, s.Scale)
					}
				}
				if got != want {
					t.Fatalf("%s: gate %d is held by %s, want %s", when, i, got, want)
				}
			}
		}
		pass(2 * interval)
		check("while all run", false)
		c.stops[lost]()
		pass(target(t, "", nil).Lease)
		check("a lease after one was lost", true)
		c.run(t, holder(lost), shard.Shard{Index: lost, Of: shards}, 0.9)
		pass(interval)
		check("an interval after it came back", false)
		for _, stop := range c.stops {
			stop()
		}
	})
}
