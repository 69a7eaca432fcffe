// Package feedback carries what write queues say about themselves to those who
// heed it: a Bus hands each event to its subscribers, and a Handler among them
// turns the level into a scale of the gate. This is the fast loop: it knows no
// Prometheus and reacts at once.
package feedback

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// What a subscriber may say of an event beside nil. Any other error is a
// failure.
var (
	ErrOld          = errors.New("event is older than the newest one of its coordinator")
	ErrUnknownLevel = errors.New("unknown level counts as OK")
)

// Outcomes of an event at one subscriber, as the series show them.
const (
	outcomeHandled      = "handled"
	outcomeOld          = "dropped_old"
	outcomeUnknownLevel = "unknown_level"
	outcomeFailed       = "failed"
)

// Subscriber is told of each event, in the order in which one publisher
// publishes them. It may be called by several goroutines at once.
type Subscriber func(pressure.Event) error

// Bus hands events to subscribers. The zero value is not ready; use NewBus. Its
// methods may be called by several goroutines at once. It is a
// prometheus.Collector of its own series.
type Bus struct {
	log    *slog.Logger
	events *prometheus.CounterVec

	mu          sync.RWMutex
	subscribers []*subscription // replaced, never changed in place
}

type subscription struct {
	name           string
	tell           Subscriber
	unknown, fails seldom.Shared // what is logged of it less and less
}

// NewBus returns a bus that nobody listens to.
func NewBus(log *slog.Logger) *Bus {
	return &Bus{log: log, events: metrics.NewCounter(metrics.FeedbackEvents)}
}

// Subscribe lets a subscriber be told of the events from now on. Its name
// stands in logs and series, so names must be few. The returned function ends
// it; an event that is being handed out may still come.
func (b *Bus) Subscribe(name string, tell Subscriber) (unsubscribe func()) {
	added := &subscription{name: name, tell: tell}
	for _, outcome := range []string{outcomeHandled, outcomeOld, outcomeUnknownLevel, outcomeFailed} {
		b.events.WithLabelValues(name, outcome) // is 0 from the start
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscribers = append(slices.Clone(b.subscribers), added)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subscribers = slices.DeleteFunc(slices.Clone(b.subscribers), func(s *subscription) bool { return s == added })
	}
}

// Publish hands an event to every subscriber, one after another in the order of
// their subscription, and returns when all had it. One that fails or panics
// harms no other; it is logged and counted.
func (b *Bus) Publish(e pressure.Event) {
	b.mu.RLock()
	subscribers := b.subscribers
	b.mu.RUnlock()
	for _, s := range subscribers {
		b.hand(s, e)
	}
}

func (b *Bus) hand(s *subscription, e pressure.Event) {
	err := s.guarded(e)
	outcome := outcomeHandled
	switch {
	case err == nil:
	case errors.Is(err, ErrOld):
		outcome = outcomeOld
		b.log.Debug("old feedback event dropped", "subscriber", s.name, "coordinator_id", e.CoordinatorID, "at", e.Time)
	case errors.Is(err, ErrUnknownLevel):
		outcome = outcomeUnknownLevel
		if leftOut, tell := s.unknown.Tell(time.Now()); tell {
			b.log.Warn("unknown pressure level counts as OK", "subscriber", s.name, "coordinator_id", e.CoordinatorID, "level", uint8(e.Level),
				"left_out", leftOut)
		}
	default:
		outcome = outcomeFailed
		if leftOut, tell := s.fails.Tell(time.Now()); tell {
			b.log.Error("subscriber failed", "subscriber", s.name, "coordinator_id", e.CoordinatorID, "error", err, "left_out", leftOut)
		}
	}
	b.events.WithLabelValues(s.name, outcome).Inc()
}

// guarded turns a panic into an error.
func (s *subscription) guarded(e pressure.Event) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic: %v", fault)
		}
	}()
	return s.tell(e)
}

// Reset forgets all subscribers, for tests that share a bus.
func (b *Bus) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscribers = nil
}

// Describe implements prometheus.Collector.
func (b *Bus) Describe(ch chan<- *prometheus.Desc) { b.events.Describe(ch) }

// Collect implements prometheus.Collector.
func (b *Bus) Collect(ch chan<- prometheus.Metric) { b.events.Collect(ch) }
