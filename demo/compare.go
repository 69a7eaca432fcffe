package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/trace"
)

// contender is one way to control the loop.
type contender struct {
	name string
	control
	law        func() (policy.Law, error) // the same law, for the simulation
	thresholds pressure.Thresholds        // the same marks, in shares of the capacity
}

// contenders are compared: no control; the step of the original system, which
// had no hysteresis; and drain. A full queue refuses, so that an overflow is
// counted, and the market goes on.
func contenders() []contender {
	const refuse = "refuse"
	step := func() (policy.Law, error) { return policy.NewStep(1, 0.5, 0) }
	return []contender{
		{
			name: "none", control: control{policy: policy.StepName, off: true, overflow: refuse},
			law:        func() (policy.Law, error) { return policy.NewStep(1, 1, 1) },
			thresholds: pressure.Thresholds{SoftEnter: 0.5, SoftExit: 0.4, HardEnter: 0.8, HardExit: 0.7},
		},
		{
			name: policy.StepName, law: step,
			control: control{policy: policy.StepName, overflow: refuse, settings: map[string]string{
				"HEADGATE_SOFT_EXIT": "50%", "HEADGATE_HARD_EXIT": "80%", "HEADGATE_COOL_DOWN": "0s",
			}},
			thresholds: pressure.Thresholds{SoftEnter: 0.5, SoftExit: 0.5, HardEnter: 0.8, HardExit: 0.8},
		},
		{
			name: policy.DrainName, control: control{policy: policy.DrainName, overflow: refuse},
			law:        func() (policy.Law, error) { return policy.NewDrain(), nil },
			thresholds: pressure.Thresholds{SoftEnter: 0.5, SoftExit: 0.4, HardEnter: 0.8, HardExit: 0.7, CoolDown: 2 * tickEvery},
		},
	}
}

// comparison is what one contender came to.
type comparison struct {
	Policy    string  `json:"policy"`
	Real      figures `json:"real"`
	Simulated figures `json:"simulated"` // median of each, over the phases that the real run may have had

	least, most figures // of the simulations
}

// figures are of the time in which the market was open.
type figures struct {
	Overflowed          float64 `json:"overflowed_items"`      // that a full queue refused
	UtilisationOfOracle float64 `json:"utilisation_of_oracle"` // written, over what the store could have taken of what was sent
	Delivered           float64 `json:"delivered"`             // written, over what came to the queue
	P99WaitSeconds      float64 `json:"p99_wait_seconds"`
	MaxDepth            float64 `json:"max_depth"`
}

// How far the simulation may be from the real loop.
const (
	utilisationApart = 0.15
	p99WaitApart     = 0.30
)

