package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/internal/redisserver"
	"github.com/headgate/headgate/internal/replicas"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pipeline/journal"
)

const (
	sharedBudget = 2000 // items per second
	sharedBurst  = 600  // items, of all together
	ownBurst     = 60   // items, of each where they have shares

	// sharesSteady is how long each number of replicas is measured once it has
	// settled, and sharesSettle how long that may take.
	sharesSteady, sharesSettle = 15 * time.Second, 90 * time.Second
)

// scales are the numbers of replicas, one after another. Those up to changing are
// what the bar of the shares is for: bursts come on top, so it holds for few.
var scales = []int{1, 5, 2, 6, 10}

const changing = 3

func sharesGroup() group {
	return group{
		name: "shares",
		about: fmt.Sprintf("One provider's budget of %d items per second, shared by pipelines that are real processes, each with feeds of more than the whole budget, "+
			"beside a real controller and a real Prometheus. There are first 1 of them, then 5, then 2, then 6 and 10, %v of each once it has settled; the changes between them count too. "+
			"(a) is shares that the controller gives, each replica with a burst of %d, (b) a bucket on a real Redis with a burst of %d for all. "+
			"What passes is counted from the journals of all of them.", sharedBudget, sharesSteady, ownBurst, sharedBurst),
		measure: measureShares,
	}
}

// steady is what a number of replicas did once it had settled.
type steady struct {
	replicas int
	from, to time.Time
	cost     float64 // seconds of the processor a second
	draws    float64 // a second, from Redis
}

func measureShares(ctx context.Context, _ int) ([]Row, error) {
	dir, err := os.MkdirTemp("", "headgate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	byShares, shares, err := runShares(ctx, filepath.Join(dir, "a"), false)
	if err != nil {
		return nil, fmt.Errorf("shares by the controller: %w", err)
	}
	byRedis, drawn, err := runShares(ctx, filepath.Join(dir, "b"), true)
	if err != nil {
		return nil, fmt.Errorf("a bucket on Redis: %w", err)
	}
	const few, way = "1 -> 5 -> 2 replicas", "1 -> 5 -> 2 -> 6 -> 10 replicas"
	inTen, _ := byShares.Until(shares[changing-1].to).MostIn(10 * time.Second)
	ofAll, _ := byShares.MostIn(10 * time.Second)
	inOne, _ := byRedis.MostIn(time.Second)
	beyond, _ := byRedis.Beyond(sharedBudget)
	rows := []Row{atMost(1.02).against("(a) "+few+": worst 10 s", "items", "budget of 10 s", float64(inTen), 10*sharedBudget)}
	rows[0].note = fmt.Sprintf("with 6 and 10 replicas after them it is %v, for the burst of each comes on top", Figure(ofAll))
	rows = append(rows, used("(a)", byShares, shares)...)
	rows = append(rows,
		atMost(1).against("(b) "+way+": worst second", "items", "budget and burst", float64(inOne), sharedBudget+sharedBurst),
		atMost(1).against("(b) "+way+": beyond the budget in any time", "items", "burst", beyond, sharedBurst))
	return append(rows, used("(b)", byRedis, drawn)...), nil
}

// used makes a row for each number of replicas of what they used of the budget.
func used(way string, all journal.Ledger, phases []steady) (rows []Row) {
	var sizes []int
	var costs []float64
	var notes []string
	for _, p := range phases {
		perSecond := float64(all.Between(p.from, p.to)) / p.to.Sub(p.from).Seconds()
		name := fmt.Sprintf("%s %d replicas: of the budget", way, p.replicas)
		rows = append(rows, atLeast(0.95).against(name, "items/s", "budget", perSecond, sharedBudget))
	}
	for _, size := range []int{2, 5, 10} {
		for _, p := range phases {
			if p.replicas == size {
				sizes, costs = append(sizes, size), append(costs, p.cost)
				note := fmt.Sprintf("%.1f ms a second with %d", 1000*p.cost, size)
				if p.draws > 0 {
					note += fmt.Sprintf(" (%.0f draws of %.0f µs)", p.draws, 1e6*p.cost/p.draws)
				}
				notes = append(notes, note)
			}
		}
	}
	what := map[string]string{"(a)": "controller", "(b)": "Redis"}[way]
	rows[len(rows)-1].note = fmt.Sprintf("processor time of %s: %s; %s", what, strings.Join(notes, ", "), growth(sizes, costs))
	return rows
}

// runShares runs all numbers of replicas one after another, and returns what they
// let through.
func runShares(ctx context.Context, dir string, byRedis bool) (_ journal.Ledger, phases []steady, err error) {
	pipelines, prometheusDir := filepath.Join(dir, "pipelines"), filepath.Join(dir, "prometheus")
	if err := errors.Join(os.MkdirAll(pipelines, 0o755), os.MkdirAll(prometheusDir, 0o755)); err != nil {
		return nil, nil, err
	}
	binary, err := sibling("pipeline")
	if err != nil {
		return nil, nil, err
	}
	config := replicas.Config{
		Binary: binary, Dir: pipelines, Most: 10, BasePerSecond: sharedBudget, Burst: ownBurst, InitialShare: 0.005,
	}
	var redis *redisserver.Server
	if byRedis {
		if redis, err = redisserver.Start(ctx, filepath.Join(dir, "redis")); err != nil {
			return nil, nil, err
		}
		defer redis.Kill()
		config.RedisURL, config.Burst, config.InitialShare = "redis://"+redis.Address, sharedBurst, 0.1
	}
	fleet, err := replicas.New(config)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, fleet.Close()) }()
	controller, stop, err := startSharing(ctx, dir, prometheusDir, fleet)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	settled := fleet.ShareEvenly
	payer := controller
	if byRedis {
		settled = drawing(fleet)
		payer = redis.Process
	}
	for _, n := range scales {
		if err := fleet.Scale(n); err != nil {
			return nil, nil, err
		}
		if err := fleet.Await(ctx, sharesSettle, "use the whole budget", settled); err != nil {
			return nil, nil, err
		}
		p := steady{replicas: n, from: time.Now()}
		cpu, err := payer.CPU()
		draws, drawsErr := fleet.Sum(ctx, metrics.SharedDraws)
		if err := errors.Join(err, drawsErr, pause(ctx, sharesSteady)); err != nil {
			return nil, nil, err
		}
		p.to = time.Now()
		seconds := p.to.Sub(p.from).Seconds()
		after, err := payer.CPU()
		drawsAfter, drawsErr := fleet.Sum(ctx, metrics.SharedDraws)
		if err := errors.Join(err, drawsErr); err != nil {
			return nil, nil, err
		}
		p.cost, p.draws = (after-cpu).Seconds()/seconds, (drawsAfter-draws)/seconds
		phases = append(phases, p)
	}
	if err := fleet.Scale(0); err != nil { // their journals are whole then
		return nil, nil, err
	}
	all, err := fleet.Ledger()
	return all, phases, err
}

