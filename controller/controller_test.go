package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// situation is what a row of the failure table can change.
type situation struct {
	prometheus *fakePrometheus
	gate       *gate
}

// decided is what a row of the failure table expects.
type decided struct {
	Reason  Reason
	Fault   Fault
	Scale   string // as text, so that an absent one reads as unknown
	Outcome Outcome
	InForce bool // the lease lives at the coordinator
}

func TestWhenSignalsFail(t *testing.T) {
	down := func(s situation) { s.prometheus.set(func(p *fakePrometheus) { p.err = errDown }) }
	absent := func(s situation) { s.prometheus.set(func(p *fakePrometheus) { delete(p.depth, "bars") }) }
	stale := func(s situation) { s.prometheus.set(func(p *fakePrometheus) { p.age["bars"] = 31 * time.Second }) }
	hung := func(s situation) { s.prometheus.set(func(p *fakePrometheus) { p.slow = time.Hour }) }
	without := func(series string) func(situation) {
		return func(s situation) { s.prometheus.set(func(p *fakePrometheus) { p.without = []string{series} }) }
	}
	up := func(s situation) {
		s.prometheus.set(func(p *fakePrometheus) {
			p.err, p.slow, p.depth["bars"], p.age["bars"], p.without = nil, 0, 100, 0, nil
		})
	}
	mode := func(m coordinator.FailMode) func(*Target) { return func(t *Target) { t.FailMode = m } }
	needy := func(t *Target) { t.Providers[0].Law = needsDrain{} }

	tests := []struct {
		name   string
		fails  func(situation)
		after  time.Duration // from the failure to the look at the decision
		then   func(situation)
		thenIn time.Duration // from then to the look
		target []func(*Target)
		want   decided
	}{
		{name: "Prometheus down: the last decision is renewed at first",
			fails: down, after: 20 * time.Second,
			want: decided{ReasonHold, FaultQueryFailed, "1", OutcomeApplied, true}},
		{name: "Prometheus down for longer than the stale limit: fail mode safe, still under a lease",
			fails: down, after: 40 * time.Second,
			want: decided{ReasonFailMode, FaultQueryFailed, "0.5", OutcomeApplied, true}},
		{name: "Prometheus down for an hour: the lease of the fail mode is still renewed",
			fails: down, after: time.Hour,
			want: decided{ReasonFailMode, FaultQueryFailed, "0.5", OutcomeApplied, true}},
		{name: "Prometheus down, fail mode open",
			fails: down, after: 40 * time.Second, target: []func(*Target){mode(coordinator.FailOpen)},
			want: decided{ReasonFailMode, FaultQueryFailed, "1", OutcomeApplied, true}},
		{name: "Prometheus down, fail mode closed",
			fails: down, after: 40 * time.Second, target: []func(*Target){mode(coordinator.FailClosed)},
			want: decided{ReasonFailMode, FaultQueryFailed, "0", OutcomeApplied, true}},
		{name: "Prometheus down, fail mode hold: the last scale goes on",
			fails: down, after: 40 * time.Second, target: []func(*Target){mode(coordinator.FailHold)},
			want: decided{ReasonFailMode, FaultQueryFailed, "1", OutcomeApplied, true}},
		{name: "Prometheus back: the law decides again within three ticks and the cool-down",
			fails: down, after: 10 * time.Minute, then: up, thenIn: 3*interval + 10*time.Second,
			want: decided{ReasonLaw, FaultNone, "1", OutcomeApplied, true}},
		{name: "Prometheus slower than its time-out: the leases are renewed beside it",
			fails: hung, after: 20 * time.Second,
			want: decided{ReasonHold, FaultQueryFailed, "1", OutcomeApplied, true}},
		{name: "Prometheus slower than its time-out for longer than the stale limit: fail mode",
			fails: hung, after: 60 * time.Second,
			want: decided{ReasonFailMode, FaultQueryFailed, "0.5", OutcomeApplied, true}},
		{name: "series absent: the last decision is renewed at first",
			fails: absent, after: 20 * time.Second,
			want: decided{ReasonHold, FaultSeriesAbsent, "1", OutcomeApplied, true}},
		{name: "series absent for longer than the stale limit: fail mode",
			fails: absent, after: 40 * time.Second,
			want: decided{ReasonFailMode, FaultSeriesAbsent, "0.5", OutcomeApplied, true}},
		{name: "series back: the law decides at the next tick",
			fails: absent, after: 40 * time.Second, then: up, thenIn: 6 * time.Second,
			want: decided{ReasonLaw, FaultNone, "1", OutcomeApplied, true}},
		{name: "series older than the stale limit: fail mode at once",
			fails: stale, after: 6 * time.Second,
			want: decided{ReasonFailMode, FaultSeriesStale, "0.5", OutcomeApplied, true}},
		{name: "capacity absent and marks in percent: held, and then the fail mode",
			fails: without(metrics.QueueCapacity), after: 40 * time.Second,
			want: decided{ReasonFailMode, FaultCapacityAbsent, "0.5", OutcomeApplied, true}},
		{name: "capacity absent and configured: nothing is amiss",
			fails: without(metrics.QueueCapacity), after: 40 * time.Second,
			target: []func(*Target){func(t *Target) { t.Capacity = 1000 }},
			want:   decided{ReasonLaw, FaultNone, "1", OutcomeApplied, true}},
		{name: "a signal that the law needs is absent from the start: waiting at first, nothing applied",
			fails: without(metrics.ItemsWritten), after: 6 * time.Second, target: []func(*Target){needy},
			want: decided{ReasonWaiting, FaultSignalAbsent, "unknown", OutcomeNothing, false}},
		{name: "a signal that the law needs is absent: fail mode after the stale limit",
			fails: without(metrics.ItemsWritten), after: 60 * time.Second, target: []func(*Target){needy},
			want: decided{ReasonFailMode, FaultSignalAbsent, "0.5", OutcomeApplied, true}},
		{name: "coordinator unreachable: it falls to its own lease's fail mode",
			fails: func(s situation) { s.gate.set(func(g *gate) { g.err = errDown }) }, after: 20 * time.Second,
			want: decided{ReasonLaw, FaultNone, "1", OutcomeFailed, false}},
		{name: "coordinator reachable again: it is retried at every tick",
			fails: func(s situation) { s.gate.set(func(g *gate) { g.err = errDown }) }, after: 20 * time.Second,
			then: func(s situation) { s.gate.set(func(g *gate) { g.err = nil }) }, thenIn: 6 * time.Second,
			want: decided{ReasonLaw, FaultNone, "1", OutcomeApplied, true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := situation{newPrometheus(), newGate()}
				c, stop := start(t, config(), s.prometheus, nil, target(t, "bars", s.gate, test.target...))
				defer stop()
				pass(interval + time.Second)
				test.fails(s)
				pass(test.after)
				if test.then != nil {
					test.then(s)
					pass(test.thenIn)
				}
				d := newest(t, c, "bars")
				_, inForce := s.gate.last()
				got := decided{d.Reason, d.Fault, number(d.Scale), d.Outcome, inForce}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("decision (-want +got):\n%s\n%s", diff, d.Explanation)
				}
			})
		})
	}
}

