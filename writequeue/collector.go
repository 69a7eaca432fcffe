package writequeue

import (
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// series are what a queue observes as it goes. All other series are made from
// its counters when they are collected.
type series struct {
	counters                                map[string]*prometheus.Desc // made from the counters, by name
	vectors                                 []*prometheus.HistogramVec
	waits                                   *waits
	batchItems                              prometheus.Observer
	writeOK, writeRetryable, writePermanent prometheus.Observer
}

func newSeries(id string) *series {
	batch := metrics.NewHistogram(metrics.WriteBatchItems)
	write := metrics.NewHistogram(metrics.WriteDuration)
	counters := map[string]*prometheus.Desc{}
	for _, name := range []string{
		metrics.QueueDepth, metrics.QueueCapacity, metrics.QueueMaxDepth, metrics.QueueInFlight,
		metrics.QueueBlockedPuts, metrics.BackpressureOK, metrics.BackpressureSoft, metrics.BackpressureHard,
		metrics.BackpressureEvents, metrics.ItemsAccepted, metrics.ItemsWritten, metrics.ItemsDropped,
		metrics.ItemsDeadLettered, metrics.ItemsRefused, metrics.WriteRetries, metrics.DeadLetterFailures,
		metrics.StoreBreakerState, metrics.StoreBreakerOpened,
	} {
		counters[name] = metrics.Desc(name)
	}
	return &series{
		counters:       counters,
		vectors:        []*prometheus.HistogramVec{batch, write},
		waits:          newWaits(id),
		batchItems:     batch.WithLabelValues(id),
		writeOK:        write.WithLabelValues(id, "ok"),
		writeRetryable: write.WithLabelValues(id, "retryable"),
		writePermanent: write.WithLabelValues(id, "permanent"),
	}
}

// Describe implements prometheus.Collector.
func (q *Queue) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range q.series.counters {
		ch <- desc
	}
	for _, v := range q.series.vectors {
		v.Describe(ch)
	}
	ch <- q.series.waits.Desc()
}

// Collect implements prometheus.Collector. The counters and gauges of one
// collection are one consistent cut, as Stats is.
func (q *Queue) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	s, c := q.stats(), q.count
	q.mu.Unlock()
	breaker := q.breaker.State()

	send := func(name string, kind prometheus.ValueType, value float64, label ...string) {
		labels := append([]string{q.cfg.CoordinatorID}, label...)
		ch <- prometheus.MustNewConstMetric(q.series.counters[name], kind, value, labels...)
	}
	gauge := func(name string, value float64, label ...string) {
		send(name, prometheus.GaugeValue, value, label...)
	}
	counter := func(name string, value uint64, label ...string) {
		send(name, prometheus.CounterValue, float64(value), label...)
	}
	gauge(metrics.QueueDepth, float64(s.Waiting))
	gauge(metrics.QueueCapacity, float64(s.Capacity))
	gauge(metrics.QueueMaxDepth, float64(s.MaxDepth))
	gauge(metrics.QueueInFlight, float64(s.InFlight))
	gauge(metrics.QueueBlockedPuts, float64(s.BlockedPuts))
	gauge(metrics.BackpressureOK, oneIf(s.Level == pressure.OK))
	gauge(metrics.BackpressureSoft, oneIf(s.Level == pressure.Soft))
	gauge(metrics.BackpressureHard, oneIf(s.Level == pressure.Hard))
	counter(metrics.BackpressureEvents, c.events[pressure.OK], "ok")
	counter(metrics.BackpressureEvents, c.events[pressure.Soft], "soft")
	counter(metrics.BackpressureEvents, c.events[pressure.Hard], "hard")
	counter(metrics.ItemsAccepted, c.accepted)
	counter(metrics.ItemsWritten, c.written)
	counter(metrics.ItemsDropped, c.droppedOverflow, DroppedOverflow)
	counter(metrics.ItemsDropped, c.droppedDeadLetters, DroppedDeadLetters)
	counter(metrics.ItemsDeadLettered, c.deadLettered)
	counter(metrics.ItemsRefused, c.refusedFull, RefusedFull)
	counter(metrics.ItemsRefused, c.refusedClosed, RefusedClosed)
	counter(metrics.ItemsRefused, c.refusedCancelled, RefusedCancelled)
	counter(metrics.WriteRetries, c.retries)
	counter(metrics.DeadLetterFailures, c.deadLetterFailures)
	gauge(metrics.StoreBreakerState, oneIf(breaker == circuitbreaker.ClosedState), "closed")
	gauge(metrics.StoreBreakerState, oneIf(breaker == circuitbreaker.HalfOpenState), "half_open")
	gauge(metrics.StoreBreakerState, oneIf(breaker == circuitbreaker.OpenState), "open")
	counter(metrics.StoreBreakerOpened, c.breakerOpened)
	for _, v := range q.series.vectors {
		v.Collect(ch)
	}
	ch <- q.series.waits
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
