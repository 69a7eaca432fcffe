package fleet

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/coordinator"
)

func TestMain(m *testing.M) {
	// The thread that starts the processes has to stay as long as they do.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/headgate/headgate/internal/process.stay"))
}

func TestSharesByDemand(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	for _, test := range []struct {
		name    string
		budget  float64
		demands map[string]float64
		want    map[string]float64
	}{
		{"who would use all of it shares evenly", 1, nil,
			map[string]float64{"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}},
		{"who uses little leaves the rest to the others", 1, map[string]float64{"a": 0.08, "b": 0.08},
			map[string]float64{"a": 0.1, "b": 0.1, "c": 0.4, "d": 0.4}},
		{"who uses nothing keeps a tenth of the same", 1, map[string]float64{"a": 0},
			map[string]float64{"a": 0.025, "b": 0.325, "c": 0.325, "d": 0.325}},
		{"what nobody asks for is everybody's", 1, map[string]float64{"a": 0.08, "b": 0.08, "c": 0.16, "d": 0.16},
			map[string]float64{"a": 0.2, "b": 0.2, "c": 0.3, "d": 0.3}},
		{"who asks for more than the same gets the same", 0.4, map[string]float64{"a": 0.9, "b": 0.9, "c": 0.9, "d": 0.9},
			map[string]float64{"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := byDemand(test.budget, all, test.demands)
			near := cmp.Comparer(func(x, y float64) bool { return math.Abs(x-y) < 1e-9 })
			if diff := cmp.Diff(test.want, got, near); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnyDemandsDivideTheWholeBudgetAndNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Float64Range(0, 1).Draw(t, "budget")
		all := []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(1, 5).Draw(t, "replicas")]
		demands := map[string]float64{}
		for _, address := range all {
			if rapid.Bool().Draw(t, "known") {
				demands[address] = rapid.Float64Range(0, 2).Draw(t, "demand")
			}
		}
		sum, same := 0.0, budget/float64(len(all))
		for address, share := range byDemand(budget, all, demands) {
			sum += share
			if share < leastPart*same-1e-9 {
				t.Fatalf("%s got %v, less than a tenth of %v", address, share, same)
			}
		}
		if math.Abs(sum-budget) > 1e-9 {
			t.Fatalf("divided %v of %v", sum, budget)
		}
	})
}

func TestADemandIsWhatIsUsedOfTheBudgetUnlessMoreWouldBe(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }
	state := func(granted uint64, waiters int) coordinator.State {
		return coordinator.State{BasePerSecond: 1000, Share: 0.5, Scale: 0.5, EffectivePerSecond: 250, Granted: granted, Waiters: waiters}
	}
	var d demand
	d.saw(at(0), state(5000, 0))
	if d.known {
		t.Error("one look tells no demand")
	}
	d.saw(at(10*time.Millisecond), state(5000, 0))
	d.saw(at(time.Second), state(5100, 0))
	if !d.known || d.share != 0.2 {
		t.Errorf("100 of the 500 that the whole budget would be: got %v, %v, want 0.2", d.share, d.known)
	}
	d.saw(at(2*time.Second), state(5350, 0))
	if d.known {
		t.Error("one that uses all of its rate would use more")
	}
	d.saw(at(3*time.Second), state(5400, 0))
	d.saw(at(4*time.Second), state(5450, 3))
	if d.known {
		t.Error("one in which calls wait would use more")
	}
	d.saw(at(5*time.Second), state(5500, 0))
	d.saw(at(6*time.Second), state(10, 0))
	if d.known {
		t.Error("one that was restarted tells no demand")
	}
	d.saw(at(7*time.Second), state(60, 0))
	parked := state(60, 0)
	parked.Scale, parked.EffectivePerSecond = 0, 1
	d.saw(at(8*time.Second), parked)
	if !d.known || d.share != 0.1 {
		t.Errorf("parked: got %v, %v, want the 0.1 of before", d.share, d.known)
	}
}
