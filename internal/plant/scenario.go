package plant

import (
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/pressure"
)

// Standard is the scenario by which laws are compared: a queue of 10,000 items,
// a provider of 2,000 per second that always sends, and a store whose capacity
// jumps to somewhere between 400 and 1,600 per second every two minutes, for
// half an hour.
func Standard(scrape, evaluate time.Duration, seed uint64) Scenario {
	random := rand.New(rand.NewPCG(seed, 2))
	levels := make([]float64, 15)
	for i := range levels {
		levels[i] = 400 + 1200*random.Float64()
	}
	return Scenario{
		Length: 30 * time.Minute, Capacity: 10_000, Base: 2000, Floor: 1,
		Store:  func(at time.Duration) float64 { return levels[int(at/(2*time.Minute))%len(levels)] },
		Scrape: scrape, Evaluate: evaluate, Apply: 50 * time.Millisecond, Jitter: 0.05, Seed: seed,
		Thresholds: pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000},
		Guard:      controller.Guard{HardCap: 1},
	}
}
