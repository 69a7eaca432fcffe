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
		l := newLine(&subject, now)
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
			l := newLine(new(target(outer, "bars", nil)), now)
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
	l := newLine(new(target(t, "bars", nil, func(t *Target) { t.CoolDown = time.Hour })), now)
	var got []string
	for _, s := range []struct{ depth, capacity float64 }{{600, 1000}, {600, 2000}, {1600, 2000}, {100, 0}} {
		v := view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
			"bars": {CoordinatorID: "bars", Depth: s.depth, Capacity: s.capacity, At: now, Newest: now},
		}}}
		d := l.decide(now, v)[0]
		got = append(got, d.levelName()+" above "+number(d.SoftEnter)+", "+number(d.HardEnter))
		now = now.Add(5 * time.Second)
	}
	want := []string{"SOFT above 500, 800", "SOFT above 1,000, 1,600", "HARD above 1,000, 1,600", "HARD above 0, 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
}

func BenchmarkDecide(b *testing.B) {
	now := time.Unix(1_760_500_000, 0)
	l := newLine(new(target(b, "bars", nil)), now)
	v := view{fresh: true, at: now, snapshot: metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
		"bars": {CoordinatorID: "bars", Depth: 600, Capacity: 1000, At: now, Newest: now},
	}}}
	b.ReportAllocs()
	for b.Loop() {
		l.decide(now, v)
	}
}
