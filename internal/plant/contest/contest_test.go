package contest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/plant"
)

func standard(interval time.Duration, seeds int) []plant.Scenario {
	var all []plant.Scenario
	for i := range seeds {
		all = append(all, plant.Standard(interval, interval, uint64(i+1)))
	}
	return all
}

// The bars of the standard scenario. Those against the other laws' best
// settings take minutes; `make simulate` shows them.
func TestDrainAtItsDefaultsHoldsItsBars(t *testing.T) {
	for _, bar := range []struct {
		interval            time.Duration
		utilisation         float64
		overflow, reversals float64
	}{
		{time.Second, 0.995, 0, 5},
		{5 * time.Second, 0.98, 0, 5},
		{15 * time.Second, 0.94, 0.02, 5},
	} {
		f := drain().Default.Judge(standard(bar.interval, 3))
		if f.UtilisationOfOracle < bar.utilisation || f.OverflowRatio > bar.overflow || f.ReversalsPerMinute > bar.reversals {
			t.Errorf("at %v: utilisation %.4f, overflow %.4f, %.1f reversals a minute; want at least %v, at most %v and %v",
				bar.interval, f.UtilisationOfOracle, f.OverflowRatio, f.ReversalsPerMinute, bar.utilisation, bar.overflow, bar.reversals)
		}
	}
}

func drain() Contender { return Ours()[0] }

func TestTheSearchNeverEndsWorseThanItBegan(t *testing.T) {
	var few []Contender
	for _, c := range Contenders() {
		c.Grid = c.Grid[:min(len(c.Grid), 3)]
		few = append(few, c)
	}
	s := plant.Standard(5*time.Second, 5*time.Second, 1)
	s.Length = 4 * time.Minute
	var last atomic.Int64
	results, err := Run(t.Context(), few, []plant.Scenario{s}, true, func(_, total int) { last.Store(int64(total)) })
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2*len(few) || int(last.Load()) < len(few) {
		t.Fatalf("%d results and %d runs of %d contenders", len(results), last.Load(), len(few))
	}
	for i := 0; i < len(results); i += 2 {
		asIs, tuned := results[i], results[i+1]
		if asIs.Tuned || !tuned.Tuned || asIs.Policy != tuned.Policy {
			t.Errorf("results %d and %d are of %s and %s", i, i+1, asIs.Policy, tuned.Policy)
		}
		if Cost(tuned.Figures) > Cost(asIs.Figures) {
			t.Errorf("%s is worse after the search", asIs.Policy)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Contenders(), standard(time.Second, 1), false, nil); err == nil {
		t.Error("a cancelled contest has results")
	}
}

func TestEveryContenderHasDefaultsAndNamesItsSettings(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Contenders() {
		if seen[c.Name] || c.Default.Law == nil {
			t.Errorf("contender %q is there twice or has no law", c.Name)
		}
		seen[c.Name] = true
		for _, v := range c.Grid {
			if v.Settings.String() == c.Default.Settings.String() {
				t.Errorf("the grid of %s has the defaults once more", c.Name)
			}
		}
	}
	for _, name := range []string{policy.DrainName, policy.StepName, policy.LinearName, policy.ExponentialName, policy.PIDName} {
		if !seen[name] {
			t.Errorf("%s does not take part", name)
		}
	}
}
