package controller

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

func TestGuardLimitsWhatALawMayDo(t *testing.T) {
	guard := Guard{HardCap: 0.2, Floor: 0.1}
	tests := []struct {
		name   string
		level  pressure.Level
		wanted float64
		want   float64
		bit    Guardrail
	}{
		{"a scale in range passes", pressure.OK, 0.7, 0.7, GuardNone},
		{"a scale above one is one", pressure.OK, 1.5, 1, GuardRange},
		{"a negative scale at HARD is zero", pressure.Hard, -1, 0, GuardRange},
		{"no number at HARD is zero", pressure.Hard, math.NaN(), 0, GuardRange},
		{"no number elsewhere is the floor", pressure.OK, math.NaN(), 0.1, GuardFloor},
		{"an infinite scale is one", pressure.OK, math.Inf(1), 1, GuardRange},
		{"the floor holds at OK", pressure.OK, 0.05, 0.1, GuardFloor},
		{"the floor holds at SOFT", pressure.Soft, 0, 0.1, GuardFloor},
		{"the floor does not hold at HARD", pressure.Hard, 0, 0, GuardNone},
		{"HARD caps whatever the law says", pressure.Hard, 1, 0.2, GuardHardCap},
		{"HARD leaves alone what is below the cap", pressure.Hard, 0.15, 0.15, GuardNone},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, bit := NewLimiter(guard, 1).Limit(time.Second, test.level, test.wanted, 0.5)
			if got != test.want || bit != test.bit {
				t.Errorf("Limit(%s, %v) = %v, %q; want %v, %q", test.level, test.wanted, got, bit, test.want, test.bit)
			}
		})
	}
}

func TestGuardedScaleIsAlwaysAScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		guard := Guard{
			HardCap: rapid.Float64Range(0, 1).Draw(t, "cap"), Floor: rapid.Float64Range(0, 1).Draw(t, "floor"),
			RisePerSecond: rapid.Float64Range(0, 2).Draw(t, "rise"), ReversalsPerHour: rapid.IntRange(0, 3).Draw(t, "reversals"),
			ResumeWithin: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "resume")),
		}
		level := pressure.Level(rapid.IntRange(0, 2).Draw(t, "level"))
		wanted := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)})).Draw(t, "wanted")
		got, bit := NewLimiter(guard, 1).Limit(time.Second, level, wanted, rapid.Float64Range(0, 1).Draw(t, "last"))
		if !(got >= 0 && got <= 1) {
			t.Fatalf("scale is %v", got)
		}
		if level == pressure.Hard && got > guard.HardCap {
			t.Fatalf("scale is %v at HARD, above the cap %v", got, guard.HardCap)
		}
		if bit == GuardNone && got != wanted {
			t.Fatalf("scale changed from %v to %v by no guard", wanted, got)
		}
	})
}

// wild is a law that says anything.
type wild struct{ t *rapid.T }

func (w wild) Decide(in policy.Input) policy.Output {
	if !(in.Depth >= 0) || !in.Level.Known() || in.Age < 0 || in.Elapsed < 0 {
		w.t.Fatalf("the law was given %+v", in)
	}
	scale := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), 0, 1})).Draw(w.t, "law")
	return policy.Output{Scale: scale, Reason: policy.ReasonLevel}
}

