package controller

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/headgate/headgate/metrics"
)

// instruments are what the loop counts whatever its targets. What it knows of
// each target is read at scrape time from its row.
type instruments struct {
	queries, queryErrors, queryWarnings prometheus.Counter
	tick                                prometheus.Observer
	all                                 []prometheus.Collector
}

func newInstruments() *instruments {
	queries := metrics.NewCounter(metrics.ControllerQueries)
	queryErrors := metrics.NewCounter(metrics.ControllerQueryErrors)
	queryWarnings := metrics.NewCounter(metrics.ControllerQueryWarnings)
	tick := metrics.NewHistogram(metrics.ControllerTickDuration)
	return &instruments{
		queries:       queries.WithLabelValues(),
		queryErrors:   queryErrors.WithLabelValues(),
		queryWarnings: queryWarnings.WithLabelValues(),
		tick:          tick.WithLabelValues(),
		all: []prometheus.Collector{
			queries, queryErrors, queryWarnings, tick,
			versioncollector.NewCollector("headgate_controller"),
		},
	}
}

// counts are what is counted of a target, from 0 on, so that the first of
// anything is seen as a rise. They are plain numbers, for a controller may have
// ten thousand targets, and a counter of its own for each is ten times as big.
type counts struct {
	decisions   [len(reasons)]uint64
	applyErrors [][len(applyFaults)]uint64 // of each provider
}

// add counts the decision about the provider with that index.
func (c *counts) add(provider int, d *Decision) {
	if i := slices.Index(reasons[:], d.Reason); i >= 0 {
		c.decisions[i]++
	}
	if i := slices.Index(applyFaults[:], d.ApplyFault); i >= 0 {
		c.applyErrors[provider][i]++
	}
}

// fromRows are the series that are made at scrape time from the rows.
var fromRows = []string{
	metrics.ControllerDecisions, metrics.ControllerApplyErrors, metrics.ControllerTargets, metrics.ControllerLevel, metrics.ControllerSignalAge,
	metrics.ControllerScaleWanted, metrics.ControllerScaleAsked, metrics.ControllerScaleInForce,
	metrics.ControllerThreshold, metrics.ControllerObserved, metrics.ControllerDeadTime, metrics.ControllerStandby,
	metrics.ControllerHeadroom,
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(to chan<- *prometheus.Desc) {
	for _, instrument := range c.metrics.all {
		instrument.Describe(to)
	}
	for _, name := range fromRows {
		to <- metrics.Desc(name)
	}
}

// Collect implements prometheus.Collector. What is not known has no series.
func (c *Controller) Collect(to chan<- prometheus.Metric) {
	for _, instrument := range c.metrics.all {
		instrument.Collect(to)
	}
	descs := make(map[string]*prometheus.Desc, len(fromRows))
	for _, name := range fromRows {
		descs[name] = metrics.Desc(name)
	}
	gauge := func(name string, value Number, labels ...string) {
		if value.Known() {
			to <- prometheus.MustNewConstMetric(descs[name], prometheus.GaugeValue, float64(value), labels...)
		}
	}
	count := func(name string, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(descs[name], prometheus.CounterValue, float64(value), labels...)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	states := map[string]int{"controlled": 0, "dry_run": 0, "disabled": 0}
	for _, row := range c.rows {
		states[row.target.state()]++
		for _, id := range row.target.CoordinatorIDs {
			gauge(metrics.ControllerObserved, oneIf(!row.target.Disabled), row.target.Name, id)
		}
		if !row.target.Disabled {
			for i, n := range row.counts.decisions {
				count(metrics.ControllerDecisions, n, row.target.Name, string(reasons[i]))
			}
			for p, faults := range row.counts.applyErrors {
				for i, n := range faults {
					count(metrics.ControllerApplyErrors, n, row.target.Name, row.target.Providers[p].Name, string(applyFaults[i]))
				}
			}
		}
		for i, d := range row.latest {
			if i == 0 {
				gauge(metrics.ControllerSignalAge, d.AgeSeconds, d.Target)
				if d.Level != nil {
					gauge(metrics.ControllerLevel, Number(*d.Level), d.Target)
				}
				gauge(metrics.ControllerThreshold, d.SoftEnter, d.Target, "soft_enter")
				gauge(metrics.ControllerThreshold, d.SoftExit, d.Target, "soft_exit")
				gauge(metrics.ControllerThreshold, d.HardEnter, d.Target, "hard_enter")
				gauge(metrics.ControllerThreshold, d.HardExit, d.Target, "hard_exit")
			}
			gauge(metrics.ControllerScaleWanted, d.Scale, d.Target, d.Provider)
			gauge(metrics.ControllerScaleInForce, d.InForce, d.Target, d.Provider)
			gauge(metrics.ControllerHeadroom, d.HeadroomItems, d.Target, d.Provider)
			gauge(metrics.ControllerDeadTime, d.DeadTimeSeconds, d.Target, d.Provider)
			gauge(metrics.ControllerStandby, oneIf(d.Outcome == OutcomeStandby), d.Target, d.Provider)
			if d.Outcome == OutcomeApplied || d.Outcome == OutcomeFailed {
				gauge(metrics.ControllerScaleAsked, d.applied(), d.Target, d.Provider)
			}
		}
	}
	for state, n := range states {
		gauge(metrics.ControllerTargets, Number(n), state)
	}
}

func oneIf(is bool) Number {
	if is {
		return 1
	}
	return 0
}

// state is what is done with the target.
func (t Target) state() string {
	switch {
	case t.Disabled:
		return "disabled"
	case t.DryRun:
		return "dry_run"
	}
	return "controlled"
}
