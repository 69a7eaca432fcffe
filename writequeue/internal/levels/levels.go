// Package levels holds the depth of a write queue against its marks, and makes and
// hands on the events of it.
package levels

import (
	"log/slog"
	"sync"
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

// SetThresholds changes the marks; the level follows at the next depth.
func (j *Judge) SetThresholds(thresholds pressure.Thresholds) { j.tracker.SetThresholds(thresholds) }

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

// Outbox hands events on one at a time, in order, and outside of its owner's
// lock, which guards all of it.
type Outbox struct {
	publish    func(pressure.Event) // nil for nobody
	log        *slog.Logger
	events     []pressure.Event
	publishing bool
	counts     [pressure.Hard + 1]uint64 // of the events, by level
}

// NewOutbox returns one that hands events to publish, which may be nil.
func NewOutbox(publish func(pressure.Event), log *slog.Logger) Outbox {
	return Outbox{publish: publish, log: log}
}

// Add puts an event in the row of those to be handed on.
func (o *Outbox) Add(e pressure.Event) {
	if o.publish == nil {
		return
	}
	o.events = append(o.events, e)
	o.counts[e.Level]++
}

// Counts are how many events were added, by level.
func (o *Outbox) Counts() [pressure.Hard + 1]uint64 { return o.counts }

// Idle reports whether there is nothing to hand on, or another goroutine is at
// it, which takes along what was added.
func (o *Outbox) Idle() bool { return len(o.events) == 0 || o.publishing }

// Publish hands the events on. The owner's lock is held before and after, and not
// meanwhile.
func (o *Outbox) Publish(mu *sync.Mutex) {
	if o.Idle() {
		return
	}
	o.publishing = true
	for len(o.events) > 0 {
		events := o.events
		o.events = nil
		mu.Unlock()
		for _, e := range events {
			o.tell(e)
		}
		mu.Lock()
	}
	o.publishing = false
}

// tell publishes one event. A panic of the subscriber is logged and ends there:
// it is not the fault of whoever crossed the mark.
func (o *Outbox) tell(e pressure.Event) {
	defer func() {
		if fault := recover(); fault != nil {
			o.log.Error("subscriber to feedback events panicked", "level", e.Level.String(), "panic", fault)
		}
	}()
	o.publish(e)
}
