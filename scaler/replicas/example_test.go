package replicas_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/replicas"
)

// The store takes 1500 items per second, however many replicas write, and the
// gate lets in just as many. The fleet finds that out in two steps. It is the
// worked example of docs/keda.md.
func ExampleFleet_storeBound() {
	for _, stepBack := range []bool{false, true} {
		fmt.Println("step back:", stepBack)
		fleet := replicas.NewFleet(replicas.Config{
			DrainWithin: time.Minute, Max: 100, Growth: 2,
			Settle: 30 * time.Second, Tries: 2, RetryAfter: 5 * time.Minute, StepBack: stepBack,
		})
		there, told := 3, ""
		for at := time.Duration(0); at <= 3*time.Minute; at += 5 * time.Second {
			s := replicas.Signals{Depth: 12_000, ArrivalsPerSecond: 1500, DrainPerSecond: 1500, Replicas: there, Level: pressure.Soft}
			plan, _ := fleet.Step(5*time.Second, s)
			multiplier, _ := replicas.Relative(plan, s, stepBack)
			if line := fmt.Sprintf("%d there, %d wanted: %s, a multiplier of %.3f", there, plan.Replicas, plan.Cause, multiplier); line != told {
				fmt.Printf("after %.0f s: %s\n", at.Seconds(), line)
				told = line
			}
			there = plan.Replicas
		}
	}
	// Output:
	// step back: false
	// after 0 s: 3 there, 4 wanted: demand, a multiplier of 1.250
	// after 5 s: 4 there, 4 wanted: demand, a multiplier of 1.000
	// after 15 s: 4 there, 4 wanted: settling, a multiplier of 1.000
	// after 40 s: 4 there, 5 wanted: demand, a multiplier of 1.188
	// after 45 s: 5 there, 5 wanted: demand, a multiplier of 1.000
	// after 55 s: 5 there, 5 wanted: settling, a multiplier of 1.000
	// after 80 s: 5 there, 5 wanted: store_bound, a multiplier of 1.000
	// step back: true
	// after 0 s: 3 there, 4 wanted: demand, a multiplier of 1.250
	// after 5 s: 4 there, 4 wanted: demand, a multiplier of 1.000
	// after 15 s: 4 there, 4 wanted: settling, a multiplier of 1.000
	// after 40 s: 4 there, 5 wanted: demand, a multiplier of 1.188
	// after 45 s: 5 there, 5 wanted: demand, a multiplier of 1.000
	// after 55 s: 5 there, 5 wanted: settling, a multiplier of 1.000
	// after 80 s: 5 there, 3 wanted: store_bound, a multiplier of 1.000
	// after 85 s: 3 there, 3 wanted: store_bound, a multiplier of 1.000
}
