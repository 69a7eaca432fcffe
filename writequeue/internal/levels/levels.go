// Package levels holds the depth of a write queue against its marks and makes the
// events of it.
package levels

import (
	"time"

	"github.com/headgate/headgate/pressure"
)

// Why events are published.
const (
	ReasonHighWatermark = "high_watermark" // the level rose
	ReasonLowWatermark  = "low_watermark"  // the level fell
	ReasonStoreReady    = "store_ready"    // the store took its first write
)

// source is what a queue calls itself in events.
const source = "write_queue"

// Judge judges one queue. It is not safe for several goroutines at once.
type Judge struct {
	id        string
	tracker   *pressure.Tracker
	announced bool      // an event was made at all
	last      time.Time // of the last event; they never run backwards
}

// New returns a judge of the queue of that coordinator, whose level is OK.
func New(id string, thresholds pressure.Thresholds) *Judge {
	return &Judge{id: id, tracker: pressure.NewTracker(thresholds)}
}

// Level is the level now.
func (j *Judge) Level() pressure.Level {
	level, _ := j.tracker.Level()
	return level
}

// Announced reports whether an event was made at all.
func (j *Judge) Announced() bool { return j.announced }

// Observe holds a depth against the marks, and reports whether it crossed one;
// then Event tells it.
func (j *Judge) Observe(at time.Time, depth int) (reason string, crossed bool) {
	before, _ := j.tracker.Level()
	level, changed := j.tracker.Observe(at, float64(depth), pressure.OK)
	switch {
	case !changed:
		return "", false
	case level < before:
		return ReasonLowWatermark, true
	}
	return ReasonHighWatermark, true
}

// Event makes an event of the level as it is now.
func (j *Judge) Event(reason string, depth, capacity int) pressure.Event {
	now := time.Now()
	if now.Before(j.last) {
		now = j.last
	}
	j.last, j.announced = now, true
	return pressure.Event{
		CoordinatorID: j.id,
		QueueSize:     depth,
		Capacity:      capacity,
		Level:         j.Level(),
		Reason:        reason,
		Utilization:   float64(depth) / float64(capacity),
		Source:        source,
		Time:          now,
	}
}