// Whatever Prometheus and the law say, and whenever: the scale is in [0, 1] or
// there is none, and there is none only before the first good signals.
func TestDecisionsKeepTheirBoundsWhateverHappens(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		subject := target(outer, "bars", nil, func(subject *Target) {
			subject.Providers[0].Law = wild{t}
			subject.Providers[0].Guard = Guard{HardCap: rapid.Float64Range(0, 1).Draw(t, "cap")}
			subject.FailMode = rapid.SampledFrom([]coordinator.FailMode{coordinator.FailHold, coordinator.FailOpen, coordinator.FailSafe, coordinator.FailClosed}).Draw(t, "mode")
			subject.For = rapid.SampledFrom([]time.Duration{0, 10 * time.Second}).Draw(t, "for")
		})
		now := time.Unix(1_760_500_000, 0)
		l := newLine(subject, now)
		decidedOnce := false
		for range rapid.IntRange(1, 30).Draw(t, "ticks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "pause")) * time.Second)
			v := view{fault: FaultQueryFailed, detail: "down"}
			if rapid.Bool().Draw(t, "up") {
				clock := now.Add(time.Duration(rapid.IntRange(-1e6, 1e6).Draw(t, "skew")) * time.Millisecond)
				v = view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: clock, Coordinators: map[string]metrics.Observation{}}}
				if rapid.Bool().Draw(t, "present") {
					at := clock.Add(-time.Duration(rapid.IntRange(-5, 60).Draw(t, "age")) * time.Second)
					v.snapshot.Coordinators["bars"] = metrics.Observation{
						CoordinatorID: "bars",
						Depth:         rapid.Float64Range(0, 1e12).Draw(t, "depth"),
						Capacity:      rapid.SampledFrom([]float64{math.NaN(), 0, 1, 1000, 1e12}).Draw(t, "capacity"),
						Level:         pressure.Level(rapid.IntRange(0, 2).Draw(t, "reported")), HasLevel: true,
						At: at, Newest: at,
					}
				}
			}
			for _, d := range l.decide(now, v) {
				d.Outcome = OutcomeDryRun
				scale := float64(d.Scale)
				if d.Scale.Known() && !(scale >= 0 && scale <= 1) {
					t.Fatalf("scale is %v: %+v", scale, d)
				}
				if !d.Scale.Known() && decidedOnce {
					t.Fatalf("no scale after there was one: %+v", d)
				}
				decidedOnce = decidedOnce || d.Reason == ReasonLaw
				if (d.Reason == ReasonLaw) != (d.Fault == FaultNone) {
					t.Fatalf("reason %q with fault %q", d.Reason, d.Fault)
				}
				if !v.fresh && d.Reason == ReasonLaw {
					t.Fatal("the law decided without signals")
				}
				if d.explain() == "" {
					t.Fatal("a decision without an explanation")
				}
			}
		}
	})
}

// A worse depth never opens the gate: the step law with its thresholds is
// monotone.
func TestStepIsMonotoneInTheDepth(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		scale := func(depth float64) float64 {
			now := time.Unix(1_760_500_000, 0)
			l := newLine(target(outer, "bars", nil), now)
			v := view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
				"bars": {CoordinatorID: "bars", Depth: depth, Capacity: 1000, At: now, Newest: now},
			}}}
			return float64(l.decide(now, v)[0].Scale)
		}
		low := rapid.Float64Range(0, 2000).Draw(t, "low")
		high := rapid.Float64Range(low, 2000).Draw(t, "high")
		if scale(high) > scale(low) {
			t.Fatalf("scale is %v at %v and %v at %v", scale(low), low, scale(high), high)
		}
	})
}

func TestThresholdsMoveWithTheCapacityAndKeepTheLevel(t *testing.T) {
	now := time.Unix(1_760_500_000, 0)
	l := newLine(target(t, "bars", nil, func(t *Target) { t.CoolDown = time.Hour }), now)
	var got []string
	for _, s := range []struct{ depth, capacity float64 }{{600, 1000}, {600, 2000}, {1600, 2000}, {100, 0}} {
		v := view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
			"bars": {CoordinatorID: "bars", Depth: s.depth, Capacity: s.capacity, At: now, Newest: now},
		}}}
		d := l.decide(now, v)[0]
		got = append(got, d.levelName()+" above "+number(d.SoftEnter)+", "+number(d.HardEnter))
		now = now.Add(5 * time.Second)
	}
	want := []string{"SOFT above 500, 800", "SOFT above 1000, 1600", "HARD above 1000, 1600", "HARD above 0, 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
}

