package replicas_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/replicas"
)

func config() replicas.Config {
	return replicas.Config{
		DrainWithin: time.Minute, Max: 100, Growth: 2,
		Settle: 30 * time.Second, Tries: 2, RetryAfter: 5 * time.Minute,
	}
}

var unknown = math.NaN()

func TestAFleetIsAsLargeAsTheBacklogAndTheArrivalsNeed(t *testing.T) {
	for _, test := range []struct {
		name  string
		set   func(*replicas.Config)
		s     replicas.Signals
		want  int
		cause replicas.Cause
	}{
		{"nothing waits and nothing comes", nil,
			replicas.Signals{ArrivalsPerSecond: 0, DrainPerSecond: 0, Replicas: 3}, 0, replicas.CauseDemand},
		{"one replica carries the arrivals", nil,
			replicas.Signals{Depth: 10, ArrivalsPerSecond: 100, DrainPerSecond: 100, Replicas: 1}, 2, replicas.CauseDemand},
		{"6000 waiting in a minute, and 200/s, at 100/s of each", nil,
			replicas.Signals{Depth: 6000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}, 3, replicas.CauseDemand},
		{"a backlog that needs more than twice as many is met step by step", nil,
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}, 4, replicas.CauseGrowth},
		{"one replica may become two", func(c *replicas.Config) { c.Growth = 1.2 },
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 1}, 2, replicas.CauseGrowth},
		{"no more than the most", func(c *replicas.Config) { c.Max = 3 },
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}, 3, replicas.CauseMax},
		{"no fewer than the least", func(c *replicas.Config) { c.Min = 2 },
			replicas.Signals{ArrivalsPerSecond: 0, DrainPerSecond: 0, Replicas: 3}, 2, replicas.CauseMin},
		{"a store that stands still holds the fleet", nil,
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: 0, Replicas: 4}, 4, replicas.CauseNoDrain},
		{"a fleet at zero gets one replica to begin with", nil,
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: unknown}, 1, replicas.CauseNoDrain},
		{"a known capability sizes a fleet at zero, one step at a time", func(c *replicas.Config) { c.PerReplicaPerSecond = 100 },
			replicas.Signals{Depth: 60000, ArrivalsPerSecond: 200, DrainPerSecond: unknown}, 1, replicas.CauseGrowth},
		{"a known capability stands in for a drain that is not known yet", func(c *replicas.Config) { c.PerReplicaPerSecond = 100 },
			replicas.Signals{Depth: 6000, ArrivalsPerSecond: 200, DrainPerSecond: unknown, Replicas: 2}, 3, replicas.CauseDemand},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config()
			if test.set != nil {
				test.set(&c)
			}
			got, ok := replicas.NewFleet(c).Step(0, test.s)
			if !ok || got.Replicas != test.want || got.Cause != test.cause {
				t.Errorf("got %d because of %s (%+v), want %d because of %s", got.Replicas, got.Cause, got, test.want, test.cause)
			}
		})
	}
}

func TestWithoutArrivalsThereIsNoPlan(t *testing.T) {
	fleet := replicas.NewFleet(config())
	s := replicas.Signals{Depth: 100, ArrivalsPerSecond: unknown, DrainPerSecond: 10, Replicas: 1}
	if p, ok := fleet.Step(0, s); ok {
		t.Errorf("got a plan: %+v", p)
	}
	s.ArrivalsPerSecond = 10
	first, _ := fleet.Step(time.Second, s)
	s.ArrivalsPerSecond = unknown // a new replica has one sample yet
	second, ok := fleet.Step(time.Second, s)
	if diff := cmp.Diff(first.DemandPerSecond, second.DemandPerSecond); !ok || diff != "" {
		t.Errorf("the last arrivals that were known do not stand in: %s", diff)
	}
}

// plant is a fleet on a store: what waits, how many replicas write, what each
// can do and what the store can take.
type plant struct {
	depth, arrivals, perReplica, store float64
	n                                  int
}

