package scaler

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/metrics"
)

// series are what a server counts as it goes; the rest is made from its signals
// when it is collected.
type series struct {
	refused *prometheus.CounterVec
	streams *prometheus.GaugeVec
}

func newSeries() *series {
	s := &series{
		refused: metrics.NewCounter(metrics.ScalerUnanswered),
		streams: metrics.NewGauge(metrics.ScalerStreams),
	}
	for _, reason := range []string{whyNeverRead, whyAbsent, whyStale, whyMissing} {
		s.refused.WithLabelValues(reason) // is 0 from the start
	}
	for _, stream := range []string{"StreamIsActive", "StreamMetricSpec"} {
		s.streams.WithLabelValues(stream)
	}
	return s
}

func (s *series) unanswered(reason string) { s.refused.WithLabelValues(reason).Inc() }

// stream counts an open stream until the returned function is called.
func (s *series) stream(name string) (ended func()) {
	open := s.streams.WithLabelValues(name)
	open.Inc()
	return open.Dec
}

// Describe implements prometheus.Collector. Nothing is described beforehand,
// for coordinators come and go.
func (s *Server) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.series.refused.Collect(ch)
	s.series.streams.Collect(ch)
	s.mu.Lock()
	objects := len(s.answered)
	s.mu.Unlock()
	gauge := func(name string, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(metrics.Desc(name), prometheus.GaugeValue, value, labels...)
	}
	gauge(metrics.ScalerScaledObjects, float64(objects))
	s.signals.collect(ch, gauge)
}

func (s *Signals) collect(ch chan<- prometheus.Metric, gauge func(name string, value float64, labels ...string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(metrics.Desc(metrics.ScalerReadFailures), prometheus.CounterValue, float64(s.failures))
	if !s.readAt.IsZero() {
		gauge(metrics.ScalerSignalAge, time.Since(s.readAt).Seconds())
	}
	gauge(metrics.ScalerSignalsUsable, oneIf(!s.readAt.IsZero() && !s.failing))
	for _, id := range slices.Sorted(maps.Keys(s.learned)) {
		c := s.learned[id]
		gauge(metrics.ScalerStoreBound, oneIf(c.bound), id)
		if !math.IsNaN(c.perReplica) {
			gauge(metrics.ScalerReplicaDrain, c.perReplica, id)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