func TestExplanationsHaveTheNumbers(t *testing.T) {
	base := time.Date(2026, 3, 2, 12, 3, 10, 0, time.UTC)
	seen := func(level pressure.Level, depth float64, change ...func(*Decision)) *Decision {
		d := &Decision{
			Reason: ReasonLaw, Level: &level, LevelSince: &base, Depth: Number(depth), Capacity: 10000,
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
	tests := []struct {
		name     string
		decision *Decision
		want     string
	}{
		{"OK", seen(pressure.OK, 300),
			"OK since 12:03:10: depth 300 of 10000 not above 5000; the step law gives OK a scale of 0.5; applied and read back"},
		{"SOFT by the depth", seen(pressure.Soft, 6000),
			"SOFT since 12:03:10: depth 6000 of 10000 above 5000; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"SOFT by hysteresis", seen(pressure.Soft, 4500),
			"SOFT since 12:03:10: depth 4500 of 10000, SOFT until it is at or below 4000 and 10s after it began; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"SOFT by the coordinator's own word", seen(pressure.Soft, 300, func(d *Decision) { d.ReportedLevel = pressure.Soft }),
			"SOFT since 12:03:10: depth 300 of 10000, and the coordinator itself says SOFT; the step law gives SOFT a scale of 0.5; applied and read back"},
		{"HARD, capped by the guard", seen(pressure.Hard, 8214, func(d *Decision) { d.Guard, d.Scale, d.InForce = GuardHardCap, 0, 0 }),
			"HARD since 12:03:10: depth 8214 of 10000 at or above 8000; the step law gives HARD a scale of 0.5; the cap at HARD lowers it from 0.5 to 0; applied and read back"},
		{"HARD by hysteresis", seen(pressure.Hard, 7500),
			"HARD since 12:03:10: depth 7500 of 10000, HARD until it is below 7000 and 10s after it began; the step law gives HARD a scale of 0.5; applied and read back"},
		{"another owner's scale is lower", seen(pressure.OK, 300, func(d *Decision) { d.InForce = 0.1 }),
			"OK since 12:03:10: depth 300 of 10000 not above 5000; the step law gives OK a scale of 0.5; applied, and a scale of 0.1 is in force, for the lowest of all owners' wins"},
		{"held", seen(pressure.OK, 300, fail(ReasonHold, 12.34, 0.5)),
			"Prometheus could not be read: connection refused; the last scale of 0.5 is renewed until the signals are 30s old, now 12.3s; applied and read back"},
		{"fail mode", seen(pressure.OK, 300, fail(ReasonFailMode, 31, 0.5)),
			"Prometheus could not be read: connection refused; the signals are 31s old, more than 30s, so fail mode safe gives a scale of 0.5; applied and read back"},
		{"waiting", seen(pressure.OK, 300, fail(ReasonWaiting, 5, math.NaN()), func(d *Decision) { d.Outcome = OutcomeNothing }),
			"Prometheus could not be read: connection refused; nothing was decided yet, and nothing is applied until there are signals or 30s have passed, now 5s"},
		{"not applied", seen(pressure.OK, 300, func(d *Decision) { d.Outcome, d.ApplyError = OutcomeFailed, "connection refused" }),
			"OK since 12:03:10: depth 300 of 10000 not above 5000; the step law gives OK a scale of 0.5; not applied: connection refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.decision.explain()); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALawWithoutWordsHasItsTermsListed(t *testing.T) {
	var out policy.Output
	out.Scale, out.Reason = 0.25, "track"
	out.Terms.Add("drain_per_second", 1050)
	out.Terms.Add("error_items", math.NaN())
	got := explainLaw(&Provider{Law: needsDrain{}, LawName: "drain"}, policy.Input{}, out)
	want := "the drain law gives a scale of 0.25 (track) from drain_per_second 1050, error_items unknown"
	if got != want {
		t.Errorf("explanation is %q, want %q", got, want)
	}
}

func BenchmarkDecide(b *testing.B) {
	now := time.Unix(1_760_500_000, 0)
	l := newLine(target(b, "bars", nil), now)
	v := view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
		"bars": {CoordinatorID: "bars", Depth: 600, Capacity: 1000, At: now, Newest: now},
	}}}
	b.ReportAllocs()
	for b.Loop() {
		l.decide(now, v)
	}
}
