package simulate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/internal/plant/contest"
)

// Report is `promtest report`: every scenario with every policy, written as
// documents with tables and drawings. Its fields are the flags.
type Report struct {
	Out    string `help:"folder that is written to" default:"docs" type:"path"`
	Traces string `help:"folder of arrival traces (mkt_*.csv, web_*.csv) and capacity traces (cap_*.csv), each of which is run with each" placeholder:"DIR" type:"path"`
}

// intervals of the standard scenario, of scrape and evaluation alike.
func intervals() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}
}

// Run writes the documents.
func (r Report) Run(ctx context.Context, to Streams) error {
	stderr := to.Err
	if err := os.MkdirAll(filepath.Join(r.Out, "images"), 0o755); err != nil {
		return err
	}
	if err := r.standard(ctx, stderr); err != nil {
		return err
	}
	if r.Traces == "" {
		return nil
	}
	return r.pairs(ctx, stderr)
}

const standardHead = `# How the policies do: the standard scenario

Written by ` + "`make simulate`" + `. A queue of 10,000 items, a provider of 2,000 items per second that always has something to send, and a store whose capacity jumps to somewhere between 400 and 1,600 items per second every two minutes, for half an hour; three seeds, means of the figures. The controller sees the queue through scrapes and evaluates at the interval in the title.

` + legend

const legend = `- *Utilisation* is what was written, over what an oracle gets written that knows the store at all times.
- *Overflow* is what the full queue refused, over what came to it.
- *Waits* are those in the queue, of what was written.
- *(tuned)* is the best of a search over the policy's settings on this very scenario. A hundredth of the utilisation lost, a hundredth refused and five seconds of waiting at the 99th percentile weigh the same; the table is in that order. All else runs at its defaults.

`

func (r Report) standard(ctx context.Context, stderr io.Writer) error {
	var doc bytes.Buffer
	doc.WriteString(standardHead)
	for _, interval := range intervals() {
		fmt.Fprintf(stderr, "the standard scenario at %v + %v\n", interval, interval)
		c := Command{Scrape: interval, Eval: interval, Policy: "tuned", Seed: 1}
		scenarios, err := c.scenarios(stderr)
		if err != nil {
			return err
		}
		contenders := contest.Contenders()
		results, err := contest.Run(ctx, contenders, scenarios, true, progress(stderr, true))
		if err != nil {
			return err
		}
		fmt.Fprintf(&doc, "## At %v + %v\n\n", interval, interval)
		writeMarkdown(&doc, results)
		image := fmt.Sprintf("images/simulate-drain-%v.svg", interval)
		svg, err := Draw(contenders[0].Default, scenarios[0])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.Out, image), svg, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&doc, "![The drain policy with the first seed](%s)\n\n", image)
	}
	return os.WriteFile(filepath.Join(r.Out, "simulation.md"), doc.Bytes(), 0o644)
}

func writeMarkdown(doc io.Writer, results []contest.Result) {
	fmt.Fprint(doc, "| policy | utilisation | overflow | p50 wait | p99 wait | deepest | reversals a minute | settings |\n|---|---|---|---|---|---|---|---|\n")
	for _, res := range Ranked(results) {
		fmt.Fprintf(doc, "| %s | %.2f %% | %.3f %% | %.2f s | %.2f s | %.0f | %.1f | %s |\n", Label(res),
			100*res.UtilisationOfOracle, 100*res.OverflowRatio, res.P50WaitSeconds, res.P99WaitSeconds,
			res.MaxDepth, res.ReversalsPerMinute, res.Settings)
	}
	fmt.Fprintln(doc)
}

const pairsHead = `# How the policies do: recorded traces

Written by ` + "`make simulate TRACES=dir`" + `. Each recorded trace of arrivals against each recorded capacity of a store, at 5 s + 5 s. The capacity is scaled to a mean of 1,000 items per second, the queue holds 10,000 items, the base rate is 2,000 items per second, and the arrivals are scaled so that even the oracle has something left to send half of the time; long traces are compressed to an hour.

` + legend + `In each comparison with another tuned policy, ` + "`drain`" + ` at its defaults may do at least as well in each of three figures: overflow, utilisation, and p99 wait. It is dominated where the other does better in all three.

`

// Figures closer than these count as alike.
const (
	alikeShare = 0.0005 // of utilisation and overflow
	alikeWait  = 0.05   // seconds
)

func (r Report) pairs(ctx context.Context, stderr io.Writer) error {
	arrivals, err := filepath.Glob(filepath.Join(r.Traces, "[mw]*_*.csv"))
	if err != nil {
		return err
	}
	capacities, err := filepath.Glob(filepath.Join(r.Traces, "cap_*.csv"))
	if err != nil {
		return err
	}
	if len(arrivals) == 0 || len(capacities) == 0 {
		return invalid.New("--traces", r.Traces, "a folder with mkt_*.csv or web_*.csv, and cap_*.csv")
	}
	var tables, summary bytes.Buffer
	summary.WriteString("| arrivals | capacity | at least as well in two of three | dominated by |\n|---|---|---|---|\n")
	pairs, won := 0, 0
	for _, a := range arrivals {
		for _, c := range capacities {
			fmt.Fprintf(stderr, "%s against %s\n", base(a), base(c))
			scenarios, err := Command{Arrivals: a, Capacity: c, Scrape: 5 * time.Second, Eval: 5 * time.Second, Seed: 1}.scenarios(stderr)
			if err != nil {
				return err
			}
			results, err := contest.Run(ctx, contest.Contenders(), scenarios, true, nil)
			if err != nil {
				return err
			}
			as, others, dominated := compare(results)
			pairs++
			if as == others {
				won++
			}
			fmt.Fprintf(&summary, "| %s | %s | against %d of %d | %s |\n", base(a), base(c), as, others, strings.Join(dominated, ", "))
			fmt.Fprintf(&tables, "## %s against %s\n\n", base(a), base(c))
			writeMarkdown(&tables, results)
		}
	}
	doc := pairsHead + fmt.Sprintf("Against every other policy at once: in %d of %d pairs.\n\n", won, pairs) + summary.String() + "\n" + tables.String()
	return os.WriteFile(filepath.Join(r.Out, "simulation-traces.md"), []byte(doc), 0o644)
}

// compare holds drain at its defaults against every other tuned policy: against
// how many it does at least as well in two of the three figures, of how many,
// and which do better in all three.
func compare(results []contest.Result) (as, others int, dominated []string) {
	i := slices.IndexFunc(results, func(r contest.Result) bool { return r.Policy == policy.DrainName && !r.Tuned })
	drain := results[i].Figures
	for _, r := range results {
		if !r.Tuned || r.Policy == policy.DrainName {
			continue
		}
		others++
		worse := worseIn(drain, r.Figures)
		if worse <= 1 {
			as++
		}
		if worse == 3 {
			dominated = append(dominated, r.Policy)
		}
	}
	return as, others, dominated
}

// worseIn is in how many of the three figures one run is worse than another.
func worseIn(a, b plant.Figures) int {
	worse := 0
	for _, is := range []bool{
		a.OverflowRatio > b.OverflowRatio+alikeShare,
		a.UtilisationOfOracle < b.UtilisationOfOracle-alikeShare,
		a.P99WaitSeconds > b.P99WaitSeconds+alikeWait,
	} {
		if is {
			worse++
		}
	}
	return worse
}