// run lets the time go by and returns the signals.
func (p *plant) run(d time.Duration) replicas.Signals {
	most := min(float64(p.n)*p.perReplica, p.store)
	before := p.depth
	p.depth = max(0, p.depth+(p.arrivals-most)*d.Seconds())
	drained := (before + p.arrivals*d.Seconds() - p.depth) / d.Seconds()
	return replicas.Signals{Depth: p.depth, ArrivalsPerSecond: p.arrivals, DrainPerSecond: drained, Replicas: p.n}
}

// follow lets the fleet decide every tick for that long, and the plant obey
// after a while; it returns the most replicas there were and the last plan.
func follow(fleet *replicas.Fleet, p *plant, d time.Duration) (most int, last replicas.Plan) {
	const tick, delay = 5 * time.Second, 3 // ticks until a pod writes
	var asked []int
	for range int(d / tick) {
		last, _ = fleet.Step(tick, p.run(tick))
		asked = append(asked, max(1, last.Replicas))
		if len(asked) > delay {
			p.n = asked[len(asked)-1-delay]
		}
		most = max(most, p.n)
	}
	return most, last
}

func TestAStoreBoundFleetStopsToGrowWithinAFewSteps(t *testing.T) {
	for _, stepBack := range []bool{false, true} {
		c := config()
		c.StepBack = stepBack
		p := &plant{depth: 1000, arrivals: 500, perReplica: 100, store: 100, n: 1}
		most, last := follow(replicas.NewFleet(c), p, 4*time.Minute)
		if !last.StoreBound || last.Cause != replicas.CauseStoreBound || most > 4 {
			t.Errorf("step back %v: up to %d replicas, then %+v", stepBack, most, last)
		}
		if want := map[bool]int{false: 4, true: 1}[stepBack]; last.Replicas != want || p.n != want {
			t.Errorf("step back %v: %d replicas wanted, %d there, want %d", stepBack, last.Replicas, p.n, want)
		}
	}
}

// obey is an autoscaler that asks every so many ticks, pods that write after so
// many more, and a drain that is not known while a replica has one sample only.
func obey(fleet *replicas.Fleet, p *plant, every, delay int, d time.Duration) (most int, last replicas.Plan) {
	const tick = 5 * time.Second
	coming := map[int]int{}
	seen := 0
	for i := range int(d / tick) {
		if n, come := coming[i]; come {
			p.n = n
		}
		s := p.run(tick)
		if p.n > seen {
			s.DrainPerSecond, s.ArrivalsPerSecond = unknown, unknown
		}
		seen = p.n
		if plan, ok := fleet.Step(tick, s); ok {
			last = plan
			if i%every == 0 {
				coming[i+delay] = max(1, plan.Replicas)
			}
		}
		most = max(most, p.n)
	}
	return most, last
}

func TestAStoreBoundFleetIsFoundOutHoweverTheAutoscalerAsks(t *testing.T) {
	for every := 1; every <= 4; every++ {
		for delay := 1; delay <= 4; delay++ {
			// The scaler starts while there is a backlog already.
			fleet := replicas.NewFleet(config())
			p := &plant{depth: 12_000, arrivals: 2400, perReplica: 500, store: 1500, n: 3}
			most, last := obey(fleet, p, every, delay, 4*time.Minute)
			if most > 12 || !last.StoreBound {
				t.Errorf("asked every %d ticks, obeyed %d later, it grows to %d replicas: %+v", every, delay, most, last)
			}
		}
	}
}

func TestARollingUpdateOfAStoreBoundFleetDoesNotMakeItGrow(t *testing.T) {
	for every := 1; every <= 4; every++ {
		fleet := replicas.NewFleet(config())
		p := &plant{depth: 12_000, arrivals: 1400, perReplica: 500, store: 1500, n: 3}
		obey(fleet, p, every, 2, time.Minute) // all is well
		// One replica comes and another goes, and from then on more arrives than
		// the store takes.
		n := p.n
		for _, p.n = range []int{n + 1, n} {
			fleet.Step(5*time.Second, p.run(5*time.Second))
		}
		p.arrivals, p.depth = 2400, 12_000
		if most, last := obey(fleet, p, every, 2, 4*time.Minute); most > 4*(n+1) || !last.StoreBound {
			t.Errorf("asked every %d ticks it grows from %d to %d replicas: %+v", every, n, most, last)
		}
	}
}

