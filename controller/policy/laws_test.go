package policy_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// laws are all laws, as they are by default.
func laws(t testing.TB) map[string]func() policy.Law {
	make := func(law policy.Law, err error) policy.Law {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
		return law
	}
	return map[string]func() policy.Law{
		policy.StepName:   func() policy.Law { l, err := policy.NewStep(1, 0.5, 0); return make(l, err) },
		policy.LinearName: func() policy.Law { l, err := policy.NewLinear(1, 0); return make(l, err) },
		policy.ExponentialName: func() policy.Law {
			l, err := policy.NewExponential(policy.DefaultExponentialTuning())
			return make(l, err)
		},
		policy.PIDName:   func() policy.Law { l, err := policy.NewPID(policy.DefaultPIDTuning()); return make(l, err) },
		policy.DrainName: func() policy.Law { return policy.NewDrain() },
	}
}

var marks = pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000}

// usual is a pipeline in balance: 1,000 items waiting, 1,000 a second in and out.
func usual() policy.Input {
	return policy.Input{
		Elapsed: time.Second, Depth: 1000, Capacity: 10_000, Thresholds: marks,
		ArrivalsPerSecond: 1000, DrainPerSecond: 1000, BasePerSecond: 2000, FloorPerSecond: 1,
		DeadTime: 2 * time.Second, Age: time.Second, Fresh: true, InForce: 0.5,
	}
}

// anything draws an input of which every number may be absurd.
func anything(t *rapid.T) policy.Input {
	number := func(name string, usual float64) float64 {
		return rapid.OneOf(
			rapid.Float64Range(0, usual),
			rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}),
		).Draw(t, name)
	}
	span := func(name string) time.Duration {
		return time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, name))
	}
	in := policy.Input{
		Elapsed: span("elapsed"), Level: pressure.Level(rapid.IntRange(0, 4).Draw(t, "level")),
		Depth: number("depth", 20_000), Capacity: number("capacity", 10_000),
		ArrivalsPerSecond: number("arrivals", 5000), DrainPerSecond: number("drain", 5000),
		BasePerSecond: number("base", 5000), FloorPerSecond: number("floor", 10),
		DeadTime: span("dead time"), Age: span("age"), Fresh: rapid.Bool().Draw(t, "fresh"), InForce: number("in force", 1),
	}
	in.Depth = max(0, in.Depth) // the reader lets nothing else through
	if !(in.Depth <= math.MaxFloat64) {
		in.Depth = 0
	}
	in.Thresholds = marks
	return in
}

func TestNoInputMakesALawLeaveItsRange(t *testing.T) {
	for name, law := range laws(t) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				law, twin := law(), law()
				for range rapid.IntRange(1, 30).Draw(t, "decisions") {
					in := anything(t)
					out := law.Decide(in)
					if !(out.Scale >= 0 && out.Scale <= 1) {
						t.Fatalf("scale is %v for %+v", out.Scale, in)
					}
					if again := twin.Decide(in); again.Scale != out.Scale || again.Reason != out.Reason {
						t.Fatalf("the same inputs give a scale of %v (%s) and of %v (%s)", out.Scale, out.Reason, again.Scale, again.Reason)
					}
				}
			})
		})
	}
}

// plausible draws an input that a pipeline may give.
func plausible(t *rapid.T) policy.Input {
	in := usual()
	in.Depth = rapid.Float64Range(0, 10_000).Draw(t, "depth")
	in.ArrivalsPerSecond = rapid.Float64Range(0, 2000).Draw(t, "arrivals")
	in.DrainPerSecond = rapid.Float64Range(0, 2000).Draw(t, "drain")
	in.InForce = rapid.Float64Range(0, 1).Draw(t, "in force")
	in.Age = time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "age"))
	switch {
	case in.Depth >= marks.HardEnter:
		in.Level = pressure.Hard
	case in.Depth > marks.SoftEnter:
		in.Level = pressure.Soft
	}
	return in
}

