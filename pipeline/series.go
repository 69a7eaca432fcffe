package pipeline

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"

	"github.com/headgate/headgate/metrics"
)

// series are those of the pipeline itself. Queues and the coordinator have
// their own.
type series struct {
	registry *prometheus.Registry

	offered, accepted, skipped *prometheus.CounterVec
	lag                        *prometheus.GaugeVec
	kept, removed              *prometheus.CounterVec
	direct                     *prometheus.CounterVec
}

func newSeries() *series {
	s := &series{
		registry: prometheus.NewRegistry(),
		offered:  metrics.NewCounter(metrics.SourceOffered),
		accepted: metrics.NewCounter(metrics.SourceAccepted),
		skipped:  metrics.NewCounter(metrics.SourceSkipped),
		lag:      metrics.NewGauge(metrics.SourceLag),
		kept:     metrics.NewCounter(metrics.TransformKept),
		removed:  metrics.NewCounter(metrics.TransformGone),
		direct:   metrics.NewCounter(metrics.DirectSinkItems),
	}
	s.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("headgate"),
		s.offered, s.accepted, s.skipped, s.lag, s.kept, s.removed, s.direct,
	)
	return s
}

// value is what a counter of whole numbers has come to.
func value(c prometheus.Counter) uint64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0
	}
	return uint64(m.GetCounter().GetValue())
}
