package plant

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/trace"
)

// constant is a law that always gives the same scale.
type constant float64

func (c constant) Decide(policy.Input) policy.Output { return policy.Output{Scale: float64(c)} }

func steady(perSecond float64) Rate { return func(time.Duration) float64 { return perSecond } }

// simple is a queue of 1,000 items for ten minutes, a provider of 200 a second
// and a store of 100 a second.
func simple() Scenario {
	return Scenario{
		Length: 10 * time.Minute, Capacity: 1000, Base: 200, Store: steady(100),
		Scrape: time.Second, Evaluate: time.Second, Seed: 1,
		Thresholds: pressure.Thresholds{SoftEnter: 500, SoftExit: 400, HardEnter: 800, HardExit: 700},
		Guard:      controller.Guard{HardCap: 1},
	}
}

func TestFiguresOfAnOpenGateAreWhatArithmeticSays(t *testing.T) {
	f := Run(simple(), constant(1))
	// 200 a second come and 100 are taken: the queue is full after some 10 s,
	// from then on half of what comes is refused, and what is written has
	// waited for 1,000 items at 100 a second.
	if f.MaxDepth != 1000 || math.Abs(f.OverflowRatio-0.49) > 0.01 {
		t.Errorf("depth is at most %v and %.3f are refused, want 1000 and 0.49", f.MaxDepth, f.OverflowRatio)
	}
	if math.Abs(f.P50WaitSeconds-10) > 0.1 || math.Abs(f.P99WaitSeconds-10) > 0.1 {
		t.Errorf("waits are %v s and %v s, want 10 s", f.P50WaitSeconds, f.P99WaitSeconds)
	}
	if math.Abs(f.UtilisationOfOracle-1) > 0.001 {
		t.Errorf("utilisation is %v, want 1", f.UtilisationOfOracle)
	}
}

func TestFiguresOfAHalfClosedGateAreWhatArithmeticSays(t *testing.T) {
	f := Run(simple(), constant(0.25))
	if math.Abs(f.UtilisationOfOracle-0.5) > 0.001 || f.OverflowRatio != 0 || f.P99WaitSeconds > 0.02 || f.ReversalsPerMinute != 0 {
		t.Errorf("figures are %+v, want half of the store used and nothing waiting", f)
	}
}

func TestTheDelayedOracleLosesWhatItLearnsTooLate(t *testing.T) {
	s := simple()
	// The store doubles its speed each minute for a minute. Who learns it 2 s
	// late has nothing for it to write for 2 s, but for what the last fall left.
	s.Base = 400
	s.Capacity = 1
	s.Store = func(at time.Duration) float64 {
		if at/time.Minute%2 == 0 {
			return 100
		}
		return 200
	}
	f := Run(s, constant(1))
	want := (5*100.0 + 5*200*(58.0/60) + 5*100*(2.0/60)) / (5*100 + 5*200)
	if got := f.UtilisationOfOracle / f.UtilisationOfDelayedOracle; math.Abs(got-want) > 0.005 {
		t.Errorf("the delayed oracle gets %.4f of the oracle's written, want %.4f", got, want)
	}
}

func TestWhatIsNotLetThroughWaitsBeforeTheGate(t *testing.T) {
	s := simple()
	// 50 a second are offered in the first half and nothing in the second; the
	// gate lets 25 a second through, so that all are written in the end.
	s.Offered = func(at time.Duration) float64 {
		if at < 5*time.Minute {
			return 50
		}
		return 0
	}
	s.Base = 100
	f := Run(s, constant(0.25))
	if math.Abs(f.UtilisationOfOracle-1) > 0.01 {
		t.Errorf("written are %.3f of what the oracle writes, want all", f.UtilisationOfOracle)
	}
}

func TestTheSameScenarioGivesTheSameFigures(t *testing.T) {
	run := func() Figures { return Run(Standard(5*time.Second, 5*time.Second, 7), policy.NewDrain()) }
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}

// A store that stops for a minute overflows no queue whose fast loop has the
// room for it, under any law, and not when it comes back either; and the store
// is kept about as busy as without the fast loop.
func TestAFastLoopKeepsAStalledStoreFromOverflowing(t *testing.T) {
	for _, name := range policy.Names() {
		law := func() policy.Law {
			law, err := policy.New(name, policy.Settings{
				OK: 1, Soft: 0.5, Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning(),
			})
			if err != nil {
				t.Fatal(err)
			}
			return law
		}
		s := Standard(5*time.Second, 5*time.Second, 1)
		s.Length = 6 * time.Minute
		s.Store = func(at time.Duration) float64 {
			if at > 2*time.Minute && at < 3*time.Minute {
				return 0
			}
			return 1000
		}
		without := Run(s, law())
		s.FastLoop = &[...]float64{1, 0.5, 0}
		with := Run(s, law())
		if with.RefusedItems != 0 {
			t.Errorf("%s: with the fast loop %.0f items are refused, and %.0f without", name, with.RefusedItems, without.RefusedItems)
		}
		// pid takes back what the fast loop did not let it have, over its integral
		// time, and starves the store meanwhile.
		if name != policy.PIDName && with.UtilisationOfOracle < without.UtilisationOfOracle-0.03 {
			t.Errorf("%s: utilisation is %.4f with the fast loop and %.4f without", name, with.UtilisationOfOracle, without.UtilisationOfOracle)
		}
	}
}

