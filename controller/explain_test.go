package controller

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// noon is when the levels of the examples began.
var noon = time.Date(2026, 3, 2, 12, 3, 10, 0, time.UTC)

func TestExplanationsHaveTheNumbers(t *testing.T) {
	seen := func(level pressure.Level, depth float64, change ...func(*Decision)) *Decision {
		since := noon
		d := &Decision{
			At: noon.Add(time.Minute), Reason: ReasonLaw, Level: &level, LevelSince: &since, Depth: Number(depth), Capacity: 10000,
			thresholds: pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000, CoolDown: 10 * time.Second},
			clause:     "the step law gives " + level.String() + " a scale of 0.5", LawScale: 0.5, Scale: 0.5, InForce: 0.5,
			Outcome: OutcomeApplied, staleAfter: 30 * time.Second, failMode: coordinator.FailSafe,
		}
		for _, c := range change {
			c(d)
		}
		return d
	}
	fail := func(reason Reason, age float64, scale float64) func(*Decision) {
		return func(d *Decision) {
			d.Reason, d.AgeSeconds, d.Scale, d.InForce = reason, Number(age), Number(scale), Number(scale)
			d.Detail = "Prometheus could not be read: connection refused"
		}
	}
	unread := func(d *Decision) {
		d.InForce, d.ApplyFault, d.ApplyError = Number(math.NaN()), ApplyUnreachable, "ask the coordinator: connection refused"
	}
	believed := func(d *Decision) { d.thresholds.For = 20 * time.Second }
	tests := []struct {
		name     string
		decision *Decision
		want     string
	}{
		{"OK", seen(pressure.OK, 300),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; applied and read back"},
		{"OK for days", seen(pressure.OK, 300, func(d *Decision) { d.At = noon.Add(72 * time.Hour) }),
			"OK since 2026-03-02 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; applied and read back"},
		{"OK while SOFT is not believed yet", seen(pressure.OK, 6000, believed),
			"OK since 12:03:10: depth 6,000 of 10,000, SOFT once it is above 5,000 for 20 s; the step law gives OK a scale of 0.5; applied and read back"},
		{"SOFT by the depth", seen(pressure.Soft, 6000),
			"SOFT since 12:03:10: depth 6,000 of 10,000 above 5,000; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"SOFT while HARD is not believed yet", seen(pressure.Soft, 8214, believed),
			"SOFT since 12:03:10: depth 8,214 of 10,000 above 5,000, HARD once it is at or above 8,000 for 20 s; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"SOFT by hysteresis", seen(pressure.Soft, 4500),
			"SOFT since 12:03:10: depth 4,500 of 10,000, SOFT until it is at or below 4,000 and 10 s after it began; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"SOFT by the coordinator's own word", seen(pressure.Soft, 300, func(d *Decision) { d.ReportedLevel = pressure.Soft }),
			"SOFT since 12:03:10: depth 300 of 10,000, and the coordinator itself says SOFT; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"HARD by the depth", seen(pressure.Hard, 8214),
			"HARD since 12:03:10: depth 8,214 of 10,000 at or above 8,000; the step law gives HARD a scale of 0.5; applied and read back"},
		{"HARD by hysteresis", seen(pressure.Hard, 7500),
			"HARD since 12:03:10: depth 7,500 of 10,000, HARD until it is below 7,000 and 10 s after it began; the step law gives HARD a scale of 0.5; applied and read back"},
		{"the fast loop's scale is lower", seen(pressure.OK, 300, func(d *Decision) { d.InForce, d.InForceOwner = 0.1, coordinator.OwnerFastLoop }),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; applied, and a scale of 0.1 is in force, for the lowest of all owners' wins, and that is the queue's own fast loop's"},
		{"an override is lower", seen(pressure.OK, 300, func(d *Decision) {
			d.InForce, d.InForceOwner = 0.1, coordinator.OwnerOperator
			d.Override = &Override{"jane", 0.1, "the store is migrated", noon.Add(15 * time.Minute)}
		}),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; applied, and a scale of 0.1 is in force, for the lowest of all owners' wins, and that is an operator's; overridden by jane with 0.1 until 12:18:10: the store is migrated"},
		{"held", seen(pressure.OK, 300, fail(ReasonHold, 12.34, 0.5)),
			"Prometheus could not be read: connection refused; the last scale of 0.5 is renewed until the signals are 30 s old, now 12.3 s; applied and read back"},
		{"fail mode", seen(pressure.OK, 300, fail(ReasonFailMode, 31, 0.5)),
			"Prometheus could not be read: connection refused; the signals are 31 s old, more than 30 s, so fail mode safe gives a scale of 0.5; applied and read back"},
		{"fail mode without a scale to hold", seen(pressure.OK, 300, fail(ReasonFailMode, 31, math.NaN()), func(d *Decision) { d.Outcome, d.failMode = OutcomeNothing, coordinator.FailHold }),
			"Prometheus could not be read: connection refused; the signals are 31 s old, more than 30 s, so fail mode hold has no last scale to hold"},
		{"waiting", seen(pressure.OK, 300, fail(ReasonWaiting, 5, math.NaN()), func(d *Decision) { d.Outcome = OutcomeNothing }),
			"Prometheus could not be read: connection refused; nothing was decided yet, and nothing is applied until there are signals or 30 s have passed, now 5 s"},
		{"waiting for a coordinator that does not answer", seen(pressure.OK, 300, fail(ReasonWaiting, 0, math.NaN()), unread, func(d *Decision) { d.Outcome = OutcomeNothing }),
			"Prometheus could not be read: connection refused; nothing was decided yet, and nothing is applied until there are signals or 30 s have passed, now 0 s; what is in force could not be read: ask the coordinator: connection refused"},
		{"a dry run whose coordinator does not answer", seen(pressure.OK, 300, unread, func(d *Decision) { d.Outcome = OutcomeDryRun }),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; not applied: this is a dry run; what is in force could not be read: ask the coordinator: connection refused"},
		{"a dry run without one of the replicas", seen(pressure.OK, 300, func(d *Decision) {
			d.Outcome, d.ApplyFault, d.ApplyError = OutcomeDryRun, ApplyUnreachable, "1 of 2 replicas: replica b: connection refused"
		}),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; not applied: this is a dry run; without 1 of 2 replicas: replica b: connection refused"},
		{"not applied", seen(pressure.OK, 300, func(d *Decision) { d.Outcome, d.ApplyError = OutcomeFailed, "connection refused" }),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; not applied: connection refused"},
		{"standing by", seen(pressure.OK, 300, func(d *Decision) { d.Outcome, d.Holder = OutcomeStandby, "beta" }),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; not applied: \"beta\" holds the lease"},
		{"a dry run", seen(pressure.OK, 300, func(d *Decision) { d.Outcome = OutcomeDryRun }),
			"OK since 12:03:10: depth 300 of 10,000 not above 5,000; the step law gives OK a scale of 0.5; not applied: this is a dry run"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.decision.explain()); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEachGuardSaysWhatItChanged(t *testing.T) {
	type ask struct {
		elapsed time.Duration
		level   pressure.Level
		wanted  float64
	}
	tests := []struct {
		name string
		rail Guardrail
		set  Guard
		asks []ask // one after another, the last of which is explained
		want string
	}{
		{"none", GuardNone, Guard{HardCap: 1}, []ask{{0, pressure.OK, 0.5}}, ""},
		{"a scale above 1", GuardRange, Guard{HardCap: 1}, []ask{{0, pressure.OK, 1.2}}, "; that is no scale, so it is 1"},
		{"a scale that is no number", GuardRange, Guard{HardCap: 1}, []ask{{0, pressure.OK, math.NaN()}}, "; that is no scale, so it is 0"},
		{"the floor", GuardFloor, Guard{Floor: 0.2}, []ask{{0, pressure.Soft, 0.05}}, "; the floor raises it from 0.05 to 0.2"},
		{"the cap at HARD", GuardHardCap, Guard{HardCap: 0.1}, []ask{{0, pressure.Hard, 0.5}}, "; the cap at HARD lowers it from 0.5 to 0.1"},
		{"the slew limit", GuardRise, Guard{RisePerSecond: 0.05}, []ask{{0, pressure.OK, 0.5}, {2 * time.Second, pressure.OK, 1}},
			"; the slew limit of 0.05/s holds it at 0.6, 2 s after 0.5"},
		{"the jittered return", GuardResume, Guard{ResumeWithin: time.Minute}, []ask{{0, pressure.Hard, 0}, {time.Second, pressure.Hard, 0}, {2 * time.Second, pressure.OK, 1}},
			"; parked providers come back one after another within 60 s, and it is this one's turn in 33.99 s, so it stays at 0"},
		{"the budget of changes", GuardReversals, Guard{ReversalsPerHour: 1}, []ask{
			{0, pressure.OK, 0.5}, {time.Minute, pressure.OK, 0.7}, {time.Minute, pressure.OK, 0.4}, {time.Minute, pressure.OK, 0.6}},
			"; it changed its direction as often as it may in an hour, 1 of 1, so it stays at 0.4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := NewLimiter(test.set, 1)
			last, rail, got := math.NaN(), GuardNone, ""
			for _, a := range test.asks {
				var scale float64
				scale, rail = l.Limit(a.elapsed, a.level, a.wanted, last)
				got = l.explain(rail, a.elapsed, a.wanted, last, scale)
				last = scale
			}
			if diff := cmp.Diff(test.want, got); diff != "" || rail != test.rail {
				t.Errorf("limit %q, words (-want +got):\n%s", rail, diff)
			}
		})
	}
}

// allowed are the figures of what a guard says, and the scale that they give.
var allowed = []struct {
	words *regexp.Regexp
	scale func(f []float64) float64
}{
	{regexp.MustCompile(`no scale, so it is ([\d.]+)$`), func(f []float64) float64 { return f[0] }},
	{regexp.MustCompile(`(?:raises|lowers) it from [\d.e+-]+ to ([\d.]+)$`), func(f []float64) float64 { return f[0] }},
	{regexp.MustCompile(`slew limit of ([\d.e-]+)/s holds it at [\d.]+, ([\d.]+) s after ([\d.]+)$`), func(f []float64) float64 { return f[2] + f[0]*f[1] }},
	{regexp.MustCompile(`so it stays at ([\d.]+)$`), func(f []float64) float64 { return f[0] }},
}

func TestTheScaleCanBeRecomputedFromWhatTheGuardSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Float64Range(0, 1)
		l := NewLimiter(Guard{
			HardCap: part.Draw(t, "cap"), Floor: part.Draw(t, "floor"), RisePerSecond: rapid.Float64Range(0, 0.2).Draw(t, "rise"),
			ResumeWithin:     time.Duration(rapid.IntRange(0, 300).Draw(t, "resume")) * time.Second,
			ReversalsPerHour: rapid.IntRange(0, 3).Draw(t, "reversals"),
		}, 1)
		last := math.NaN()
		for range rapid.IntRange(1, 20).Draw(t, "decisions") {
			elapsed := time.Duration(rapid.IntRange(0, 60_000).Draw(t, "elapsed")) * time.Millisecond
			level := pressure.Level(rapid.IntRange(0, 2).Draw(t, "level"))
			wanted := rapid.Float64Range(-0.5, 1.5).Draw(t, "wanted")
			scale, rail := l.Limit(elapsed, level, wanted, last)
			words := l.explain(rail, elapsed, wanted, last, scale)
			last = scale
			if rail == GuardNone {
				continue
			}
			told := false
			for _, a := range allowed {
				found := a.words.FindStringSubmatch(words)
				if found == nil {
					continue
				}
				told = true
				var figures []float64
				for _, text := range found[1:] {
					figure, _ := strconv.ParseFloat(text, 64)
					figures = append(figures, figure)
				}
				if got := a.scale(figures); math.Abs(got-scale) > 0.005 {
					t.Fatalf("by hand %q gives %v, want %v", words, got, scale)
				}
			}
			if !told {
				t.Fatalf("no figures in %q", words)
			}
		}
	})
}

func TestALawWithoutWordsHasItsTermsListed(t *testing.T) {
	var out policy.Output
	out.Scale, out.Reason = 0.25, "track"
	out.Terms.Add("drain_per_second", 1050)
	out.Terms.Add("error_items", math.NaN())
	got := explainLaw(&Provider{Law: needsDrain{}, LawName: "drain"}, policy.Input{}, out)
	want := "the drain law gives a scale of 0.25 (track) from drain_per_second 1,050, error_items unknown"
	if got != want {
		t.Errorf("explanation is %q, want %q", got, want)
	}
}

func TestADecisionTellsItsWholeWayFromTheSignalsToTheGuard(t *testing.T) {
	now := noon
	limited := target(t, "bars", nil, func(t *Target) {
		t.Providers[0].Law, t.Providers[0].LawName = policy.NewDrain(), policy.DrainName
		t.Providers[0].DeadTime, t.Providers[0].Guard = 24*time.Second, Guard{HardCap: 1, RisePerSecond: 0.002}
	})
	l := newLine(&limited, now)
	p := l.throttles[0]
	p.outlet = &outlet{read: true, state: coordinator.State{BasePerSecond: 2000, FloorPerSecond: 1, Scale: 0.2}}
	var d *Decision
	for _, depth := range []float64{8600, 8214} {
		now = now.Add(5 * time.Second)
		o := metrics.Observation{
			CoordinatorID: "bars", Depth: depth, Capacity: 10_000, At: now, Newest: now,
			Arrivals: metrics.Rate{PerSecond: 400, Known: true}, Drain: metrics.Rate{PerSecond: 1050, Known: true},
			Replicas: make([]metrics.Replica, 3),
		}
		d = l.decide(now, view{fresh: true, at: now, snapshot: metrics.Snapshot{
			ReadAt: now, Coordinators: map[string]metrics.Observation{"bars": o}}})[0]
	}
	left := 600.0
	d.readBack(now, coordinator.State{BasePerSecond: 2000, EffectivePerSecond: 200, Scale: 0.1, Scales: []coordinator.Scale{
		{Owner: coordinator.OwnerController, Scale: float64(d.Scale)},
		{Owner: coordinator.OwnerOperator, Holder: "jane", Scale: 0.1, Reason: "the store is migrated", ExpiresInSeconds: &left},
	}})
	d.Outcome = OutcomeApplied
	want := strings.Join([]string{
		"HARD since 12:03:15: depth 8,214 of 10,000 at or above 8,000",
		"drain 1,050/s; to empty from 8,214 predicted to 2,000 in 12 s the drain law asks for 532.2/s of 2,000/s: a scale of 0.2661",
		"the slew limit of 0.002/s holds it at 0.26, 5 s after 0.25",
		"applied, and a scale of 0.1 is in force, for the lowest of all owners' wins, and that is an operator's",
		"overridden by jane with 0.1 until 12:13:20: the store is migrated",
	}, "; ")
	if got := d.explain(); got != want || d.Replicas != 3 || d.InForceOwner != coordinator.OwnerOperator {
		t.Errorf("explanation is\n%s, want\n%s; replicas %d, in force by %q", got, want, d.Replicas, d.InForceOwner)
	}
	if diff := cmp.Diff(&Override{"jane", 0.1, "the store is migrated", now.Add(10 * time.Minute)}, d.Override); diff != "" {
		t.Errorf("override (-want +got):\n%s", diff)
	}
}
