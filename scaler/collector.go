package scaler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/scaler/replicas"
)

// Names of the streams, as the series show them.
const (
	streamIsActive   = "StreamIsActive"
	streamMetricSpec = "StreamMetricSpec"
)

// series are what a server counts as it goes; the rest is made of its rows when
// it is collected.
type series struct {
	refused, sends, guards *prometheus.CounterVec
	panics                 prometheus.Counter
	streams                *prometheus.GaugeVec
	defaults               *prometheus.GaugeVec
}

func newSeries() *series {
	s := &series{
		refused:  metrics.NewCounter(metrics.ScalerUnanswered),
		sends:    metrics.NewCounter(metrics.ScalerStreamSends),
		guards:   metrics.NewCounter(metrics.ScalerGuards),
		panics:   metrics.NewCounter(metrics.ScalerPanics).WithLabelValues(),
		streams:  metrics.NewGauge(metrics.ScalerStreams),
		defaults: metrics.NewGauge(metrics.ScalerDefaultsGood),
	}
	// What was never counted is 0 from the start.
	for _, reason := range []string{whyNeverRead, whyAbsent, whyStale, whyMissing, whyInvalid} {
		s.refused.WithLabelValues(reason)
	}
	for _, stream := range []string{streamIsActive, streamMetricSpec} {
		s.streams.WithLabelValues(stream)
		s.sends.WithLabelValues(stream)
	}
	for _, cause := range replicas.Causes() {
		s.guards.WithLabelValues(string(cause))
	}
	return s
}

func (s *series) unanswered(reason string) { s.refused.WithLabelValues(reason).Inc() }
func (s *series) sent(stream string)       { s.sends.WithLabelValues(stream).Inc() }
func (s *series) bit(cause replicas.Cause) { s.guards.WithLabelValues(string(cause)).Inc() }
func (s *series) defaultsAre(good bool)    { s.defaults.WithLabelValues().Set(oneIf(good)) }
func (s *series) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.refused, s.sends, s.guards, s.panics, s.streams, s.defaults}
}

// stream counts an open stream until the returned function is called.
func (s *series) stream(name string) (ended func()) {
	open := s.streams.WithLabelValues(name)
	open.Inc()
	return open.Dec
}

// signalSeries are what the signals count.
type signalSeries struct {
	reads, failures, pushed prometheus.Counter
	duration                prometheus.Histogram
}

func newSignalSeries() *signalSeries {
	return &signalSeries{
		reads:    metrics.NewCounter(metrics.ScalerReads).WithLabelValues(),
		failures: metrics.NewCounter(metrics.ScalerReadFailures).WithLabelValues(),
		pushed:   metrics.NewCounter(metrics.ScalerPushedEvents).WithLabelValues(),
		duration: metrics.NewHistogram(metrics.ScalerReadDuration).WithLabelValues().(prometheus.Histogram),
	}
}

func (s *signalSeries) observe(took time.Duration, err error) {
	s.reads.Inc()
	s.duration.Observe(took.Seconds())
	if err != nil {
		s.failures.Inc()
	}
}

// Describe implements prometheus.Collector. Nothing is described beforehand,
// for triggers come and go.
func (s *Server) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.series.collectors() {
		c.Collect(ch)
	}
	own := s.signals.series
	for _, c := range []prometheus.Collector{own.reads, own.failures, own.pushed, own.duration} {
		c.Collect(ch)
	}
	gauge := func(name string, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(metrics.Desc(name), prometheus.GaugeValue, value, labels...)
	}
	s.signals.collect(gauge)

	rows := s.all()
	gauge(metrics.ScalerTriggers, float64(len(rows)))
	// Of several triggers that ask for the same of the same, such as those that
	// an edit leaves behind, the one that asked last counts.
	type labels [3]string
	newest := map[labels]*row{}
	asked := map[labels]time.Time{}
	for _, r := range rows {
		r.mu.Lock()
		l := labels{r.object, string(r.trigger.Metric), r.trigger.Chosen()}
		if r.wrong == nil && r.told.at.After(asked[l]) {
			newest[l], asked[l] = r, r.told.at
		}
		r.mu.Unlock()
	}
	now := time.Now()
	for l, r := range newest {
		r.mu.Lock()
		r.collect(now, func(name string, value float64) { gauge(name, value, l[:]...) })
		r.mu.Unlock()
	}
}

// collect tells of a row. r.mu is held.
func (r *row) collect(now time.Time, gauge func(name string, value float64)) {
	gauge(metrics.ScalerTarget, r.trigger.Target)
	if r.outcome.err == nil && !r.outcome.asOf.IsZero() {
		gauge(metrics.ScalerSampleAge, max(0, now.Sub(r.outcome.asOf).Seconds()))
	}
	o := &r.told.outcome
	if r.told.err != nil {
		return // what is not known is absent, not 0
	}
	there := len(o.load.writers)
	autoscaler := Autoscaler{TargetValue: r.trigger.Target, MetricType: r.trigger.Type}
	autoscaler.make(o.value, there)
	gauge(metrics.ScalerValue, o.value)
	gauge(metrics.ScalerActive, oneIf(o.active))
	gauge(metrics.ScalerReplicas, float64(there))
	gauge(metrics.ScalerReplicasWanted, float64(autoscaler.Replicas))
	if r.trigger.Sizes {
		gauge(metrics.ScalerStoreBound, oneIf(o.plan.StoreBound))
		if o.plan.PerReplicaPerSecond > 0 {
			gauge(metrics.ScalerReplicaDrain, o.plan.PerReplicaPerSecond)
		}
	}
}

func (s *Signals) collect(gauge func(name string, value float64, labels ...string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read.ReadAt.IsZero() {
		gauge(metrics.ScalerSignalAge, time.Since(s.read.ReadAt).Seconds())
	}
	gauge(metrics.ScalerSignalsUsable, oneIf(!s.read.ReadAt.IsZero() && !s.failing))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
