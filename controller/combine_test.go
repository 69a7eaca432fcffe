package controller

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/metrics"
)

// shared are two targets that throttle one provider: bars and ticks, each with
// a coordinator of its own.
func shared(t *testing.T, g Gate, change func(bars, ticks *Target)) []Target {
	t.Helper()
	bars, ticks := target(t, "bars", g), target(t, "ticks", g)
	ticks.CoordinatorIDs, ticks.Providers[0].URL = []string{"ticks"}, bars.Providers[0].URL
	change(&bars, &ticks)
	return []Target{bars, ticks}
}

func TestTargetsThatThrottleOneProviderGiveItOneScale(t *testing.T) {
	weights := func(bars, ticks *Target) {
		bars.Combine, bars.Weight, ticks.Combine, ticks.Weight = CombineWeights, 3, CombineWeights, 1
	}
	share := func(bars, ticks *Target) { bars.Combine, ticks.Combine = CombineShare, CombineShare }
	worst := func(bars, ticks *Target) { bars.Combine, ticks.Combine = CombineWorst, CombineWorst }
	tests := []struct {
		name        string
		bars, ticks float64 // depth of 1,000
		change      func(bars, ticks *Target)
		want        float64
		words       string
	}{
		{"the lowest of OK and SOFT", 100, 600, worst, 0.5, `of the targets "bars" 1, "ticks" 0.5, the lowest is 0.5`},
		{"the lowest of HARD and SOFT", 900, 600, worst, 0, `of the targets "bars" 0, "ticks" 0.5, the lowest is 0`},
		{"the mean by weight", 100, 900, weights, 0.75, `of the targets "bars" 1 x 3, "ticks" 0 x 1, their mean by weight is 0.75`},
		{"the mean by share, all alike where one has no arrivals measured", 100, 900, share, 0.5, "their mean by share of the arrivals is 0.5"},
		{"a dry run has no part in it", 100, 900, func(bars, ticks *Target) { ticks.DryRun = true }, 1, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, g := newPrometheus(), newGate()
				p.depth["bars"], p.depth["ticks"] = test.bars, test.ticks
				c, stop := start(t, config(), p, nil, shared(t, g, test.change)...)
				defer stop()
				pass(time.Second)
				if lease, _ := g.last(); lease.Scale != test.want || g.count() != 1 {
					t.Errorf("%d leases, the last of %v; want one of %v", g.count(), lease.Scale, test.want)
				}
				d := newest(t, c, "bars")
				if d.Outcome != OutcomeApplied || d.InForce != Number(test.want) {
					t.Errorf("outcome %s, in force %v", d.Outcome, d.InForce)
				}
				if !strings.Contains(d.Explanation, test.words) {
					t.Errorf("explained as %q, want %q in it", d.Explanation, test.words)
				}
			})
		})
	}
}

func TestTheShareOfATargetIsThatOfItsArrivals(t *testing.T) {
	decision := func(target string, scale, arrivals float64) source {
		return source{
			line:     &line{target: &Target{Name: target}},
			decision: &Decision{Target: target, Scale: Number(scale), ArrivalsPerSecond: Number(arrivals)},
		}
	}
	o := &outlet{combine: CombineShare, sources: []source{decision("bars", 1, 100), decision("ticks", 0.2, 300)}}
	if got, lowest := o.combined(); math.Abs(float64(got)-0.4) > 1e-12 || lowest.decision.Target != "ticks" {
		t.Errorf("a quarter of the items at a scale of 1 and three at 0.2 give %v, the lowest of %q; want 0.4 of ticks", got, lowest.decision.Target)
	}
}

// Missing is not OK: the provider may fall for what the others know, and not
// rise.
func TestATargetWithoutSignalsLetsTheOthersThrottleAndNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPrometheus(), newGate()
		g.lease.Scale = 0.5 // the coordinator came up in its fail mode
		p.depth["bars"] = 100
		c, stop := start(t, config(), p, nil, shared(t, g, func(bars, ticks *Target) {})...)
		defer stop()
		pass(2 * interval)
		if lease, _ := g.last(); lease.Scale != 0.5 {
			t.Errorf("with ticks unknown bars' OK gives %v, want the 0.5 in force", lease.Scale)
		}
		if d := newest(t, c, "bars"); !strings.Contains(d.Explanation, `"ticks" none yet, one knows no scale, so it stays at 0.5`) {
			t.Errorf("explained as %q", d.Explanation)
		}
		p.set(func(p *fakePrometheus) { p.depth["bars"] = 900 })
		pass(interval)
		if lease, _ := g.last(); lease.Scale != 0 {
			t.Errorf("with ticks unknown bars' HARD gives %v, want 0", lease.Scale)
		}
	})
}

func TestACombinedScaleLiesBetweenItsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &outlet{combine: rapid.SampledFrom([]Combine{CombineWorst, CombineWeights, CombineShare}).Draw(t, "combine")}
		low, high := 1.0, 0.0
		for range rapid.IntRange(2, 5).Draw(t, "targets") {
			scale := rapid.Float64Range(0, 1).Draw(t, "scale")
			low, high = min(low, scale), max(high, scale)
			arrivals := rapid.OneOf(rapid.Float64Range(0, 1e6), rapid.Just(math.NaN())).Draw(t, "arrivals")
			o.sources = append(o.sources, source{
				line:     &line{target: &Target{Weight: rapid.Float64Range(0.001, 1000).Draw(t, "weight"), Names: metrics.DefaultNames()}},
				decision: &Decision{Scale: Number(scale), ArrivalsPerSecond: Number(arrivals)},
			})
		}
		got, _ := o.combined()
		const rounding = 1e-9
		if !(float64(got) >= low-rounding && float64(got) <= high+rounding) {
			t.Fatalf("%v lies outside of %v to %v", got, low, high)
		}
		if o.combine == CombineWorst && float64(got) != low {
			t.Fatal(cmp.Diff(low, float64(got)))
		}
	})
}
