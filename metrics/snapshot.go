package metrics

import (
	"time"

	"github.com/headgate/headgate/pressure"
)

// Rate is how fast a counter rises, as the difference of its last two samples
// by the samples' own times. A reset counts from 0.
type Rate struct {
	PerSecond float64 // items per second, >= 0; 0 unless Known
	Known     bool    // two samples of every replica have been seen
}

// Replica is one process among those that share a coordinator's id.
type Replica struct {
	Instance        string // the scraped address; empty where the series have none
	Shares          bool   // its queue is one that it shares: depth, capacity and level are the whole's
	Depth, Capacity float64
	Level           pressure.Level
	Arrivals, Drain Rate
	At              time.Time // of its depth, on Prometheus' clock
}

// Observation is what is known of one coordinator, all of its replicas
// together. There is none of a coordinator whose depth is absent, is not a
// number >= 0 on any replica, or is absent on one that has a capacity as the
// others have: what is missing is never 0.
type Observation struct {
	CoordinatorID string

	// Depth and Capacity are in items, summed over the replicas. A queue that
	// replicas share counts once, as the one tells it whose sample is the newest.
	Depth    float64 // finite and >= 0
	Capacity float64 // NaN when a replica's is absent

	Level    pressure.Level // the worst of what the replicas say of themselves
	HasLevel bool           // they say something

	Arrivals, Drain, Dropped Rate // items per second, summed

	At       time.Time // of the oldest depth that counts among the replicas, on Prometheus' clock
	Newest   time.Time // of the newest one
	Replicas []Replica // by Instance, at least one
	Writers  []string  // instances whose written items Drain sums, sorted; nil where there are none

	// Labels are those that all series of its depth have alike, the
	// coordinator's own among them; without the name. Selectors choose by them.
	Labels map[string]string

	Missing []string // names of configured series that were absent
}

// Snapshot is one answer of Prometheus about every coordinator. It is never
// changed after it was made, so goroutines may share it.
type Snapshot struct {
	ReadAt       time.Time // of the evaluation, on Prometheus' clock
	Coordinators map[string]Observation

	Warnings int // that came with the answer
	Ignored  int // samples that were of no use: NaN, infinite, negative, doubled, of no coordinator
}

// Age is how old the oldest depth of o was when the snapshot was read, >= 0.
// Both times are on Prometheus' clock, so no clocks need to agree.
func (s Snapshot) Age(o Observation) time.Duration { return max(0, s.ReadAt.Sub(o.At)) }
