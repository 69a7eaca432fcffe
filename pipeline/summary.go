package pipeline

import (
	"log/slog"
	"time"
)

// Summary is what became of all items of a run. Accepted, Written, Waiting,
// Dropped and DeadLettered are sums over the write queues, and over the sinks
// that have none. What waits in a durable queue waits there for this process or
// another, and may have waited before the run.
type Summary struct {
	Name         string `json:"name"`
	Accepted     uint64 `json:"accepted"`
	Written      uint64 `json:"written"` // the store took them; of two with one key it keeps the first
	Waiting      uint64 `json:"waiting"`
	Dropped      uint64 `json:"dropped"`
	DeadLettered uint64 `json:"dead_lettered"`

	// Conserved says that all items are accounted for: accepted is the sum of the
	// other four; of a durable queue, taken is the sum of what was written,
	// dead-lettered and given back.
	Conserved bool `json:"conserved"`

	Durable *DurableSummary `json:"durable,omitempty"` // nil without a durable queue

	MaxDepth        uint64  `json:"max_depth"` // of the queue that was deepest, in items
	Granted         uint64  `json:"granted"`   // items that the gates let through
	DurationSeconds float64 `json:"duration_seconds"`

	Sources map[string]SourceSummary `json:"sources"` // by name
}

// DurableSummary is what this process did with its durable queues besides. Where
// no other process has a part in them, found + accepted = written + waiting +
// dead-lettered, and less only where items were written twice.
type DurableSummary struct {
	Found     uint64 `json:"found"`      // waited when the queues were opened
	Taken     uint64 `json:"taken"`      // out of the queues, to be written
	GivenBack uint64 `json:"given_back"` // of these, left to be written later
	Repeated  uint64 `json:"repeated"`   // offered again, and there already
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
	s.Conserved = true
	for _, counted := range p.counted {
		c := counted.Stats()
		s.Conserved = s.Conserved && c.Conserved()
		if c.Durable != nil {
			if s.Durable == nil {
				s.Durable = &DurableSummary{}
			}
			s.Durable.Taken += c.Durable.Taken
			s.Durable.GivenBack += c.Durable.GivenBack
			s.Durable.Repeated += c.Durable.Repeated
		}
		s.Accepted += c.Accepted
		s.Written += c.Written
		s.Waiting += c.Waiting
		s.Dropped += c.Dropped
		s.DeadLettered += c.DeadLettered
		s.MaxDepth = max(s.MaxDepth, c.MaxDepth)
	}
	for _, d := range p.durables {
		s.Durable.Found += d.found.Load()
	}
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
	if d := s.Durable; d != nil {
		log.Info("durable queues", "found", d.Found, "taken", d.Taken, "given_back", d.GivenBack, "repeated", d.Repeated)
	}
}
