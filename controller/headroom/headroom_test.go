package headroom_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/headroom"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/pressure"
)

func marks(soft, hard float64) pressure.Thresholds {
	return pressure.Thresholds{SoftEnter: soft, SoftExit: 0.8 * soft, HardEnter: hard, HardExit: 0.9 * hard, CoolDown: 10 * time.Second}
}

func step(t testing.TB) *policy.Step {
	t.Helper()
	law, err := policy.NewStep(1, 0.5, 0)
	if err != nil {
		t.Fatal(err)
	}
	return law
}

// market is the pipeline of the examples: a queue of 10,000 in front of a store
// that takes 400/s to 1,600/s, and a provider of 2,000/s.
func market(law policy.Law, deadTime time.Duration) headroom.Case {
	return headroom.Case{
		Capacity: 10_000, BasePerSecond: 2000, FloorPerSecond: 1, LeastDrainPerSecond: 400, MostDrainPerSecond: 1600,
		DeadTime: deadTime, Thresholds: marks(5000, 8000), Law: law,
	}
}

func TestTheArithmeticTellsWhatHoldsAndWhatDoesNot(t *testing.T) {
	pid, err := policy.NewPID(policy.DefaultPIDTuning())
	if err != nil {
		t.Fatal(err)
	}
	stalled := market(step(t), 1500*time.Millisecond)
	stalled.LeastDrainPerSecond = 0
	tests := []struct {
		name  string
		c     headroom.Case
		items float64
		holds map[headroom.Kind]bool
	}{
		{"step with a short dead time holds", market(step(t), 1500*time.Millisecond), 1100, map[headroom.Kind]bool{
			headroom.KindOverflow: true, headroom.KindCloses: true, headroom.KindSoft: true, headroom.KindStarving: true, headroom.KindCycle: false}},
		{"step with a long dead time overflows and skips SOFT", market(step(t), 5*time.Second), 10_000 - (5000 + 8000 + 600*3000./1600), map[headroom.Kind]bool{
			headroom.KindOverflow: false, headroom.KindCloses: true, headroom.KindSoft: false, headroom.KindStarving: true, headroom.KindCycle: false}},
		{"a store that stalls altogether is left with a trickle", stalled, 500, map[headroom.Kind]bool{
			headroom.KindOverflow: true, headroom.KindCloses: false, headroom.KindSoft: true, headroom.KindStarving: true, headroom.KindCycle: false}},
		{"pid acts at its set point", market(pid, 4*time.Second), 10_000 - 2500 - 6400, map[headroom.Kind]bool{
			headroom.KindOverflow: true, headroom.KindCloses: true, headroom.KindStarving: false}},
		{"drain acts at its reference", market(policy.NewDrain(), 10*time.Second), 10_000 - 1500 - 16_000, map[headroom.Kind]bool{
			headroom.KindOverflow: false, headroom.KindCloses: true, headroom.KindStarving: false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			report, err := headroom.Check(test.c)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(report.Items-test.items) > 1e-6 {
				t.Errorf("%.1f items of headroom, want %.1f", report.Items, test.items)
			}
			got := map[headroom.Kind]bool{}
			for _, f := range report.Findings {
				got[f.Kind] = f.Holds
				t.Logf("%s %v: %s", f.Kind, f.Holds, f.Arithmetic)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.holds) {
				t.Errorf("holds: %v, want %v", got, test.holds)
			}
			if want := test.holds[headroom.KindOverflow]; report.Holds() != want {
				t.Errorf("Holds() is %v, want %v", report.Holds(), want)
			}
		})
	}
}

func TestWhatIsOutOfRangeIsReportedAllAtOnce(t *testing.T) {
	_, err := headroom.Check(headroom.Case{
		Capacity: -1, BasePerSecond: math.NaN(), FloorPerSecond: -2, LeastDrainPerSecond: 5, MostDrainPerSecond: 4, Law: policy.NewDrain(),
	})
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if want := "[queue_capacity base_rate floor drain_most dead_time]"; fmt.Sprint(fields) != want {
		t.Errorf("the fields %v are reported, want %v:\n%v", fields, want, err)
	}
}