// drawing reports whether all draw from Redis, and let nine tenths of the budget
// through from one second to the next: for some seconds after the first one came
// the budget is kept from them of which others may be using a part.
func drawing(fleet *replicas.Fleet) func([]coordinator.State) bool {
	var was uint64
	var at time.Time
	return func(states []coordinator.State) bool {
		if time.Since(at) < time.Second {
			return false
		}
		var granted uint64
		for _, s := range states {
			granted += s.Granted
		}
		perSecond := (float64(granted) - float64(was)) / time.Since(at).Seconds()
		was, at = granted, time.Now()
		return fleet.DrawFreely(states) && perSecond >= 0.9*sharedBudget && perSecond <= 1.2*sharedBudget
	}
}

// startSharing starts a controller that throttles the fleet, and the Prometheus by
// which it finds its replicas.
func startSharing(ctx context.Context, dir, prometheusDir string, fleet *replicas.Fleet) (_ *process.Process, stop func() error, err error) {
	found, err := promserver.Find()
	if err != nil {
		return nil, nil, err
	}
	prometheus, err := promserver.Start(ctx, promserver.Config{
		Binary: found, Dir: prometheusDir, Interval: time.Second,
		Scrapes: []promserver.Scrape{{Job: "pipelines", Targets: fleet.Addresses()}},
	})
	if err != nil {
		return nil, nil, err
	}
	binary, err := sibling("controller")
	listen, freeErr := process.FreeAddress()
	var controller *process.Process
	if err = errors.Join(err, freeErr); err == nil {
		controller, err = process.Start(process.Spec{Name: "controller", Binary: binary, Log: dir, Env: []string{
			"HEADGATE_PROMETHEUS_URL=" + prometheus.URL, "HEADGATE_CONTROLLER_LISTEN=" + listen,
			"HEADGATE_COORDINATOR_IDS=" + replicas.CoordinatorID, "HEADGATE_COORDINATOR_URL=series+http://",
			"HEADGATE_INTERVAL=1s", "HEADGATE_LEASE=5s", "HEADGATE_QUERY_TIMEOUT=800ms", "HEADGATE_APPLY_TIMEOUT=500ms",
		}})
	}
	if err != nil {
		return nil, nil, errors.Join(err, prometheus.Stop())
	}
	return controller, func() error { return errors.Join(controller.Stop(10*time.Second), prometheus.Stop()) }, nil
}