func TestALawDoesNotChangeDirectionWhileItsInputStaysTheSame(t *testing.T) {
	for name, law := range laws(t) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				law := law()
				for range rapid.IntRange(0, 10).Draw(t, "decisions before") {
					law.Decide(plausible(t))
				}
				in := plausible(t)
				in.InForce = math.NaN() // the scale in force follows the law; that is a change
				last, direction := law.Decide(in).Scale, 0.0
				in.Fresh = false
				for range 50 {
					scale := law.Decide(in).Scale
					change := scale - last
					if math.Abs(change) > 1e-9 {
						if direction != 0 && math.Signbit(change) != math.Signbit(direction) {
							t.Fatalf("the scale goes from %v to %v, the other way than before", last, scale)
						}
						direction = change
					}
					last = scale
				}
			})
		})
	}
}

func TestTheStaticLawsNeverOpenForADeeperQueue(t *testing.T) {
	all := laws(t)
	for _, name := range []string{policy.StepName, policy.LinearName} {
		law := all[name]()
		tracker := pressure.NewTracker(marks)
		last := 1.0
		for depth := 0.0; depth <= 11_000; depth += 50 {
			in := usual()
			in.Depth = depth
			in.Level, _ = tracker.Observe(time.Unix(int64(depth), 0), depth, pressure.OK)
			scale := law.Decide(in).Scale
			if scale > last {
				t.Errorf("%s opens from %v to %v at a depth of %v", name, last, scale, depth)
			}
			last = scale
		}
		if last != 0 {
			t.Errorf("%s gives a scale of %v to a full queue", name, last)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	for name, law := range laws(t) {
		law := law()
		in := usual()
		if n := testing.AllocsPerRun(1000, func() { law.Decide(in) }); n != 0 {
			t.Errorf("%s allocates %v times a decision", name, n)
		}
	}
}

func TestLinearIsAStraightLineBetweenTheMarks(t *testing.T) {
	law, err := policy.NewLinear(1, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	for depth, want := range map[float64]float64{0: 1, 5000: 1, 6000: 0.7, 6500: 0.55, 8000: 0.1, 12_000: 0.1} {
		in := usual()
		in.Depth = depth
		if got := law.Decide(in).Scale; math.Abs(got-want) > 1e-12 {
			t.Errorf("scale at a depth of %v is %v, want %v", depth, got, want)
		}
	}
}

func TestLinearStaysClosedWhileTheLevelIsHard(t *testing.T) {
	law, err := policy.NewLinear(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	in := usual()
	in.Depth, in.Level = 7500, pressure.Hard // on its way down, not below the exit mark
	if got := law.Decide(in).Scale; got != 0 {
		t.Errorf("scale is %v, want 0", got)
	}
}

func TestExponentialBacksOffByItsFactorInADeadTime(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second} {
		law, err := policy.NewExponential(policy.DefaultExponentialTuning())
		if err != nil {
			t.Fatal(err)
		}
		in := usual()
		in.Elapsed, in.InForce, in.Level = 0, 0.8, pressure.Hard
		law.Decide(in)
		var out policy.Output
		in.Elapsed = every
		for range int(2 * time.Second / every) {
			out = law.Decide(in)
		}
		if math.Abs(out.Scale-0.4) > 1e-9 {
			t.Errorf("asked each %v, the scale after a dead time at HARD is %v, want half of 0.8", every, out.Scale)
		}
	}
}

func TestExponentialRecoversByASteadyAmount(t *testing.T) {
	law, err := policy.NewExponential(policy.DefaultExponentialTuning())
	if err != nil {
		t.Fatal(err)
	}
	in := usual()
	in.Elapsed, in.InForce = 0, 0.2
	law.Decide(in)
	in.Elapsed = 30 * time.Second
	if out := law.Decide(in); math.Abs(out.Scale-0.5) > 1e-9 || out.Reason != policy.ReasonRecover {
		t.Errorf("after 30 s at OK the scale is %v (%s), want 0.5", out.Scale, out.Reason)
	}
}

func TestPIDStartsFromTheScaleInForce(t *testing.T) {
	law, err := policy.NewPID(policy.DefaultPIDTuning())
	if err != nil {
		t.Fatal(err)
	}
	in := usual()
	in.Elapsed, in.Depth, in.InForce = 0, 6000, 0.3
	if out := law.Decide(in); math.Abs(out.Scale-0.3) > 1e-9 {
		t.Errorf("the first scale is %v, want 0.3 as before", out.Scale)
	}
}

func TestPIDDoesNotJumpWhenTheDeadTimeBecomesKnown(t *testing.T) {
	law, err := policy.NewPID(policy.DefaultPIDTuning())
	if err != nil {
		t.Fatal(err)
	}
	in := usual()
	in.Elapsed, in.Depth, in.InForce, in.DeadTime = 0, 100, 0.5, 0
	for i, dead := range []time.Duration{0, 0, 2 * time.Second, 2 * time.Second, 20 * time.Second, 500 * time.Millisecond} {
		in.DeadTime = dead
		out := law.Decide(in)
		if math.Abs(out.Scale-0.5) > 0.05*float64(i) || (out.Reason == policy.ReasonDeadTime) != (dead == 0) {
			t.Errorf("decision %d, at a dead time of %v: the scale is %v (%s)", i, dead, out.Scale, out.Reason)
		}
		in.Elapsed, in.InForce = 100*time.Millisecond, out.Scale
	}
}

func TestPIDLetsGoAtOnceAfterALongTimeAtItsLimit(t *testing.T) {
	law, err := policy.NewPID(policy.DefaultPIDTuning())
	if err != nil {
		t.Fatal(err)
	}
	// An hour with an empty queue and the gate open: the error is all the time
	// on one side.
	in := usual()
	in.Depth, in.InForce = 0, 1
	for range 3600 {
		law.Decide(in)
	}
	in.Depth = 6000
	if out := law.Decide(in); out.Scale > 0.8 {
		t.Errorf("the first scale for a deep queue is %v: the integral has wound up", out.Scale)
	}
}

func TestPIDSettlesAtItsSetPoint(t *testing.T) {
	law, err := policy.NewPID(policy.DefaultPIDTuning())
	if err != nil {
		t.Fatal(err)
	}
	// An integrator with one second from the decision to its effect.
	depth, inForce := 0.0, 1.0
	for range 600 {
		in := usual()
		in.Depth, in.InForce = depth, inForce
		out := law.Decide(in)
		depth = max(0, depth+2000*inForce-700)
		inForce = out.Scale
	}
	if math.Abs(depth-2500) > 25 || math.Abs(inForce-0.35) > 0.01 {
		t.Errorf("it settles at a depth of %.0f and a scale of %.3f, want 2500 and 0.35", depth, inForce)
	}
}

func TestDrainLetsInWhatTheStoreTakes(t *testing.T) {
	law := policy.NewDrain()
	depth, inForce := 5000.0, 1.0
	drain := 700.0
	for range 60 {
		in := usual()
		in.Depth, in.InForce, in.Age = depth, inForce, 0
		in.ArrivalsPerSecond, in.DrainPerSecond = 2000*inForce, drain
		inForce = law.Decide(in).Scale
		drain = min(700, depth+2000*inForce)
		depth = max(0, depth+2000*inForce-700)
	}
	reference := 0.075 * 2000 * 2
	if math.Abs(depth-reference) > 0.05*reference || math.Abs(inForce-0.35) > 0.01 {
		t.Errorf("it settles at a depth of %.0f and a scale of %.3f, want %.0f and 0.35", depth, inForce, reference)
	}
}

func TestDrainCountsWhatItsOwnCommandsStillBring(t *testing.T) {
	// The same sample, seen at once and seen late. Meanwhile the gate was wide
	// open, so there is more in the queue than the late sample shows.
	seen := func(age time.Duration) float64 {
		law := policy.NewDrain()
		in := usual()
		in.InForce, in.ArrivalsPerSecond, in.Age = 1, 2000, 0
		for range 5 {
			law.Decide(in)
		}
		in.Age = age
		return law.Decide(in).Scale
	}
	if now, late := seen(0), seen(time.Second); !(late < now) {
		t.Errorf("the scale is %v for a late sample and %v for a new one, want less", late, now)
	}
}

func TestDrainOpensAnEmptyQueueTowardsWhatTheStoreWasSeenToTake(t *testing.T) {
	law := policy.NewDrain()
	in := usual()
	in.Depth, in.DrainPerSecond, in.InForce, in.ArrivalsPerSecond = 4000, 1500, 0.75, 1500
	for range 5 {
		law.Decide(in)
	}
	in.Depth, in.DrainPerSecond, in.InForce, in.ArrivalsPerSecond = 0, 300, 0.15, 300
	out := law.Decide(in)
	if out.Scale < 0.5 {
		t.Errorf("the scale is %v (%s), want well above 0.15", out.Scale, out.Reason)
	}
}

func TestDrainLeavesTheScaleWhileItKnowsNoDeadTime(t *testing.T) {
	in := usual()
	in.DeadTime, in.InForce = 0, 0.7
	if out := policy.NewDrain().Decide(in); out.Scale != 0.7 || out.Reason != policy.ReasonDeadTime {
		t.Errorf("the scale is %v (%s), want 0.7 as before", out.Scale, out.Reason)
	}
}

func TestDrainSettlesWhereTheQueueIsNeverDeep(t *testing.T) {
	// A store that is faster than the provider: all that is written is what
	// came a moment ago, so the measured drain follows the gate itself.
	law := policy.NewDrain()
	inForce, previous := 0.5, 0.5
	reversals, direction := 0, 0.0
	for range 120 {
		in := usual()
		in.Depth, in.InForce, in.Age = 100*inForce, inForce, 500*time.Millisecond
		in.ArrivalsPerSecond, in.DrainPerSecond = 2000*(inForce+previous)/2, 2000*(inForce+previous)/2
		previous = inForce
		inForce = law.Decide(in).Scale
		if change := inForce - previous; math.Abs(change) > 0.02 {
			if direction != 0 && math.Signbit(change) != math.Signbit(direction) {
				reversals++
			}
			direction = change
		}
	}
	if reversals > 2 || inForce < 0.95 {
		t.Errorf("it turns %d times and ends at a scale of %.2f, want none and 1", reversals, inForce)
	}
}

func TestDrainWithoutABaseRateIsClosed(t *testing.T) {
	for _, base := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		in := usual()
		in.BasePerSecond = base
		if out := policy.NewDrain().Decide(in); out.Scale != 0 {
			t.Errorf("with a base rate of %v the scale is %v", base, out.Scale)
		}
	}
}

func TestEveryTuningIsChecked(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name string
		err  error
		want []string
	}{
		{"linear", second(policy.NewLinear(nan, 2)), []string{"scale_ok", "scale_hard"}},
		{"linear, HARD more open than OK", second(policy.NewLinear(0.5, 0.6)), []string{"scale_hard"}},
		{"exponential", second(policy.NewExponential(policy.ExponentialTuning{Soft: 1, Hard: nan, RecoveryPerSecond: 0, Least: 1})),
			[]string{"backoff_soft", "backoff_hard", "least_scale", "recovery_per_second", "at_least_every"}},
		{"pid", second(policy.NewPID(policy.PIDTuning{Gain: nan, IntegralTime: 0, Derivative: -1, SetPoint: 2})),
			[]string{"pid_gain", "pid_integral_time", "pid_derivative", "pid_set_point", "at_least"}},
		{"drain", second(policy.NewTunedDrain(policy.DrainTuning{MostOfQueue: 1, ProbeGrowth: nan})),
			[]string{"reference", "horizon", "forget_after", "least_dead_time", "most_of_queue", "probe_growth"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var fields []string
			for _, v := range invalid.All(test.err) {
				fields = append(fields, v.Field)
			}
			if diff := cmp.Diff(test.want, fields); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func second[L policy.Law](_ L, err error) error { return err }

func BenchmarkDecide(b *testing.B) {
	all := laws(b)
	for _, name := range []string{policy.StepName, policy.LinearName, policy.ExponentialName, policy.PIDName, policy.DrainName} {
		b.Run(name, func(b *testing.B) {
			law, in := all[name](), usual()
			b.ReportAllocs()
			for i := range b.N {
				in.InForce = float64(i%64) / 64
				law.Decide(in)
			}
		})
	}
}

func ExampleDrain() {
	law := policy.NewDrain()
	out := law.Decide(policy.Input{
		Depth: 3000, Capacity: 10_000,
		ArrivalsPerSecond: 1200, DrainPerSecond: 1000, BasePerSecond: 2000,
		DeadTime: 10 * time.Second, Fresh: true, InForce: 0.6,
	})
	fmt.Printf("%.2f: %s\n", out.Scale, out.Reason)
	// Output: 0.35: balance
}