// needsDrain is a law that cannot do without the drain rate.
type needsDrain struct{}

func (needsDrain) Needs() policy.Signals                { return policy.SignalDrain }
func (needsDrain) Decide(in policy.Input) policy.Output { return policy.Output{Scale: 1} }

func TestNothingIsAppliedBeforeThereWereSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		p.err = errDown
		c, stop := start(t, config(), p, nil, target(t, "bars", g))
		defer stop()
		pass(20 * time.Second)
		if d := newest(t, c, "bars"); d.Reason != ReasonWaiting || g.count() != 0 || d.Level != nil {
			t.Errorf("decision is %+v and %d leases were applied, want waiting and none", d, g.count())
		}
		if c.Ready() == nil {
			t.Error("ready before the first snapshot")
		}
		pass(20 * time.Second)
		if d := newest(t, c, "bars"); d.Reason != ReasonFailMode || d.Outcome != OutcomeApplied {
			t.Errorf("decision is %s, %s, want the fail mode, applied", d.Reason, d.Outcome)
		}
	})
}

func TestLevelsAndScalesFollowTheDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		c, stop := start(t, config(), p, nil, target(t, "bars", g))
		defer stop()
		var got []string
		for _, depth := range []float64{100, 501, 450, 450, 800, 750, 750, 699, 500, 400, 400, 400} {
			p.set(func(p *fakePrometheus) { p.depth["bars"] = depth })
			pass(interval)
			d := newest(t, c, "bars")
			got = append(got, fmt.Sprintf("%v %s %s", depth, d.Level, number(d.InForce)))
		}
		want := []string{
			"100 OK 1", "501 SOFT 0.5", "450 SOFT 0.5", "450 SOFT 0.5", "800 HARD 0", "750 HARD 0", "750 HARD 0",
			"699 SOFT 0.5", "500 SOFT 0.5", "400 OK 1", "400 OK 1", "400 OK 1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("depth, level, scale (-want +got):\n%s", diff)
		}
	})
}

