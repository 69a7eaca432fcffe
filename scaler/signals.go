package scaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// Reader reads one snapshot of all coordinators; *metrics.Reader is one.
type Reader interface {
	Read(context.Context) (metrics.Snapshot, error)
}

// Signals holds the newest snapshot for everybody who asks, so that the number
// of queries does not depend on how many do. Run reads it, at each interval and
// whenever Wake or Push is called. All methods may be called by several
// goroutines at once.
type Signals struct {
	reader     Reader
	interval   time.Duration
	timeout    time.Duration // of one reading
	staleAfter time.Duration
	log        *slog.Logger

	wake chan struct{} // of size one

	mu       sync.Mutex
	snapshot metrics.Snapshot
	readAt   time.Time // on our clock; zero before the first snapshot
	failing  bool      // the last reading failed
	failures uint64
	learned  map[string]*capability
	pushed   map[string]pushed
	changed  chan struct{} // closed and replaced when there is something new
}

// pushed is what a coordinator said of itself since it was last scraped.
type pushed struct {
	event pressure.Event
	at    time.Time // on our clock
}

// NewSignals returns signals that are not there yet. A sample older than
// staleAfter is no longer answered with.
func NewSignals(reader Reader, interval, timeout, staleAfter time.Duration, log *slog.Logger) *Signals {
	return &Signals{
		reader: reader, interval: interval, timeout: timeout, staleAfter: staleAfter, log: log,
		wake:    make(chan struct{}, 1),
		learned: map[string]*capability{},
		pushed:  map[string]pushed{},
		changed: make(chan struct{}),
	}
}

// Run reads until ctx ends, which is not an error.
func (s *Signals) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		s.read(ctx)
		select {
		case <-ticker.C:
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// Wake lets Run read before its interval is over.
func (s *Signals) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Push takes what a coordinator says of itself. It counts beside the snapshot
// until the next one that is newer: a worse level and a deeper queue at once, a
// better one only when Prometheus has it too.
func (s *Signals) Push(e pressure.Event) {
	s.mu.Lock()
	s.pushed[e.CoordinatorID] = pushed{event: e, at: time.Now()}
	s.announce()
	s.mu.Unlock()
	s.Wake()
}

// announce tells those who wait for something new. s.mu is held.
func (s *Signals) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// next is closed when there is something new.
func (s *Signals) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Ready reports whether there was ever a snapshot.
func (s *Signals) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.readAt.IsZero()
}

func (s *Signals) read(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	snapshot, err := s.reader.Read(asking)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failures++
		if !s.failing {
			s.log.Warn("signals cannot be read; the last ones are answered with until they are stale", "error", err)
		}
		s.failing = true
		return
	}
	if s.failing || s.readAt.IsZero() {
		s.log.Info("signals are read", "coordinators", len(snapshot.Coordinators))
	}
	s.failing = false
	s.snapshot, s.readAt = snapshot, time.Now()
	s.learn()
	s.announce()
}

// learn lets each coordinator's capability see the snapshot, and forgets those
// that are gone.
func (s *Signals) learn() {
	for id, o := range s.snapshot.Coordinators {
		c := s.learned[id]
		if c == nil {
			c = newCapability()
			s.learned[id] = c
		}
		wasBound := c.bound
		c.observe(s.readAt, o.Depth, known(o.Drain), len(o.Replicas))
		if c.bound != wasBound {
			s.log.Info("store-bound guard", "coordinator_id", id, "store_bound", c.bound,
				"replicas", len(o.Replicas), "drain_per_second", known(o.Drain))
		}
	}
	for id, c := range s.learned {
		// A fleet that is at zero exports nothing, but is the same fleet later.
		if _, found := s.snapshot.Coordinators[id]; !found && s.readAt.Sub(c.at) > time.Hour {
			delete(s.learned, id)
		}
	}
	for id, p := range s.pushed {
		if o, found := s.snapshot.Coordinators[id]; !found || !p.at.After(s.sampled(o)) {
			delete(s.pushed, id)
		}
	}
}

// sampled is when the coordinator was last scraped, on our clock.
func (s *Signals) sampled(o metrics.Observation) time.Time {
	return s.readAt.Add(-s.snapshot.Age(o))
}

func known(r metrics.Rate) float64 {
	if !r.Known {
		return math.NaN()
	}
	return r.PerSecond
}

// Why a request cannot be answered.
var (
	errNeverRead = errors.New("no signals were read from Prometheus yet")
	errAbsent    = errors.New("no usable depth in Prometheus of a coordinator that is asked for")
	errStale     = errors.New("the newest sample is older than the stale limit")
)

// loads returns what the coordinators that a request asks for carry, each by
// itself, and the age of the oldest sample among them. One that is named and
// absent or stale makes the whole request unanswerable, for a part of a sum
// would be too small.
func (s *Signals) loads(r Request) (loads []load, age time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readAt.IsZero() {
		return nil, 0, errNeverRead
	}
	for _, id := range r.Coordinators {
		if _, found := s.snapshot.Coordinators[id]; !found && !isPattern(id) {
			return nil, 0, fmt.Errorf("%w: %q", errAbsent, id)
		}
	}
	since := time.Since(s.readAt)
	for id, o := range s.snapshot.Coordinators {
		if !r.matches(id) {
			continue
		}
		own := s.snapshot.Age(o) + since
		if own > s.staleAfter {
			return nil, own, fmt.Errorf("%w of %v: that of %q is %v old", errStale, s.staleAfter, id, own.Round(time.Millisecond))
		}
		age = max(age, own)
		loads = append(loads, s.load(id, o))
	}
	if len(loads) == 0 {
		return nil, 0, errAbsent
	}
	return loads, age, nil
}

// load is what one coordinator carries. s.mu is held.
func (s *Signals) load(id string, o metrics.Observation) load {
	l := load{
		depth: o.Depth, capacity: o.Capacity, level: o.Level,
		arrivals: known(o.Arrivals), drain: known(o.Drain),
		replicas: len(o.Replicas), perReplica: math.NaN(),
	}
	if c := s.learned[id]; c != nil {
		l.perReplica, l.storeBound = c.perReplica, c.bound
	}
	if p, found := s.pushed[id]; found && p.at.After(s.sampled(o)) {
		l.depth = max(l.depth, float64(p.event.QueueSize))
		l.level = max(l.level, p.event.Level)
	}
	return l
}

// together adds loads up to that of one queue.
func together(loads []load) load {
	sum := loads[0]
	for _, l := range loads[1:] {
		sum.depth += l.depth
		sum.capacity += l.capacity
		sum.level = max(sum.level, l.level)
		sum.arrivals += l.arrivals
		sum.drain += l.drain
		// The mean drain of one, by the number of those that have it.
		sum.perReplica = (sum.perReplica*float64(sum.replicas) + l.perReplica*float64(l.replicas)) /
			float64(max(1, sum.replicas+l.replicas))
		sum.replicas += l.replicas
		sum.storeBound = sum.storeBound || l.storeBound
	}
	return sum
}
