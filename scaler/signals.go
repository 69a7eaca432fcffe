package scaler

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// Reader reads one snapshot of all coordinators; *metrics.Reader is one.
type Reader interface {
	Read(context.Context) (metrics.Snapshot, error)
}

// Signals holds the newest view of all coordinators for everybody who asks, so
// that the number of queries does not depend on how many do. Run reads it, at
// each interval and whenever Wake or Push is called. All methods may be called
// by several goroutines at once.
type Signals struct {
	reader     Reader
	interval   time.Duration
	timeout    time.Duration // of one reading
	staleAfter time.Duration
	log        *slog.Logger
	series     *signalSeries

	wake chan struct{} // of size one

	mu      sync.Mutex
	read    View // as it was read, without what was pushed
	pushed  map[string]pushed
	current *View // never changed once it is here
	failing bool  // the last reading failed
	unread  seldom.Condition
	changed chan struct{}
}

// View is what is known of the coordinators at one moment. It is never changed
// after it was made.
type View struct {
	Number       uint64    // counts the views, from 1; 0 is the one before anything is known
	ReadAt       time.Time // when Prometheus was asked, on our clock; zero before the first answer
	Coordinators map[string]Sighting
}

// Sighting is what is known of one coordinator.
type Sighting struct {
	metrics.Observation
	AsOf   time.Time // of the oldest part of it, on our clock
	Pushed bool      // the coordinator said a part of it itself, later than it was scraped
}

// pushed is what a coordinator said of itself.
type pushed struct {
	event pressure.Event
	at    time.Time // when it came, on our clock
}

// NewSignals returns signals that are not there yet. A sample older than
// staleAfter is no longer answered with.
func NewSignals(reader Reader, interval, timeout, staleAfter time.Duration, log *slog.Logger) *Signals {
	return &Signals{
		reader: reader, interval: interval, timeout: timeout, staleAfter: staleAfter, log: log,
		series:  newSignalSeries(),
		wake:    make(chan struct{}, 1),
		pushed:  map[string]pushed{},
		current: &View{},
		changed: make(chan struct{}),
	}
}

const (
	// leastPause lies between two readings, however often Wake is called.
	leastPause = 200 * time.Millisecond

	// longestPause lies between two readings that fail, in intervals and before
	// the jitter of up to half of it.
	longestPause = 2
)

// Run reads until ctx ends, which is not an error. While readings fail it
// pauses longer and longer.
func (s *Signals) Run(ctx context.Context) error {
	failing := backoff.NewExponentialBackOff()
	failing.InitialInterval, failing.MaxInterval = s.interval, longestPause*s.interval
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
		// The interval is that from one reading's start to the next one's.
		begin := time.Now()
		ok := s.readOnce(ctx)
		pause := max(s.interval-time.Since(begin), min(s.interval, leastPause))
		if ok {
			failing.Reset()
		} else {
			pause = failing.NextBackOff()
		}
		timer.Reset(min(pause, leastPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		timer.Reset(pause - min(pause, leastPause))
	}
}

// Wake lets Run read before its interval is over.
func (s *Signals) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Push takes what a coordinator says of itself. It counts until Prometheus has
// a sample that is newer: for the whole coordinator where that is one process;
// where it is several the event is the word of one of them, so a worse level
// and a deeper queue count, a better one has to be scraped.
func (s *Signals) Push(e pressure.Event) {
	s.series.pushed.Inc()
	s.mu.Lock()
	s.pushed[e.CoordinatorID] = pushed{event: e, at: time.Now()}
	s.publish()
	s.mu.Unlock()
	s.Wake()
}

// View returns the newest view, and a channel that is closed when there is a
// newer one.
func (s *Signals) View() (*View, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.changed
}

// Ready reports whether there was ever a snapshot.
func (s *Signals) Ready() bool {
	view, _ := s.View()
	return !view.ReadAt.IsZero()
}

// readOnce asks the reader, and reports whether it answered.
func (s *Signals) readOnce(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	asked := time.Now()
	snapshot, err := s.reader.Read(asking)
	if ctx.Err() != nil {
		return false
	}
	s.series.observe(time.Since(asked), err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err != nil
	leftOut, tell := s.unread.Now(time.Now(), s.failing)
	if err != nil {
		if tell {
			s.log.Warn("signals cannot be read; the last ones are answered with until they are stale", "error", err, "left_out", leftOut)
		}
		return false
	}
	if tell || s.read.ReadAt.IsZero() {
		s.log.Info("signals are read", "coordinators", len(snapshot.Coordinators))
	}
	s.read = viewOf(snapshot, asked)
	s.publish()
	return true
}

// viewOf is a view of a snapshot that was asked for at a time, without a
// number.
func viewOf(snapshot metrics.Snapshot, asked time.Time) View {
	v := View{ReadAt: asked, Coordinators: make(map[string]Sighting, len(snapshot.Coordinators))}
	for id, o := range snapshot.Coordinators {
		v.Coordinators[id] = Sighting{Observation: o, AsOf: asked.Add(-snapshot.Age(o))}
	}
	return v
}

// publish makes a view of what was read and what was pushed since. s.mu is
// held.
func (s *Signals) publish() {
	now := time.Now()
	view := &View{Number: s.current.Number + 1, ReadAt: s.read.ReadAt, Coordinators: maps.Clone(s.read.Coordinators)}
	for id, p := range s.pushed {
		seen, scraped := view.Coordinators[id]
		if now.Sub(p.at) > s.staleAfter || scraped && !p.at.After(seen.AsOf) {
			delete(s.pushed, id)
			continue
		}
		if view.Coordinators == nil {
			view.Coordinators = map[string]Sighting{}
		}
		view.Coordinators[id] = p.over(seen, scraped)
	}
	s.current = view
	close(s.changed)
	s.changed = make(chan struct{})
}

// over lays an event over what was scraped of its coordinator.
func (p pushed) over(seen Sighting, scraped bool) Sighting {
	e := p.event
	seen.Pushed = true
	if scraped && len(seen.Replicas) > 1 {
		seen.Depth = max(seen.Depth, float64(e.QueueSize))
		if e.Level > seen.Level || !seen.HasLevel {
			seen.Level, seen.HasLevel = e.Level, true
		}
		return seen
	}
	if !scraped {
		seen.Observation = metrics.Observation{
			CoordinatorID: e.CoordinatorID,
			Labels:        map[string]string{metrics.LabelCoordinatorID: e.CoordinatorID},
		}
	}
	seen.Depth, seen.Capacity = float64(e.QueueSize), float64(e.Capacity)
	seen.Level, seen.HasLevel, seen.AsOf = e.Level, true, p.at
	return seen
}

// known is a rate, NaN while it is not known.
func known(r metrics.Rate) float64 {
	if !r.Known {
		return math.NaN()
	}
	return r.PerSecond
}
