package controller

import (
	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/headgate/headgate/metrics"
)

// instruments are what the loop counts. What it knows is read at scrape time.
type instruments struct {
	decisions, applyErrors              *prometheus.CounterVec
	queries, queryErrors, queryWarnings prometheus.Counter
	tick                                prometheus.Observer
	all                                 []prometheus.Collector
}

func newInstruments() *instruments {
	decisions := metrics.NewCounter(metrics.ControllerDecisions)
	applyErrors := metrics.NewCounter(metrics.ControllerApplyErrors)
	queries := metrics.NewCounter(metrics.ControllerQueries)
	queryErrors := metrics.NewCounter(metrics.ControllerQueryErrors)
	queryWarnings := metrics.NewCounter(metrics.ControllerQueryWarnings)
	tick := metrics.NewHistogram(metrics.ControllerTickDuration)
	return &instruments{
		decisions:     decisions,
		applyErrors:   applyErrors,
		queries:       queries.WithLabelValues(),
		queryErrors:   queryErrors.WithLabelValues(),
		queryWarnings: queryWarnings.WithLabelValues(),
		tick:          tick.WithLabelValues(),
		all: []prometheus.Collector{
			decisions, applyErrors, queries, queryErrors, queryWarnings, tick,
			versioncollector.NewCollector("headgate_controller"),
		},
	}
}

// begin sets what is counted of a target to 0, so that the first of it is seen
// as a rise.
func (i *instruments) begin(t Target) {
	for _, r := range reasons() {
		i.decisions.WithLabelValues(t.Name, string(r))
	}
	for _, p := range t.Providers {
		for _, f := range applyFaults() {
			i.applyErrors.WithLabelValues(t.Name, p.Name, string(f))
		}
	}
}

// gauges are made at scrape time from the last decisions.
var gauges = []string{
	metrics.ControllerTargets, metrics.ControllerLevel, metrics.ControllerSignalAge,
	metrics.ControllerScaleWanted, metrics.ControllerScaleAsked, metrics.ControllerScaleInForce,
	metrics.ControllerThreshold, metrics.ControllerObserved, metrics.ControllerDeadTime, metrics.ControllerStandby,
	metrics.ControllerHeadroom,
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(to chan<- *prometheus.Desc) {
	for _, instrument := range c.metrics.all {
		instrument.Describe(to)
	}
	for _, name := range gauges {
		to <- metrics.Desc(name)
	}
}

// Collect implements prometheus.Collector. What is not known has no series.
func (c *Controller) Collect(to chan<- prometheus.Metric) {
	for _, instrument := range c.metrics.all {
		instrument.Collect(to)
	}
	descs := make(map[string]*prometheus.Desc, len(gauges))
	for _, name := range gauges {
		descs[name] = metrics.Desc(name)
	}
	gauge := func(name string, value Number, labels ...string) {
		if value.Known() {
			to <- prometheus.MustNewConstMetric(descs[name], prometheus.GaugeValue, float64(value), labels...)
		}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	states := map[string]int{"controlled": 0, "dry_run": 0, "disabled": 0}
	for _, row := range c.rows {
		states[row.target.state()]++
		for _, id := range row.target.CoordinatorIDs {
			gauge(metrics.ControllerObserved, oneIf(!row.target.Disabled), row.target.Name, id)
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