func TestAWriterBoundFleetGrowsUntilItCarriesTheLoad(t *testing.T) {
	p := &plant{depth: 1000, arrivals: 1500, perReplica: 100, store: math.Inf(1), n: 1}
	most, last := follow(replicas.NewFleet(config()), p, 10*time.Minute)
	if last.StoreBound || p.n < 15 || most > 40 || p.depth > 1500*5 {
		t.Errorf("%d replicas, at most %d, with %v waiting: %+v", p.n, most, p.depth, last)
	}
}

func TestAStoreBoundFleetTriesAgainAndGrowsOnceTheStoreIsFaster(t *testing.T) {
	fleet := replicas.NewFleet(config())
	p := &plant{depth: 1000, arrivals: 800, perReplica: 100, store: 200, n: 1}
	_, last := follow(fleet, p, 5*time.Minute)
	if !last.StoreBound {
		t.Fatalf("not store-bound: %+v", last)
	}
	bound := p.n

	// Nothing changes: after the retry one more step is in vain, no two.
	most, last := follow(fleet, p, 8*time.Minute)
	if !last.StoreBound || most <= bound || most > 2*bound {
		t.Errorf("from %d replicas the retry went to %d: %+v", bound, most, last)
	}

	// The store takes more: that shows in the drain, without waiting for a retry.
	p.store = math.Inf(1)
	if _, last = follow(fleet, p, time.Minute); last.StoreBound {
		t.Errorf("still store-bound: %+v", last)
	}
}

func TestAFleetThatIsLargerThanItNeedBeIsFoundOut(t *testing.T) {
	// Without a backlog the drain tells nothing but the arrivals.
	p := &plant{arrivals: 100, perReplica: 100, store: math.Inf(1), n: 10}
	_, last := follow(replicas.NewFleet(config()), p, 30*time.Minute)
	if p.n > 2 || p.depth > 1000 {
		t.Errorf("%d replicas with %v waiting: %+v", p.n, p.depth, last)
	}
}

func TestTheMultiplierFollowsTheLevel(t *testing.T) {
	plan := func(n int) replicas.Plan { return replicas.Plan{Replicas: n, Cause: replicas.CauseDemand} }
	bound := replicas.Plan{Replicas: 8, Cause: replicas.CauseStoreBound, StoreBound: true, Enough: 2, Fruitless: 2}
	inVain := replicas.Plan{Replicas: 8, Cause: replicas.CauseDemand, Fruitless: 1}
	judging := replicas.Plan{Replicas: 8, Cause: replicas.CauseDemand, Judging: true}
	for _, test := range []struct {
		name     string
		plan     replicas.Plan
		level    pressure.Level
		there    int
		stepBack bool
		want     int // replicas that the autoscaler makes of it
		cause    replicas.Cause
	}{
		{"OK grows as planned", plan(6), pressure.OK, 4, false, 6, replicas.CauseDemand},
		{"OK shrinks as planned", plan(2), pressure.OK, 4, false, 2, replicas.CauseDemand},
		{"OK holds as planned", plan(4), pressure.OK, 4, false, 4, replicas.CauseDemand},
		{"OK passes over what the autoscaler would", plan(21), pressure.OK, 20, false, 20, replicas.CauseTolerance},
		{"SOFT grows as planned", plan(6), pressure.Soft, 4, false, 6, replicas.CauseDemand},
		{"SOFT does not shrink", plan(2), pressure.Soft, 4, false, 4, replicas.CauseLevel},
		{"SOFT holds while the store is the limit", bound, pressure.Soft, 4, true, 4, replicas.CauseStoreBound},
		{"HARD takes a small step while nothing speaks against it", plan(8), pressure.Hard, 4, false, 5, replicas.CauseLevel},
		{"HARD does not shrink for want of demand", plan(2), pressure.Hard, 4, false, 4, replicas.CauseDemand},
		{"HARD takes one more small step after a scale-out in vain", inVain, pressure.Hard, 4, true, 5, replicas.CauseLevel},
		{"HARD waits for the verdict on a scale-out", judging, pressure.Hard, 4, true, 4, replicas.CauseLevel},
		{"HARD holds while the store is the limit", bound, pressure.Hard, 4, false, 4, replicas.CauseStoreBound},
		{"HARD steps back where it is told to", bound, pressure.Hard, 4, true, 3, replicas.CauseStoreBound},
		{"HARD steps back no further than to what does as much", bound, pressure.Hard, 2, true, 2, replicas.CauseStoreBound},
		{"without replicas the answer is their number", plan(3), pressure.OK, 0, false, 3, replicas.CauseDemand},
		{"without replicas there is at least one", plan(0), pressure.OK, 0, false, 1, replicas.CauseDemand},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, cause := replicas.Relative(test.plan, replicas.Signals{Replicas: test.there, Level: test.level}, test.stepBack)
			if got := replicas.ByValue(value, 1, test.there); got != test.want || cause != test.cause {
				t.Errorf("%v makes %d replicas because of %s, want %d because of %s", value, got, cause, test.want, test.cause)
			}
			if test.want == test.there && value != 1 {
				t.Errorf("the fleet is held by %v, want 1", value)
			}
		})
	}
}