// compare runs every contender on the real loop and on the simulated one, and
// prints a table and, as its last line, one JSON array. The error says where
// the two disagree, for the policies whose simulation is shipped.
func compare(ctx context.Context, o options, r rehearsal, stdout, stderr io.Writer) error {
	dir, done, err := o.folder()
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	announce(stderr, r)
	var all []comparison
	var errs []error
	for _, c := range contenders() {
		fmt.Fprintf(stderr, "headgate: %s\n", c.name)
		own := filepath.Join(dir, c.name)
		if err := os.Mkdir(own, 0o755); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		v, err := o.round(ctx, own, r, c.control, stderr)
		if err != nil {
			return err
		}
		if !v.Conserved {
			return fmt.Errorf("%s: items are not accounted for (all that is left is in %s)", c.name, own)
		}
		runs, oracle, err := c.simulate(r, v.phases(r))
		if err != nil {
			return err
		}
		row := comparison{Policy: c.name, Real: figures{
			Overflowed: float64(v.Refused), UtilisationOfOracle: float64(v.WrittenInTime) / oracle,
			Delivered:      float64(v.Written) / float64(v.Accepted+v.Refused),
			P99WaitSeconds: v.P99WaitSeconds, MaxDepth: float64(v.MaxDepth),
		}}
		row.least, row.Simulated, row.most = spread(runs)
		all = append(all, row)
		if !c.off {
			errs = append(errs, row.disagreement())
		}
	}
	fmt.Fprint(stdout, table(all))
	if err := json.NewEncoder(stdout).Encode(all); err != nil {
		return fmt.Errorf("print the comparison: %w", err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w (all that is left is in %s)", err, dir)
	}
	return done()
}

// phases are when the market's first scrape and tick came. The market has
// opened as long before the first grant as its first item has come after it.
func (v verdict) phases(r rehearsal) plant.Phases {
	opened := v.granted
	for _, p := range r.arrivals.Points {
		if p.Value > 0 {
			opened = opened.Add(-p.At)
			break
		}
	}
	return plant.Phases{Scrape: phase(v.scraped.Sub(opened), scrapeEvery), Evaluate: phase(v.ticked.Sub(opened), tickEvery)}
}

// phase is when within an interval something comes that comes once in each.
func phase(at, every time.Duration) time.Duration { return (at%every + every) % every }

// phasesKnown is how well the moments of the real run are known: items come in
// rows of 100 ms, and the store is paced by a clock of its own.
const phasesKnown = 100 * time.Millisecond

// simulate lets the simulated pipeline go through the rehearsal, and returns
// with its figures what the oracle gets written. When within a second the depth
// is scraped and looked at decides how late a change is seen, so the phases are
// those of the real run, as well as they are known.
func (c contender) simulate(r rehearsal, phases plant.Phases) (runs []figures, oracle float64, err error) {
	lowered := trace.Trace{Points: []trace.Point{{Value: r.normal}, {At: r.loweredFrom, Value: r.lowered}, {At: r.loweredTill, Value: r.normal}}}
	lowered.Interval = r.length - r.loweredTill // of the last row
	scenario, _ := plant.Replay{
		Arrivals: r.arrivals, ScaleArrivals: r.factor, Capacity: lowered, ScaleCapacity: 1,
		Length: r.length, Base: r.base, QueueCapacity: float64(r.capacity), Scrape: scrapeEvery, Evaluate: tickEvery,
	}.Scenario()
	scenario.Guard, scenario.Jitter = controller.Guard{HardCap: 1}, 0
	t := c.thresholds
	n := float64(r.capacity)
	scenario.Thresholds = pressure.Thresholds{
		SoftEnter: n * t.SoftEnter, SoftExit: n * t.SoftExit, HardEnter: n * t.HardEnter, HardExit: n * t.HardExit, CoolDown: t.CoolDown,
	}
	for _, scrape := range []time.Duration{-phasesKnown, 0, phasesKnown} {
		for _, evaluate := range []time.Duration{-phasesKnown, 0, phasesKnown} {
			law, err := c.law()
			if err != nil {
				return nil, 0, err
			}
			scenario.Phases = &plant.Phases{Scrape: phase(phases.Scrape+scrape, scrapeEvery), Evaluate: phase(phases.Evaluate+evaluate, tickEvery)}
			got := plant.Run(scenario, law)
			oracle = got.OracleItems
			runs = append(runs, figures{
				Overflowed: got.RefusedItems, UtilisationOfOracle: got.UtilisationOfOracle, Delivered: 1 - got.OverflowRatio,
				P99WaitSeconds: got.P99WaitSeconds, MaxDepth: got.MaxDepth,
			})
		}
	}
	return runs, oracle, nil
}

// spread is the least, the median and the most of each figure.
func spread(runs []figures) (least, median, most figures) {
	for _, of := range []func(*figures) *float64{
		func(f *figures) *float64 { return &f.Overflowed },
		func(f *figures) *float64 { return &f.UtilisationOfOracle },
		func(f *figures) *float64 { return &f.Delivered },
		func(f *figures) *float64 { return &f.P99WaitSeconds },
		func(f *figures) *float64 { return &f.MaxDepth },
	} {
		var values []float64
		for i := range runs {
			values = append(values, *of(&runs[i]))
		}
		slices.Sort(values)
		*of(&least), *of(&median), *of(&most) = values[0], values[len(values)/2], values[len(values)-1]
	}
	return least, median, most
}

// disagreement says where the simulation is far from the real loop.
func (c comparison) disagreement() error {
	var errs []error
	if real := c.Real.Overflowed > 0; real && c.most.Overflowed < 1 || !real && c.least.Overflowed >= 1 {
		errs = append(errs, fmt.Errorf("%s: %.0f items overflow, and %.0f to %.0f in the simulation",
			c.Policy, c.Real.Overflowed, c.least.Overflowed, c.most.Overflowed))
	}
	apart := func(what string, limit, measured, least, most float64) {
		if measured < (1-limit)*least || measured > (1+limit)*most {
			errs = append(errs, fmt.Errorf("%s: %s is %.3g, and %.3g to %.3g in the simulation, more than %.0f %% apart",
				c.Policy, what, measured, least, most, 100*limit))
		}
	}
	apart("the utilisation", utilisationApart, c.Real.UtilisationOfOracle, c.least.UtilisationOfOracle, c.most.UtilisationOfOracle)
	apart("the p99 wait in seconds", p99WaitApart, c.Real.P99WaitSeconds, c.least.P99WaitSeconds, c.most.P99WaitSeconds)
	return errors.Join(errs...)
}

// table is a comparison for people, in Markdown.
func table(all []comparison) string {
	var b strings.Builder
	b.WriteString("| policy | loop | overflowed items | utilisation of the oracle | delivered | p99 wait | deepest |\n|---|---|---|---|---|---|---|\n")
	for _, c := range all {
		for _, row := range []struct {
			loop string
			figures
		}{{"real", c.Real}, {"simulated", c.Simulated}} {
			fmt.Fprintf(&b, "| %s | %s | %.0f | %.1f %% | %.1f %% | %.2f s | %.0f |\n", c.Policy, row.loop,
				row.Overflowed, 100*row.UtilisationOfOracle, 100*row.Delivered, row.P99WaitSeconds, row.MaxDepth)
		}
	}
	return b.String()
}
