// Package simulate runs laws on the simulated pipeline and tells how they did:
// as a table, as JSON, or as a page with drawings.
package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/internal/plant/contest"
	"github.com/headgate/headgate/trace"
)

// Command is `promtest simulate`. Its fields are the flags.
type Command struct {
	Arrivals string `help:"CSV of t_seconds,value with the items that arrived in each row's time" placeholder:"FILE" type:"path"`
	Capacity string `help:"CSV of t_seconds,value with the items per second that the store could take" placeholder:"FILE" type:"path"`

	BaseRate      float64       `help:"base rate of the provider in items per second; 0 is twice the mean capacity" placeholder:"N"`
	QueueCapacity float64       `help:"items that the queue holds; 0 is what the mean capacity takes in ten seconds" placeholder:"N"`
	Scrape        time.Duration `help:"scrape interval" default:"5s"`
	Eval          time.Duration `help:"interval of the controller" default:"5s"`
	Demand        string        `help:"saturated: the provider always has something to send; offered: what the arrivals say" enum:"saturated,offered," default:""`
	ScaleArrivals float64       `help:"factor on the arrivals; 0 is the one at which the provider has something to wait with half of the time" placeholder:"N"`
	ScaleCapacity float64       `help:"factor on the capacity; 0 brings its mean to 1,000 items per second" placeholder:"N"`
	Length        time.Duration `help:"length of the run; arrivals are sped up or slowed down to it. 0 is their own, at most an hour" default:"0s"`

	Policy string `help:"NAME of one policy, all of them at their defaults, or tuned: all, and each once more at the best of a search over its settings" default:"all"`
	Seed   uint64 `help:"of the first run: phases, jitter, and the standard scenario's store" default:"1"`
	Seeds  int    `help:"runs with seeds that follow one another, whose figures are averaged; 0 is 3 for the standard scenario and 1 for traces" default:"0"`

	JSON bool   `help:"one JSON object a line instead of a table" xor:"form"`
	HTML string `help:"write a page with drawings to this file instead of a table" placeholder:"OUT" xor:"form" type:"path"`
}

// Streams are where a command writes: results, and what it is doing.
type Streams struct{ Out, Err io.Writer }

// Help is shown below the flags' list.
func (Command) Help() string {
	return `Without --arrivals and --capacity it runs the standard scenario: a queue of
10,000 items, a provider of 2,000 a second that always sends, and a store whose
capacity jumps to somewhere between 400 and 1,600 a second every two minutes,
for half an hour.

The figures: utilisation is what was written, over what an oracle gets written
that knows the store at all times, and over that of one that learns all with the
dead time (scrape + eval + apply); overflow is what the full queue refused, over
what came to it; waits are those in the queue.

  promtest simulate --scrape 1s --eval 1s --policy tuned
  promtest simulate --arrivals open.csv --capacity store.csv --json`
}

// Run runs the command. Results go to stdout, progress and what was chosen to
// stderr.
func (c Command) Run(ctx context.Context, to Streams) error {
	stdout, stderr := to.Out, to.Err
	contenders, tuned, err := c.contenders()
	if err != nil {
		return err
	}
	scenarios, err := c.scenarios(stderr)
	if err != nil {
		return err
	}
	results, err := contest.Run(ctx, contenders, scenarios, tuned, progress(stderr, tuned))
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		lines := json.NewEncoder(stdout)
		for _, r := range results {
			if err := lines.Encode(r); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
		return nil
	case c.HTML != "":
		return writePage(c.HTML, c.title(), results, contenders, scenarios[0])
	}
	return WriteTable(stdout, results)
}

// progress tells on a terminal's line how far a search is.
func progress(stderr io.Writer, tuned bool) func(done, total int) {
	if !tuned {
		return nil
	}
	return func(done, total int) {
		if done == total || done%50 == 0 {
			fmt.Fprintf(stderr, "%d of %d settings tried\n", done, total)
		}
	}
}

func (c Command) contenders() (contenders []contest.Contender, tuned bool, err error) {
	all := contest.Contenders()
	switch c.Policy {
	case "all":
		return all, false, nil
	case "tuned":
		return all, true, nil
	}
	var names []string
	for _, contender := range all {
		if contender.Name == c.Policy {
			return []contest.Contender{contender}, false, nil
		}
		names = append(names, contender.Name)
	}
	return nil, false, invalid.New("--policy", c.Policy, "all, tuned, or one of "+strings.Join(names, ", "))
}