func TestTheAutoscalerMakesThePlanOfTheMultiplier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		there := rapid.IntRange(1, 300).Draw(t, "there")
		wanted := rapid.IntRange(0, 600).Draw(t, "wanted")
		value, _ := replicas.Relative(replicas.Plan{Replicas: wanted}, replicas.Signals{Replicas: there}, false)
		got := replicas.ByValue(value, 1, there)
		if change := float64(wanted) / float64(there); change >= 1-replicas.Tolerance && change <= 1+replicas.Tolerance {
			if value != 1 || got != there {
				t.Fatalf("%v makes %d of %d: want it held", value, got, there)
			}
			return
		}
		slack := 0
		if there > 100 { // one in a hundred lies within the least step
			slack = 1
		}
		if want := max(1, wanted); got < want || got > want+slack {
			t.Fatalf("%v makes %d of %d, want %d", value, got, there, want)
		}
	})
}

func TestAFleetStaysWithinItsBoundsWhateverItSees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := config()
		c.Min = rapid.IntRange(0, 5).Draw(t, "min")
		c.Max = rapid.IntRange(c.Min, 50).Draw(t, "max")
		c.StepBack = rapid.Bool().Draw(t, "stepBack")
		fleet := replicas.NewFleet(c)
		rate := rapid.OneOf(rapid.Just(unknown), rapid.Float64Range(0, 1e9), rapid.Just(0.0))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := replicas.Signals{
				Depth:             rapid.Float64Range(0, 1e9).Draw(t, "depth"),
				ArrivalsPerSecond: rate.Draw(t, "arrivals"),
				DrainPerSecond:    rate.Draw(t, "drain"),
				Replicas:          rapid.IntRange(0, 60).Draw(t, "replicas"),
				Level:             pressure.Level(rapid.IntRange(0, 2).Draw(t, "level")),
			}
			p, ok := fleet.Step(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "elapsed")), s)
			if !ok {
				continue
			}
			if p.Replicas < c.Min || p.Replicas > c.Max {
				t.Fatalf("%d replicas are out of bounds: %+v", p.Replicas, p)
			}
			if p.Replicas > max(c.Min, s.Replicas+1, 2*s.Replicas) {
				t.Fatalf("%d replicas of %d are more than a step: %+v", p.Replicas, s.Replicas, p)
			}
			value, _ := replicas.Relative(p, s, c.StepBack)
			if !(value > 0) || math.IsInf(value, 0) {
				t.Fatalf("a multiplier of %v", value)
			}
			if value != 1 && s.Replicas > 0 && math.Abs(value-1) <= replicas.Tolerance {
				t.Fatalf("a multiplier of %v does nothing, want 1", value)
			}
			if s.Level != pressure.OK && s.Replicas > 0 && value < 1 && !p.StoreBound {
				t.Fatalf("a fleet under pressure shrinks by %v: %+v", value, p)
			}
		}
	})
}

func TestMoreDemandNeverAsksForLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := replicas.Signals{
			ArrivalsPerSecond: rapid.Float64Range(0, 1e5).Draw(t, "arrivals"),
			DrainPerSecond:    rapid.Float64Range(1, 1e5).Draw(t, "drain"),
			Replicas:          rapid.IntRange(1, 40).Draw(t, "replicas"),
		}
		c := config()
		c.PerReplicaPerSecond = s.DrainPerSecond / float64(s.Replicas)
		small, large := s, s
		small.Depth = rapid.Float64Range(0, 1e6).Draw(t, "depth")
		large.Depth = small.Depth + rapid.Float64Range(0, 1e6).Draw(t, "more")
		p, _ := replicas.NewFleet(c).Step(0, small)
		q, _ := replicas.NewFleet(c).Step(0, large)
		if q.Replicas < p.Replicas {
			t.Fatalf("%v waiting asks for %d, %v for %d", small.Depth, p.Replicas, large.Depth, q.Replicas)
		}
	})
}

func TestTheArithmeticIsTheAutoscalers(t *testing.T) {
	for _, test := range []struct {
		name                   string
		got, want              int
		value, target, current float64
	}{
		{name: "a total over a target", got: replicas.ByAverageValue(6000, 2000, 1), want: 3},
		{name: "rounded up", got: replicas.ByAverageValue(6001, 2000, 1), want: 4},
		{name: "held within the tolerance", got: replicas.ByAverageValue(6100, 2000, 3), want: 3},
		{name: "from none", got: replicas.ByAverageValue(1, 2000, 0), want: 1},
		{name: "a ratio", got: replicas.ByValue(1.5, 1, 4), want: 6},
		{name: "a ratio within the tolerance", got: replicas.ByValue(1.1, 1, 4), want: 4},
		{name: "what is no number is nothing", got: replicas.ByAverageValue(math.NaN(), 1, 1), want: 0},
		{name: "infinitely many are none", got: replicas.ByValue(math.Inf(1), 1, 1), want: 0},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, test.got, test.want)
		}
	}
}

func TestConfigureKeepsWhatWasLearnt(t *testing.T) {
	s := replicas.Signals{Depth: 6000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}
	fleet := replicas.NewFleet(config())
	fleet.Step(0, s)
	c := config()
	c.DrainWithin = 30 * time.Second
	fleet.Configure(c)
	s.DrainPerSecond = unknown
	got, _ := fleet.Step(time.Second, s)
	want := replicas.Plan{Replicas: 4, Cause: replicas.CauseDemand, DemandPerSecond: 400, PerReplicaPerSecond: 100, Wanted: 4}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
	}
}

// A backlog of 6,000 items shall be gone in a minute while 200 more arrive
// every second, and each of two replicas writes 100 of them.
func ExampleFleet_Step() {
	fleet := replicas.NewFleet(replicas.Config{
		DrainWithin: time.Minute, Max: 20, Growth: 2,
		Settle: 30 * time.Second, Tries: 2, RetryAfter: 5 * time.Minute,
	})
	signals := replicas.Signals{Depth: 6000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}
	plan, _ := fleet.Step(0, signals)
	multiplier, _ := replicas.Relative(plan, signals, false)
	fmt.Printf("%v/s by %v/s each: %d replicas\n", plan.DemandPerSecond, plan.PerReplicaPerSecond, plan.Replicas)
	fmt.Printf("a multiplier of %v makes %d\n", multiplier, replicas.ByValue(multiplier, 1, 2))
	// Output:
	// 300/s by 100/s each: 3 replicas
	// a multiplier of 1.375 makes 3
}

func BenchmarkFleetStep(b *testing.B) {
	fleet := replicas.NewFleet(config())
	s := replicas.Signals{Depth: 6000, ArrivalsPerSecond: 200, DrainPerSecond: 200, Replicas: 2}
	b.ReportAllocs()
	for b.Loop() {
		p, _ := fleet.Step(5*time.Second, s)
		replicas.Relative(p, s, true)
	}
}
