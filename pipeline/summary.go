package pipeline

import (
	"log/slog"
	"time"
)

// Summary is what became of all items of a run. Accepted, Written, Waiting,
// Dropped and DeadLettered are sums over the write queues, and over the sinks
// that have none.
type Summary struct {
	Name         string `json:"name"`
	Accepted     uint64 `json:"accepted"`
	Written      uint64 `json:"written"` // the store took them; of two with one key it keeps the first
	Waiting      uint64 `json:"waiting"`
	Dropped      uint64 `json:"dropped"`
	DeadLettered uint64 `json:"dead_lettered"`
	Conserved    bool   `json:"conserved"` // accepted is the sum of the other four

	MaxDepth        uint64  `json:"max_depth"` // of the queue that was deepest, in items
	Granted         uint64  `json:"granted"`   // items that the gates let through
	DurationSeconds float64 `json:"duration_seconds"`

	Sources map[string]SourceSummary `json:"sources"` // by name
}

// SourceSummary is what became of one source's items. What was offered and not
// accepted was refused, or was on its way when the pipeline stopped.
type SourceSummary struct {
	Offered  uint64 `json:"offered"`
	Accepted uint64 `json:"accepted"` // with those that a transform removed
	Skipped  uint64 `json:"skipped"`  // left out, for they were too late
}

// Summary is what became of all items until now.
func (p *Pipeline) Summary() Summary {
	s := Summary{
		Name: p.job.Name, Granted: p.granted.Load(), Sources: map[string]SourceSummary{},
	}
	if !p.started.IsZero() {
		s.DurationSeconds = time.Since(p.started).Seconds()
	}
	for _, counted := range p.counted {
		c := counted.Stats()
		s.Accepted += c.Accepted
		s.Written += c.Written
		s.Waiting += c.Waiting
		s.Dropped += c.Dropped
		s.DeadLettered += c.DeadLettered
		s.MaxDepth = max(s.MaxDepth, c.MaxDepth)
	}
	s.Conserved = s.Accepted == s.Written+s.Waiting+s.Dropped+s.DeadLettered
	for _, source := range p.sources {
		s.Sources[source.name] = SourceSummary{
			Offered:  value(p.series.offered.WithLabelValues(source.name)),
			Accepted: value(p.series.accepted.WithLabelValues(source.name)),
			Skipped:  value(p.series.skipped.WithLabelValues(source.name)),
		}
	}
	return s
}

// log writes the summary as one record.
func (s Summary) log(log *slog.Logger) {
	log.Info("pipeline stopped", "name", s.Name,
		"accepted", s.Accepted, "written", s.Written, "waiting", s.Waiting, "dropped", s.Dropped,
		"dead_lettered", s.DeadLettered, "conserved", s.Conserved, "max_depth", s.MaxDepth,
		"granted", s.Granted, "duration_seconds", s.DurationSeconds)
}