func TestTheCoordinatorsOwnLevelCountsWhereItIsWorse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		p.level = pressure.Hard
		c, stop := start(t, config(), p, nil, target(t, "bars", g))
		defer stop()
		pass(time.Second)
		if d := newest(t, c, "bars"); *d.Level != pressure.Hard || d.Scale != 0 {
			t.Errorf("level %s, scale %v, want HARD and 0", d.Level, d.Scale)
		}
	})
}

func TestTheWorstOfSeveralCoordinatorsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		p.depth = map[string]float64{"bars": 100, "ticks": 900}
		both := func(t *Target) { t.CoordinatorIDs = []string{"bars", "ticks"} }
		c, stop := start(t, config(), p, nil, target(t, "feed", g, both))
		defer stop()
		pass(time.Second)
		if d := newest(t, c, "feed"); *d.Level != pressure.Hard || d.CoordinatorID != "ticks" || d.Depth != 900 {
			t.Errorf("level %s of %q with depth %v, want HARD of ticks with 900", d.Level, d.CoordinatorID, d.Depth)
		}
		p.set(func(p *fakePrometheus) { delete(p.depth, "bars") })
		pass(interval)
		if d := newest(t, c, "feed"); d.Reason != ReasonHold || d.Fault != FaultSeriesAbsent {
			t.Errorf("decision is %s, %s; want it held, for one of the two is absent", d.Reason, d.Fault)
		}
	})
}

func TestOneUnreachableCoordinatorDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, live := newGate(), newGate()
		dead.slow = time.Hour
		c, stop := start(t, config(), newPrometheus(), nil, target(t, "dead", dead), target(t, "live", live))
		defer stop()
		synctest.Wait()
		if live.count() != 1 {
			t.Error("the live one was not served in the first instant")
		}
		pass(10*interval - time.Nanosecond)
		if live.count() != 10 {
			t.Errorf("the live one got %d leases in 10 ticks", live.count())
		}
		if d := newest(t, c, "dead"); d.Outcome != OutcomeFailed || d.ApplyFault != ApplyTimeout {
			t.Errorf("the dead one's outcome is %s, %s", d.Outcome, d.ApplyFault)
		}
	})
}

func TestManyUnreachableCoordinatorsDelayNobodyOnceTheyAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var targets []Target
		var live []*gate
		for i := range 4 * slots {
			g := newGate()
			if i%4 < 3 {
				g.slow = time.Hour
			} else {
				live = append(live, g)
			}
			targets = append(targets, target(t, fmt.Sprint(i), g))
		}
		_, stop := start(t, config(), newPrometheus(), nil, targets...)
		defer stop()
		pass(10 * interval)
		before := make([]int, len(live))
		for i, g := range live {
			before[i] = g.count()
		}
		pass(10 * interval)
		for i, g := range live {
			if n := g.count() - before[i]; n != 10 {
				t.Errorf("coordinator %d got %d leases in 10 ticks", i, n)
			}
		}
	})
}

func TestAStandbyTakesOverWhenTheLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		var log lines
		first, stopFirst := start(t, config(), p, nil, target(t, "bars", g))
		defer stopFirst()
		pass(time.Second)
		second := config()
		second.Holder = "b"
		standby, stop := start(t, second, p, &log, target(t, "bars", g))
		defer stop()
		pass(2 * time.Minute)
		if d := newest(t, standby, "bars"); d.Outcome != OutcomeStandby || d.Holder != "a" || !strings.Contains(d.Explanation, `"a" holds the lease`) {
			t.Errorf("the standby's decision is %s by %q: %s", d.Outcome, d.Holder, d.Explanation)
		}
		if d := newest(t, first, "bars"); d.Outcome != OutcomeApplied {
			t.Errorf("the first one's outcome is %s", d.Outcome)
		}
		// The standby asks for the lease now and then, and is told no. What is in
		// force it tells at every tick all the same.
		g.set(func(g *gate) { g.override = "ann" })
		pass(interval)
		changes := 0
		for range 20 {
			pass(interval)
			d := newest(t, standby, "bars")
			if d.Override == nil || d.Override.Holder != "ann" || !d.InForce.Known() {
				t.Errorf("the standby's decision has the override %+v and %v in force: %s", d.Override, d.InForce, d.Explanation)
			}
			if d.Changed {
				changes++
			}
		}
		if changes != 0 {
			t.Errorf("%d decisions of the standby say something new", changes)
		}
		stopFirst()
		pass(21 * time.Second)
		if d := newest(t, standby, "bars"); d.Outcome != OutcomeApplied {
			t.Errorf("after the first one died the standby's outcome is %s", d.Outcome)
		}
		if a, b := log.count("standing by"), log.count("took over"); a != 1 || b != 1 {
			t.Errorf("standing by was logged %d times and taking over %d times, want once each:\n%s", a, b, &log)
		}
	})
}

