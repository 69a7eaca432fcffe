package writequeue

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/writequeue/internal/series"
)

// Describe implements prometheus.Collector.
func (q *Queue) Describe(ch chan<- *prometheus.Desc) {
	q.series.Describe(ch)
	q.writer.Describe(ch)
	ch <- q.waits.Desc()
}

// Collect implements prometheus.Collector. The counts of items of one collection
// are one consistent cut, as Stats is.
func (q *Queue) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	s, c, events := q.stats(), q.count, q.outbox.Counts()
	q.mu.Unlock()
	q.series.Collect(ch, series.Figures{
		Whole: &series.Whole{Depth: s.Waiting, Capacity: s.Capacity, MaxDepth: s.MaxDepth, Level: s.Level},
		Intake: &series.Intake{
			Accepted: c.accepted, BlockedPuts: s.BlockedPuts,
			Refused: []series.Reason{
				{Name: RefusedFull, Items: c.refusedFull}, {Name: RefusedClosed, Items: c.refusedClosed},
				{Name: RefusedCancelled, Items: c.refusedCancelled},
			},
		},
		Drain: &series.Drain{
			Written: c.written, DeadLettered: c.deadLettered, InFlight: int(s.InFlight),
			Dropped: []series.Reason{
				{Name: DroppedOverflow, Items: c.droppedOverflow}, {Name: DroppedDeadLetters, Items: c.droppedDeadLetters},
			},
		},
		Events: events,
	})
	q.writer.Collect(ch)
	ch <- q.waits
}
