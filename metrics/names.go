// Package metrics holds the names of all series that Headgate exports, and the
// reader that turns a Prometheus server's answer into one snapshot of every
// coordinator.
package metrics

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels that series of several packages share.
const (
	LabelCoordinatorID = "coordinator_id" // whose queue it is
	LabelProvider      = "provider"       // whose rate it is
	LabelTarget        = "target"         // which line of control it is
	LabelReason        = "reason"         // one of a closed set of reasons
)

// Kind is a series' type as Prometheus names it.
type Kind string

const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// Series describes one exported series. Values are in base units: items,
// seconds, bytes, ratios in [0, 1].
type Series struct {
	Name   string   // as scraped, without the suffixes of a histogram
	Kind   Kind     // what Prometheus shows as its type
	Help   string   // one sentence, with the unit and the range where they are not plain
	Labels []string // label names in the order in which values are given; nil for none

	// Buckets are the upper bounds of a histogram's classic buckets, rising.
	// Its native buckets stand beside them. Nil for the other kinds.
	Buckets []float64
}

// Section is what one part of the product exports.
type Section struct {
	Title    string
	Binaries []string // that have the part in them, by their names in cmd
	Series   []Series
}

// Sections lists every series of every binary, each once. Whoever exports a
// series declares it here and builds its collector from here, so that docs,
// dashboards and checks can be made from one list.
func Sections() []Section {
	pipeline := []string{"pipeline"}
	return []Section{
		{"Write queue", pipeline, writeQueueSeries()},
		{"Providers", pipeline, coordinatorSeries()},
		{"Sources, transforms, direct sinks", pipeline, pipelineSeries()},
		{"Controller", []string{"controller"}, controllerSeries()},
		{"External scaler", []string{"external-scaler"}, scalerSeries()},
		{"Access to the ports", []string{"pipeline", "controller", "external-scaler"}, accessSeries()},
	}
}

// Catalog lists the series of all sections.
func Catalog() []Series {
	var all []Series
	for _, s := range Sections() {
		all = append(all, s.Series...)
	}
	return all
}

// Find returns the series of that name from the catalog, and whether it is
// there.
func Find(name string) (Series, bool) {
	all := Catalog()
	i := slices.IndexFunc(all, func(s Series) bool { return s.Name == name })
	if i < 0 {
		return Series{}, false
	}
	return all[i], true
}

// Desc is the descriptor of the named series, for collectors that make their
// metrics at scrape time. It panics where the catalog has no such series: that
// is a fault of the program, found by its first test.
func Desc(name string) *prometheus.Desc {
	s := must(name, "")
	return prometheus.NewDesc(s.Name, s.Help, s.Labels, nil)
}

// NewGauge returns the named gauge with its labels. It panics as Desc does.
func NewGauge(name string) *prometheus.GaugeVec {
	s := must(name, Gauge)
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: s.Name, Help: s.Help}, s.Labels)
}

// NewCounter returns the named counter with its labels. It panics as Desc does.
func NewCounter(name string) *prometheus.CounterVec {
	s := must(name, Counter)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: s.Name, Help: s.Help}, s.Labels)
}

// NewHistogram returns the named histogram with its labels, with classic and
// native buckets. It panics as Desc does.
func NewHistogram(name string) *prometheus.HistogramVec {
	s := must(name, Histogram)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                           s.Name,
		Help:                           s.Help,
		Buckets:                        s.Buckets,
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 100,
	}, s.Labels)
}

// must finds the named series and checks that it is of that kind; the empty
// kind is any.
func must(name string, kind Kind) Series {
	s, ok := Find(name)
	if !ok {
		panic(fmt.Sprintf("metrics: the catalog has no series %q", name))
	}
	if kind != "" && s.Kind != kind {
		panic(fmt.Sprintf("metrics: series %q is a %s, not a %s", name, s.Kind, kind))
	}
	return s
}