func TestSequencesRiseAcrossARestartOfTheSameHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		for range 3 {
			c, stop := start(t, config(), p, nil, target(t, "bars", g))
			pass(2 * interval)
			if d := newest(t, c, "bars"); d.Outcome != OutcomeApplied {
				t.Errorf("outcome is %s (%s), want applied", d.Outcome, d.ApplyError)
			}
			stop()
		}
		if !slices.IsSortedFunc(g.applied, func(a, b coordinator.ScaleRequest) int { return int(a.Sequence) - int(b.Sequence) }) {
			t.Errorf("sequences do not rise: %+v", g.applied)
		}
	})
}

func TestAHolderWhoseClockWentBackBetweenTwoLivesGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		g.lease = coordinator.ScaleRequest{Holder: "a", Sequence: uint64(time.Now().Add(time.Hour).UnixMicro())}
		c, stop := start(t, config(), p, nil, target(t, "bars", g))
		defer stop()
		pass(time.Second)
		if d := newest(t, c, "bars"); d.ApplyFault != ApplyStaleSequence {
			t.Errorf("the first apply ended as %s, %q; want a stale sequence", d.Outcome, d.ApplyFault)
		}
		pass(interval)
		if d := newest(t, c, "bars"); d.Outcome != OutcomeApplied {
			t.Errorf("the second apply ended as %s: %s", d.Outcome, d.ApplyError)
		}
	})
}

func TestSequencesRiseWhenTheClockGoesBack(t *testing.T) {
	c := &Controller{}
	now := time.Unix(1_760_500_000, 0)
	a, b := c.nextSequence(now), c.nextSequence(now)
	if d := c.nextSequence(now.Add(-time.Hour)); b <= a || d <= b {
		t.Errorf("sequences are %d, %d, %d", a, b, d)
	}
}

func TestDryRunDecidesAndExplainsAndAppliesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		p.depth["bars"] = 600
		c, stop := start(t, config(), p, nil, target(t, "bars", g, func(t *Target) { t.DryRun = true }))
		defer stop()
		pass(time.Minute)
		d := newest(t, c, "bars")
		if g.count() != 0 || d.Outcome != OutcomeDryRun || d.Scale != 0.5 || d.InForce != 0 {
			t.Errorf("%d leases; outcome %s, scale %v, in force %v", g.count(), d.Outcome, d.Scale, d.InForce)
		}
	})
}

func TestADisabledTargetIsListedAndLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, off, on := newPrometheus(), newGate(), newGate()
		c, stop := start(t, config(), p, nil,
			target(t, "off", off, func(t *Target) { t.Disabled = true }), target(t, "on", on))
		defer stop()
		pass(time.Minute)
		if decisions, found := c.Decisions("off", 10); !found || len(decisions) != 0 || off.count() != 0 {
			t.Errorf("found %v, %d decisions, %d leases; want it listed with none", found, len(decisions), off.count())
		}
		if on.count() == 0 {
			t.Error("the other one was left alone too")
		}
	})
}

func TestSteadyDecisionsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		var log lines
		_, stop := start(t, config(), p, &log, target(t, "bars", g))
		defer stop()
		pass(time.Hour)
		if n := log.count("msg=decision"); n != 1 {
			t.Errorf("%d records of a steady hour, want 1:\n%s", n, &log)
		}
		p.set(func(p *fakePrometheus) { p.depth["bars"] = 600 })
		pass(time.Minute)
		if n := log.count("msg=decision"); n != 2 || log.count("decision.level=SOFT") != 1 {
			t.Errorf("%d records after one change, want 2:\n%s", n, &log)
		}
	})
}

