// Package replicas holds the arithmetic of how many replicas a fleet of
// writers should have: what one replica can drain (Capability), how many empty
// the backlog in time (Fleet), when more of them are no use (StoreGuard), and
// what multiplier tells so to a HorizontalPodAutoscaler (Relative).
//
// Everything here is a value: no clock, no input or output, no locks. Time is
// passed in as what went by since the last step.
package replicas

import (
	"math"
	"time"

	"github.com/headgate/headgate/pressure"
)

// Signals are what one snapshot tells of the queues that a fleet drains, all
// of them together.
type Signals struct {
	Depth             float64 // items waiting, >= 0
	ArrivalsPerSecond float64 // NaN while unknown
	DrainPerSecond    float64 // of all replicas; NaN while unknown
	Replicas          int     // processes that drain, >= 0
	Level             pressure.Level
}

// busyFor is how long the backlog must take at the present drain for the drain
// to count as all that the fleet can do. What is in the writers' hands waits
// less than that.
const busyFor = time.Second

// Busy reports whether the fleet is drained at its limit: there is a backlog.
// While it is not, the drain is no more than what arrived.
func (s Signals) Busy() bool {
	return !math.IsNaN(s.DrainPerSecond) && s.Depth > s.DrainPerSecond*busyFor.Seconds()
}

// known reports whether a drain of at least one replica was measured.
func (s Signals) measured() bool { return s.Replicas > 0 && !math.IsNaN(s.DrainPerSecond) }
