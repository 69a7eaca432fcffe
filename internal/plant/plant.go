// Package plant is a simulated pipeline by which laws are judged: a queue with
// a capacity, a store whose capacity changes, a provider that is throttled, and
// a controller that sees all of it late. The level, the law and the guard are
// those that production runs.
//
// It is a fluid simulation in steps of 10 ms, and deterministic: the same
// scenario and law give the same figures.
package plant

import (
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// Rate is items per second as a function of the time since the start. It may
// be called by several goroutines at once.
type Rate func(time.Duration) float64

// Scenario is one run of the plant.
type Scenario struct {
	Length   time.Duration
	Capacity float64 // items that the queue holds at most
	Base     float64 // items per second, of the provider
	Floor    float64 // items per second; the provider's rate is never below it
	Store    Rate    // what the store can take

	// Offered is what the provider would send; nil is as much as it may. What
	// the gate does not let through waits before it.
	Offered Rate

	Scrape, Evaluate time.Duration // intervals
	Phases           *Phases       // nil is to draw them from Seed
	Apply            time.Duration // from a decision until the rate has changed
	Jitter           float64       // of the intervals, as a share of them
	Missed           float64       // share of scrapes that fail
	Resets           float64       // share of scrapes before which the counters began anew at 0
	Seed             uint64

	Thresholds pressure.Thresholds
	Guard      controller.Guard

	// FastLoop are the scales that the queue itself sets at its levels, at once;
	// nil where it sets none. The lower of its scale and the controller's counts.
	FastLoop *[pressure.Hard + 1]float64

	// Observe is called once in each second of the run; it may be nil.
	Observe func(Point)
}

// Phases say when the first scrape and the first evaluation come.
type Phases struct{ Scrape, Evaluate time.Duration }

// DeadTime is the longest that a change in the queue takes to reach the
// provider.
func (s Scenario) DeadTime() time.Duration { return s.Scrape + s.Evaluate + s.Apply }

// Point is what a run is like at one moment.
type Point struct {
	At                                     time.Duration
	Depth, Scale                           float64
	OfferedPerSecond, StorePerSecond       float64
	AcceptedPerSecond, WrittenPerSecond    float64 // in the last step
	RefusedItems, WrittenItems, CouldWrite float64 // since the start
}

// Figures are what a run was like.
type Figures struct {
	UtilisationOfOracle        float64 `json:"utilisation_of_oracle"`         // written, over what one who knows the store at all times gets written
	UtilisationOfDelayedOracle float64 `json:"utilisation_of_delayed_oracle"` // the same of one who learns all with the dead time
	OverflowRatio              float64 `json:"overflow_ratio"`                // refused because the queue was full, over all that came to it
	P50WaitSeconds             float64 `json:"p50_wait_seconds"`              // in the queue, of what was written
	P99WaitSeconds             float64 `json:"p99_wait_seconds"`
	MaxDepth                   float64 `json:"max_depth"`
	ReversalsPerMinute         float64 `json:"reversals_per_minute"` // changes of the scale's direction
	TotalVariation             float64 `json:"total_variation"`      // sum of the scale's changes

	// Items in all: that came to the queue, that it refused because it was full,
	// that were written, and that the oracle gets written.
	CameItems, RefusedItems, WrittenItems, OracleItems float64 `json:"-"`
}

// startScale is in force until the first decision: a provider comes up in its
// fail mode, which is the SOFT scale by default.
const startScale = 0.5

// step is how finely time is cut.
const step = 10 * time.Millisecond

// Run lets a law control the plant.
func Run(s Scenario, law policy.Law) Figures {
	q := queue{scenario: s}
	best, late := &oracle{scenario: s}, queue{scenario: s}
	loop := newLoop(s, law)
	second := time.Duration(0)
	for now := time.Duration(0); now < s.Length; now += step {
		loop.turn(now, &q)
		scale := loop.scaleInForce()
		q.flow(now, max(s.Floor, s.Base*scale))
		best.flow(now)
		late.flow(now, min(s.Base, s.Store(max(0, now-s.DeadTime()))))
		if s.Observe != nil && now >= second {
			second += time.Second
			s.Observe(q.point(now, scale, best.written))
		}
	}
	return Figures{
		MaxDepth: q.maxDepth, TotalVariation: loop.variation,
		P50WaitSeconds: q.waits.quantile(0.5).Seconds(), P99WaitSeconds: q.waits.quantile(0.99).Seconds(),
		ReversalsPerMinute:         float64(loop.reversals) / s.Length.Minutes(),
		UtilisationOfOracle:        ratio(q.written, best.written),
		UtilisationOfDelayedOracle: ratio(q.written, late.written),
		OverflowRatio:              ratio(q.refused, q.came),
		CameItems:                  q.came, RefusedItems: q.refused, WrittenItems: q.written, OracleItems: best.written,
	}
}

// ratio is a over b, 0 where there is nothing of b.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