// The plant may do no worse than the arithmetic of the step law says, whenever
// the store slows down.
func TestTheSimulatedQueueNeverRisesAboveTheArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scrape := time.Duration(rapid.IntRange(100, 8000).Draw(t, "scrape_ms")) * time.Millisecond
		soft := rapid.Float64Range(2000, 30_000).Draw(t, "soft")
		base := rapid.Float64Range(200, 3000).Draw(t, "base")
		least := rapid.Float64Range(0, 0.9).Draw(t, "least") * base
		law, err := policy.NewStep(1, rapid.Float64Range(0, 1).Draw(t, "scale_soft"), 0)
		if err != nil {
			t.Fatal(err)
		}
		s := plant.Scenario{
			Length: 5 * time.Minute, Capacity: 1e6, Base: base,
			Scrape: scrape, Evaluate: scrape, Apply: 50 * time.Millisecond, Seed: rapid.Uint64().Draw(t, "seed"),
			Thresholds: marks(soft, soft+rapid.Float64Range(100, 20_000).Draw(t, "between")),
			Guard:      controller.Guard{HardCap: 1},
		}
		slows := time.Duration(rapid.IntRange(0, 120).Draw(t, "slows_s")) * time.Second
		s.Store = func(at time.Duration) float64 {
			if at < slows {
				return 0.95 * base
			}
			return least
		}
		report, err := headroom.Check(headroom.Case{
			Capacity: s.Capacity, BasePerSecond: base, LeastDrainPerSecond: least, MostDrainPerSecond: base,
			DeadTime: s.DeadTime(), Thresholds: s.Thresholds, Law: law,
		})
		if err != nil {
			t.Fatal(err)
		}
		// The plant decides in steps of 10 ms.
		if peak, most := plant.Run(s, law).MaxDepth, s.Capacity-report.Items; peak > most+0.05*base {
			t.Errorf("the queue rose to %.0f, above %.0f: %s", peak, most, report.Findings[0].Arithmetic)
		}
	})
}

// Where the arithmetic says that the linear law settles, the plant's does; and
// where it says that it swings by far, it does.
func TestTheSimulatedLinearLawSwingsWhereTheArithmeticSaysSo(t *testing.T) {
	law, err := policy.NewLinear(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	settled, swung := 0, 0
	for _, interval := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second} {
		for _, drain := range []float64{500, 1000, 1400} {
			s := plant.Standard(interval, interval, 1)
			s.Length, s.Store = time.Hour, func(time.Duration) float64 { return drain }
			low, high := math.Inf(1), math.Inf(-1)
			s.Observe = func(p plant.Point) {
				if p.At > 30*time.Minute {
					low, high = min(low, p.Depth), max(high, p.Depth)
				}
			}
			plant.Run(s, law)
			report, err := headroom.Check(headroom.Case{
				Capacity: s.Capacity, BasePerSecond: s.Base, MostDrainPerSecond: s.Base, DeadTime: s.DeadTime(), Thresholds: s.Thresholds, Law: law,
			})
			if err != nil {
				t.Fatal(err)
			}
			says := report.Findings[len(report.Findings)-1]
			if says.Kind != headroom.KindCycle {
				t.Fatalf("the last finding is of %s", says.Kind)
			}
			gainTimesDead := s.Base * law.Slope(s.Thresholds) * s.DeadTime().Seconds()
			switch {
			case says.Holds:
				settled++
				if high-low > 0.02*s.Capacity {
					t.Errorf("at %v and %v/s the depth goes from %.0f to %.0f for ever: %s", interval, drain, low, high, says.Arithmetic)
				}
			case gainTimesDead > math.Pi: // samples are younger than the longest dead time for most of the time
				swung++
				if high-low < 0.02*s.Capacity {
					t.Errorf("at %v and %v/s the depth stays at %.0f: %s", interval, drain, low, says.Arithmetic)
				}
			}
		}
	}
	if settled == 0 || swung == 0 {
		t.Errorf("%d cases settled and %d swung, want some of each", settled, swung)
	}
}

func ExampleCheck() {
	law, err := policy.NewStep(1, 0.5, 0)
	if err != nil {
		panic(err)
	}
	report, err := headroom.Check(headroom.Case{
		Capacity: 10_000, BasePerSecond: 2000, FloorPerSecond: 1, LeastDrainPerSecond: 400, MostDrainPerSecond: 1600,
		DeadTime: 5 * time.Second, Law: law,
		Thresholds: pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(report.Findings[0].Arithmetic)
	// Output: SOFT is felt (2000/s - 400/s) x 5 s after 5000 items, at 13000; at 1000/s the queue goes on to rise until HARD is felt, at 14125, of 10000: 4125 too many
}
