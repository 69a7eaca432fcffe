package main

import (
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/plant"
)

func TestTheSimulationMayBeOnlySoFarFromTheRealLoop(t *testing.T) {
	alike := func() comparison {
		f := figures{UtilisationOfOracle: 0.99, Delivered: 1, P99WaitSeconds: 2, MaxDepth: 1000}
		return comparison{Policy: "drain", Real: f, Simulated: f, least: f, most: f}
	}
	tests := []struct {
		name   string
		change func(*comparison)
		want   string // in the error; empty for none
	}{
		{"alike", func(*comparison) {}, ""},
		{"a wait that is a quarter longer", func(c *comparison) { c.Real.P99WaitSeconds = 2.5 }, ""},
		{"a wait that is twice as long", func(c *comparison) { c.Real.P99WaitSeconds = 4 }, "drain: the p99 wait in seconds is 4, and 2 to 2 in the simulation"},
		{"a wait that is half as long", func(c *comparison) { c.Real.P99WaitSeconds = 1 }, "the p99 wait"},
		{"a wait that some of the phases come to", func(c *comparison) { c.Real.P99WaitSeconds, c.most.P99WaitSeconds = 4, 4 }, ""},
		{"a store that is less busy", func(c *comparison) { c.Real.UtilisationOfOracle = 0.8 }, "drain: the utilisation is 0.8"},
		{"an overflow of the real loop alone", func(c *comparison) { c.Real.Overflowed = 7 }, "drain: 7 items overflow, and 0 to 0 in the simulation"},
		{"an overflow of the simulation alone", func(c *comparison) { c.least.Overflowed, c.most.Overflowed = 50, 90 }, "drain: 0 items overflow, and 50 to 90"},
		{"an overflow in some of the phases", func(c *comparison) { c.most.Overflowed = 90 }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := alike()
			test.change(&c)
			err := c.disagreement()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestEveryContenderCanBeSimulated(t *testing.T) {
	r, err := options{trace: "../deploy/examples/market-open.csv", seconds: 45}.rehearsal()
	if err != nil {
		t.Fatal(err)
	}
	overflowed := map[string]float64{}
	for _, c := range contenders() {
		runs, oracle, err := c.simulate(r, plant.Phases{Scrape: 300 * time.Millisecond, Evaluate: 700 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		least, median, most := spread(runs)
		if len(runs) != 9 || !(oracle > 0) || least.P99WaitSeconds > median.P99WaitSeconds || median.P99WaitSeconds > most.P99WaitSeconds {
			t.Errorf("%s: %d runs, oracle %v, waits %v, %v and %v", c.name, len(runs), oracle, least, median, most)
		}
		overflowed[c.name] = median.Overflowed
	}
	if overflowed["none"] == 0 || overflowed["drain"] > 0 {
		t.Errorf("overflowed %v, want some without control and none with drain", overflowed)
	}
}