// scenarios are the runs that the flags ask for.
func (c Command) scenarios(stderr io.Writer) ([]plant.Scenario, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Arrivals == "" && c.Capacity == "" {
		var scenarios []plant.Scenario
		for i := range c.seeds(3) {
			s := plant.Standard(c.Scrape, c.Eval, c.Seed+uint64(i))
			if c.BaseRate > 0 {
				s.Base = c.BaseRate
			}
			if c.QueueCapacity > 0 {
				s.Capacity = c.QueueCapacity
			}
			scenarios = append(scenarios, s)
		}
		return scenarios, nil
	}
	replay := plant.Replay{
		Length: c.Length, ScaleArrivals: c.ScaleArrivals, ScaleCapacity: c.ScaleCapacity,
		Base: c.BaseRate, QueueCapacity: c.QueueCapacity, Saturated: c.Demand == "saturated",
		Scrape: c.Scrape, Evaluate: c.Eval,
	}
	var err error
	if replay.Capacity, err = readTrace(c.Capacity); err != nil {
		return nil, err
	}
	if !replay.Saturated {
		if replay.Arrivals, err = readTrace(c.Arrivals); err != nil {
			return nil, err
		}
	}
	var scenarios []plant.Scenario
	for i := range c.seeds(1) {
		replay.Seed = c.Seed + uint64(i)
		var s plant.Scenario
		s, replay = replay.Scenario()
		scenarios = append(scenarios, s)
	}
	fmt.Fprintf(stderr, "run of %v: arrivals times %.4g, capacity times %.4g, base rate %.4g/s, queue of %.4g items\n",
		replay.Length, replay.ScaleArrivals, replay.ScaleCapacity, replay.Base, replay.QueueCapacity)
	return scenarios, nil
}

func (c Command) seeds(otherwise int) int {
	if c.Seeds > 0 {
		return c.Seeds
	}
	return otherwise
}

// validate reports all flags that are wrong, joined.
func (c Command) validate() error {
	var errs []error
	for _, f := range []struct {
		flag  string
		value float64
	}{{"--base-rate", c.BaseRate}, {"--queue-capacity", c.QueueCapacity}, {"--scale-arrivals", c.ScaleArrivals}, {"--scale-capacity", c.ScaleCapacity}} {
		if !(f.value >= 0 && f.value <= 1e12) {
			errs = append(errs, invalid.New(f.flag, f.value, "a number in [0, 1e12]"))
		}
	}
	for _, f := range []struct {
		flag  string
		value time.Duration
	}{{"--scrape", c.Scrape}, {"--eval", c.Eval}} {
		if f.value < 10*time.Millisecond || f.value > time.Hour {
			errs = append(errs, invalid.New(f.flag, f.value, "a duration from 10ms to 1h"))
		}
	}
	if c.Length < 0 || c.Length > 30*24*time.Hour {
		errs = append(errs, invalid.New("--length", c.Length, "a duration from 0s to 720h"))
	}
	if c.Seeds < 0 {
		errs = append(errs, invalid.New("--seeds", c.Seeds, "a whole number >= 0"))
	}
	switch {
	case c.Arrivals != "" && c.Capacity == "":
		errs = append(errs, invalid.Missing("--capacity", "a file, since --arrivals is given"))
	case c.Capacity != "" && c.Arrivals == "" && c.Demand != "saturated":
		errs = append(errs, invalid.Missing("--arrivals", "a file, or --demand saturated"))
	case c.Capacity == "" && c.Demand == "offered":
		errs = append(errs, invalid.New("--demand", c.Demand, "saturated, which the standard scenario is, or --arrivals and --capacity"))
	}
	return errors.Join(errs...)
}

func readTrace(file string) (trace.Trace, error) {
	f, err := os.Open(file)
	if err != nil {
		return trace.Trace{}, err
	}
	defer f.Close()
	t, err := trace.Read(f)
	if err != nil {
		return trace.Trace{}, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

func (c Command) title() string {
	if c.Capacity == "" {
		return fmt.Sprintf("The standard scenario at %v + %v", c.Scrape, c.Eval)
	}
	return fmt.Sprintf("%s against %s at %v + %v", base(c.Arrivals), base(c.Capacity), c.Scrape, c.Eval)
}

func base(file string) string {
	return strings.TrimSuffix(file[strings.LastIndexByte(file, os.PathSeparator)+1:], ".csv")
}

// WriteTable writes results as a table for people, the best first.
func WriteTable(to io.Writer, results []contest.Result) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POLICY\tUTILISATION\tOF DELAYED\tOVERFLOW\tP50 WAIT\tP99 WAIT\tMAX DEPTH\tREVERSALS/MIN\tSETTINGS")
	for _, r := range Ranked(results) {
		fmt.Fprintf(table, "%s\t%.2f %%\t%.2f %%\t%.3f %%\t%.2f s\t%.2f s\t%.0f\t%.1f\t%s\n", Label(r),
			100*r.UtilisationOfOracle, 100*r.UtilisationOfDelayedOracle, 100*r.OverflowRatio,
			r.P50WaitSeconds, r.P99WaitSeconds, r.MaxDepth, r.ReversalsPerMinute, r.Settings)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// Ranked are the results with the least cost first.
func Ranked(results []contest.Result) []contest.Result {
	return slices.SortedStableFunc(slices.Values(results), func(a, b contest.Result) int {
		if ca, cb := contest.Cost(a.Figures), contest.Cost(b.Figures); ca != cb {
			if ca < cb {
				return -1
			}
			return 1
		}
		return 0
	})
}

// Label names a result's policy, and whether it was tuned.
func Label(r contest.Result) string {
	if r.Tuned {
		return r.Policy + " (tuned)"
	}
	return r.Policy
}
