package contest

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/internal/plant"
)

// Result is how a contender did over all scenarios of a kind.
type Result struct {
	Policy string `json:"policy"`
	Tuned  bool   `json:"tuned"`
	plant.Figures
	Settings Settings `json:"settings"`
}

// Cost is what a search for better settings minimises. A hundredth of the
// utilisation that is lost, and a hundredth of what came that is refused, weigh
// as much as five seconds of waiting at the 99th percentile: what the store did
// not write in time and what the queue refused is gone, what waits is late.
func Cost(f plant.Figures) float64 {
	return (1 - f.UtilisationOfOracle) + f.OverflowRatio + f.P99WaitSeconds/500
}

// Judge runs a variant on every scenario and returns the mean of its figures,
// the largest of its depths.
func (v Variant) Judge(scenarios []plant.Scenario) plant.Figures {
	var mean plant.Figures
	n := float64(len(scenarios))
	for _, s := range scenarios {
		f := v.Run(s)
		mean.UtilisationOfOracle += f.UtilisationOfOracle / n
		mean.UtilisationOfDelayedOracle += f.UtilisationOfDelayedOracle / n
		mean.OverflowRatio += f.OverflowRatio / n
		mean.P50WaitSeconds += f.P50WaitSeconds / n
		mean.P99WaitSeconds += f.P99WaitSeconds / n
		mean.ReversalsPerMinute += f.ReversalsPerMinute / n
		mean.TotalVariation += f.TotalVariation / n
		mean.MaxDepth = math.Max(mean.MaxDepth, f.MaxDepth)
	}
	return mean
}

// Run judges the contenders at their defaults and, where tuned is set, once
// more at the settings with the least Cost, which may be the defaults. Results
// come in the contenders' order, each default before its tuned one. Runs go on
// beside each other on all processors; progress, which may be nil, is called
// from several goroutines with the number of runs that have ended. The error
// is ctx's.
func Run(ctx context.Context, contenders []Contender, scenarios []plant.Scenario, tuned bool, progress func(done, total int)) ([]Result, error) {
	type job struct{ contender, variant int }
	figures := make([][]plant.Figures, len(contenders))
	var jobs []job
	for i, c := range contenders {
		n := 1
		if tuned {
			n += len(c.Grid)
		}
		figures[i] = make([]plant.Figures, n)
		for j := range n {
			jobs = append(jobs, job{i, j})
		}
	}
	done := make(chan struct{}, len(jobs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, j := range jobs {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			figures[j.contender][j.variant] = contenders[j.contender].variant(j.variant).Judge(scenarios)
			done <- struct{}{}
			if progress != nil {
				progress(len(done), len(jobs))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("run the contest: %w", err)
	}
	var results []Result
	for i, c := range contenders {
		results = append(results, Result{c.Name, false, figures[i][0], c.Default.Settings})
		if !tuned {
			continue
		}
		best := 0
		for j, f := range figures[i] {
			if Cost(f) < Cost(figures[i][best]) {
				best = j
			}
		}
		results = append(results, Result{c.Name, true, figures[i][best], c.variant(best).Settings})
	}
	return results, nil
}

// variant is the default, and from 1 on those of the grid.
func (c Contender) variant(i int) Variant {
	if i == 0 {
		return c.Default
	}
	return c.Grid[i-1]
}