func TestPrometheusIsAskedOncePerTickAndLessWhileItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		var log lines
		_, stop := start(t, config(), p, &log, target(t, "bars", g))
		defer stop()
		pass(100*interval + time.Second)
		if p.reads != 101 {
			t.Errorf("%d reads in 100 ticks and the first, want 101", p.reads)
		}
		p.set(func(p *fakePrometheus) { p.err = errDown; p.reads = 0 })
		pass(100 * interval)
		if p.reads > 75 || p.reads < 33 {
			t.Errorf("%d reads in 100 ticks while it fails, want fewer, but one in three ticks at least", p.reads)
		}
		p.set(func(p *fakePrometheus) { p.err = nil })
		pass(time.Minute)
		if a, b := log.count("cannot be read"), log.count("read again"); a != 1 || b != 1 {
			t.Errorf("failing was logged %d times and recovery %d times, want once each", a, b)
		}
	})
}

func TestASlowPrometheusIsReadBesideTheTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		p.slow = 7 * time.Second
		cfg := config()
		cfg.QueryTimeout = 10 * time.Second
		c, stop := start(t, cfg, p, nil, target(t, "bars", g))
		defer stop()
		pass(time.Minute)
		before := g.count()
		pass(time.Minute)
		if renewed := g.count() - before; renewed < 12 {
			t.Errorf("%d renewals in 12 ticks", renewed)
		}
		p.set(func(p *fakePrometheus) { p.depth["bars"] = 900 })
		pass(30 * time.Second)
		if d := newest(t, c, "bars"); *d.Level != pressure.Hard {
			t.Errorf("level is %s, want HARD from the slow answers", d.Level)
		}
	})
}

func TestErrorsOfCoordinatorsAreSorted(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want ApplyFault
	}{
		{"no such provider", fmt.Errorf("apply: %w", coordinator.ErrUnknownProvider), ApplyUnknownProvider},
		{"no right to", &client.Error{Status: 403}, ApplyRefused},
		{"a proxy without a server behind it", &client.Error{Status: 502}, ApplyServerError},
		{"nobody listens", errDown, ApplyUnreachable},
		{"no answer in time", context.DeadlineExceeded, ApplyTimeout},
		{"an older sequence of this holder", &coordinator.ConflictError{Holder: "a", ExpiresIn: time.Second, Stale: true}, ApplyStaleSequence},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				g.err = test.err
				c, stop := start(t, config(), newPrometheus(), nil, target(t, "bars", g))
				defer stop()
				pass(time.Second)
				if d := newest(t, c, "bars"); d.ApplyFault != test.want || d.Outcome != OutcomeFailed || d.ApplyError == "" {
					t.Errorf("outcome %s, fault %q, error %q; want %q", d.Outcome, d.ApplyFault, d.ApplyError, test.want)
				}
			})
		})
	}
}

func TestSettingsThatCannotWorkAreRefusedAllAtOnce(t *testing.T) {
	g := newGate()
	_, err := New(Config{}, newPrometheus(), []Target{
		target(t, "bars", g, func(t *Target) { t.Names.Capacity = "" }),
		target(t, "bars", g, func(t *Target) {
			t.FailMode, t.SafeScale, t.Lease, t.CoordinatorIDs = "shut", 2, 0, nil
		}),
		target(t, "ticks", g, func(t *Target) {
			t.Providers[0].Law, t.Providers[0].LawName, t.Names.Written = needsDrain{}, "drain", ""
		}),
		target(t, "marks", g, func(t *Target) {
			t.Capacity, t.SoftEnter, t.Names = 1000, pressure.Mark{Value: 900}, metrics.DefaultNames()
		}),
		target(t, "best", g, func(t *Target) { t.Combine, t.CoordinatorIDs = "best", []string{"b"} }),
		target(t, "weightless", g, func(t *Target) { t.Combine, t.CoordinatorIDs = CombineWeights, []string{"c"} }),
		target(t, "another", g, func(t *Target) {
			t.Combine, t.Weight, t.CoordinatorIDs, t.Providers[0].URL = CombineWeights, 1, []string{"d"}, "http://bars/"
		}),
	}, slog.New(slog.DiscardHandler))
	var got []string
	for _, v := range invalid.All(err) {
		got = append(got, v.Field)
	}
	want := []string{
		"interval", "query_timeout", "apply_timeout", "holder", "decisions",
		`target "bars": series_capacity`,
		`target "bars": coordinator_ids`, `target "bars": lease`, `target "bars": fail_mode`, `target "bars": scale_soft`,
		"target",
		`target "ticks": series_written`, `target "ticks": coordinator_ids`,
		`target "marks": soft_enter`, `target "marks": coordinator_ids`,
		`target "best": combine`, `target "weightless": weight`, `target "another": combine`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused fields (-want +got):\n%s\n%v", diff, err)
	}
	if !errors.As(err, new(*invalid.Value)) {
		t.Error("the error holds no *invalid.Value")
	}
}