func TestDrainStandsMissedScrapesAndCountersThatBeginAnew(t *testing.T) {
	s := Standard(time.Second, time.Second, 1)
	calm := Run(s, policy.NewDrain())
	s.Missed, s.Resets = 0.1, 0.05
	rough := Run(s, policy.NewDrain())
	if rough == calm {
		t.Error("missed scrapes and resets change nothing at all")
	}
	if rough.RefusedItems > 0 || rough.UtilisationOfOracle < 0.97 {
		t.Errorf("%.0f items are refused, utilisation is %.4f; calm it is %.4f", rough.RefusedItems, rough.UtilisationOfOracle, calm.UtilisationOfOracle)
	}
}

// The laws that follow the depth without steps come to rest at any dead time.
// Those that know only some scales, or take away in steps, cannot: a store that
// takes none of their scales keeps them swinging; see package headroom.
func TestDrainAndPIDComeToRest(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second} {
		for _, drain := range []float64{500, 1000, 1400} {
			s := Standard(interval, interval, 1)
			s.Length, s.Store = 2*time.Hour, steady(drain)
			var low, high float64
			s.Observe = func(p Point) { // of the second hour
				switch {
				case p.At == time.Hour:
					low, high = p.Depth, p.Depth
				case p.At > time.Hour:
					low, high = min(low, p.Depth), max(high, p.Depth)
				}
			}
			pid, err := policy.NewPID(policy.DefaultPIDTuning())
			if err != nil {
				t.Fatal(err)
			}
			for name, law := range map[string]policy.Law{policy.DrainName: policy.NewDrain(), policy.PIDName: pid} {
				Run(s, law)
				if high-low > 0.02*s.Capacity {
					t.Errorf("under %s at %v and %v/s the depth goes from %.0f to %.0f for ever", name, interval, drain, low, high)
				}
			}
		}
	}
}

// points are seconds and values in turn.
func points(v ...float64) (points []trace.Point) {
	for i := 0; i < len(v); i += 2 {
		points = append(points, trace.Point{At: time.Duration(v[i] * float64(time.Second)), Value: v[i+1]})
	}
	return points
}

func TestReplayedTracesKeepEveryItem(t *testing.T) {
	arrivals := trace.Trace{Interval: time.Second, Points: points(0, 10, 1, 1000, 2, 0, 10, 40)}
	capacity := trace.Trace{Interval: 5 * time.Second, Points: points(0, 100, 5, 300)}
	r := Replay{Arrivals: arrivals, Capacity: capacity, ScaleArrivals: 1, Length: 30 * time.Second, Scrape: time.Second, Evaluate: time.Second}
	s, used := r.Scenario()
	items := 0.0
	for now := time.Duration(0); now < s.Length; now += step {
		items += s.Offered(now) * stepSeconds
	}
	if math.Abs(items-1050) > 1e-6 {
		t.Errorf("%v items are offered, want 1050", items)
	}
	if used.ScaleCapacity != 5 || s.Store(0) != 500 || s.Store(7*time.Second) != 1500 || s.Store(12*time.Second) != 500 {
		t.Errorf("the store takes %v, %v and %v, want a mean of 1000 that begins anew", s.Store(0), s.Store(7*time.Second), s.Store(12*time.Second))
	}
	if s.Base != 2000 || s.Capacity != 10_000 {
		t.Errorf("base and queue are %v and %v", s.Base, s.Capacity)
	}
}

func TestArrivalsAreScaledUntilTheProviderIsBusyHalfOfTheTime(t *testing.T) {
	var arrivals trace.Trace
	arrivals.Interval = time.Second
	for i := range 600 {
		arrivals.Points = append(arrivals.Points, trace.Point{At: time.Duration(i) * time.Second, Value: float64(i % 60)})
	}
	capacity := trace.Trace{Interval: time.Second, Points: points(0, 1)}
	s, _ := Replay{Arrivals: arrivals, Capacity: capacity, Scrape: time.Second, Evaluate: time.Second}.Scenario()
	o, busy, n := oracle{scenario: s}, 0, 0
	for now := time.Duration(0); now < s.Length; now += step {
		o.flow(now)
		n++
		if o.upstream > 0 {
			busy++
		}
	}
	if share := float64(busy) / float64(n); math.Abs(share-0.5) > 0.02 {
		t.Errorf("the oracle has something left %.2f of the time, want half", share)
	}
}

func BenchmarkRun(b *testing.B) {
	s := Standard(5*time.Second, 5*time.Second, 1)
	for b.Loop() {
		Run(s, policy.NewDrain())
	}
}
