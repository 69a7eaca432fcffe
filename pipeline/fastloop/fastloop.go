// Package fastloop lets the laws of the controller throttle a provider by the
// queues of its own process, many times a second and without a scrape between
// them.
package fastloop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
)

// Queue is what a loop looks at; *writequeue.Queue is one.
type Queue interface {
	Stats() writequeue.Stats
}

// Gate is what a loop turns; *coordinator.Coordinator is one.
type Gate interface {
	State(provider string) (coordinator.State, error)
	Apply(provider string, r coordinator.ScaleRequest) (coordinator.State, error)
}

// Source is one queue with the law that decides for it. Each has a law of its
// own, for laws remember.
type Source struct {
	Queue Queue
	Marks writequeue.Marks // at which its level changes
	Law   policy.Law
}

// Config says how a loop runs.
type Config struct {
	Provider string        // that is throttled
	Every    time.Duration // from one decision to the next, > 0

	// Window is over how long arrivals and drain are measured; at least Every. A
	// store takes batches, so that a short one sees none or many.
	Window time.Duration
}

// Loop is the fast loop at work. Run runs it once.
type Loop struct {
	gate    Gate
	config  Config
	sources []*source

	last    coordinator.ScaleRequest // that was applied
	applied bool
}

// source is a Source and what was seen of it.
type source struct {
	Source
	samples []sample // of the last window, a ring
	next    int
	decided bool
}

type sample struct {
	at                time.Time
	accepted, written uint64
}

// New returns a loop in which the lowest of the sources' scales counts. The
// error joins an *invalid.Value for each wrong field.
func New(gate Gate, config Config, sources ...Source) (*Loop, error) {
	var errs []error
	if config.Every <= 0 {
		errs = append(errs, invalid.New("every", config.Every, "a duration > 0"))
	}
	if config.Window < config.Every {
		errs = append(errs, invalid.New("window", config.Window, fmt.Sprintf("a duration of at least every, which is %v", config.Every)))
	}
	if len(sources) == 0 {
		errs = append(errs, invalid.Missing("sources", "at least one queue"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l := &Loop{gate: gate, config: config}
	for _, s := range sources {
		l.sources = append(l.sources, &source{Source: s, samples: make([]sample, 0, int(config.Window/config.Every)+1)})
	}
	return l, nil
}

// Run decides until ctx ends, and returns nil then. The error is that of the
// gate.
func (l *Loop) Run(ctx context.Context) error {
	ticker := time.NewTicker(l.config.Every)
	defer ticker.Stop()
	for {
		if err := l.turn(time.Now()); err != nil {
			return fmt.Errorf("throttle provider %q: %w", l.config.Provider, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// turn makes one decision of all sources.
func (l *Loop) turn(now time.Time) error {
	state, err := l.gate.State(l.config.Provider)
	if err != nil {
		return err
	}
	request := coordinator.ScaleRequest{Owner: coordinator.OwnerFastLoop, Scale: 1}
	for i, s := range l.sources {
		scale, level, reason := s.decide(now, state, l.config)
		if i == 0 || scale < request.Scale {
			request.Scale, request.Reason = scale, reason
		}
		request.Level = max(request.Level, level)
	}
	if l.applied && !worthApplying(l.last, request) {
		return nil
	}
	l.last, l.applied = request, true
	_, err = l.gate.Apply(l.config.Provider, request)
	return err
}

// smallestChange is the least change of a scale, as a share of it, that is worth
// waking those who wait.
const smallestChange = 0.01

func worthApplying(last, next coordinator.ScaleRequest) bool {
	return last.Level != next.Level || (last.Scale == 0) != (next.Scale == 0) || (last.Scale == 1) != (next.Scale == 1) ||
		math.Abs(next.Scale-last.Scale) > smallestChange*last.Scale
}

// decide asks the law what the queue as it is now is worth.
func (s *source) decide(now time.Time, state coordinator.State, config Config) (float64, pressure.Level, string) {
	q := s.Queue.Stats()
	here := sample{now, q.Accepted, q.Written}
	basePerSecond := state.BasePerSecond * state.Share
	if d := q.Durable; d != nil {
		// Its depth is that of the whole queue. So are its arrivals and its drain,
		// and the budget that they are held against is that of all replicas.
		here.accepted, here.written = d.Stored, d.Stored-min(q.Waiting, d.Stored)
		basePerSecond = state.BasePerSecond
	}
	in := policy.Input{
		Level: q.Level, Depth: float64(q.Waiting), Capacity: float64(q.Capacity), Thresholds: s.Marks.Thresholds(int(q.Capacity)),
		ArrivalsPerSecond: math.NaN(), DrainPerSecond: math.NaN(),
		BasePerSecond: basePerSecond, FloorPerSecond: state.FloorPerSecond, InForce: state.Scale,
		Fresh: true, DeadTime: config.Every,
	}
	if first, ok := s.oldest(); ok {
		if span := now.Sub(first.at).Seconds(); span > 0 {
			in.ArrivalsPerSecond = (float64(here.accepted) - float64(first.accepted)) / span
			in.DrainPerSecond = (float64(here.written) - float64(first.written)) / span
		}
	}
	if policy.Needs(s.Law).Has(policy.SignalDrain) {
		in.DeadTime += config.Window / 2 // as old as the mean of what was measured
	}
	if s.decided {
		in.Elapsed = config.Every
	}
	s.decided = true
	s.add(here)
	out := s.Law.Decide(in)
	return out.Scale, q.Level, fmt.Sprintf("%s: %d of %d items at %s", q.Level, q.Waiting, q.Capacity, q.CoordinatorID)
}

// oldest is the oldest sample of the window.
func (s *source) oldest() (sample, bool) {
	if len(s.samples) == 0 {
		return sample{}, false
	}
	if len(s.samples) < cap(s.samples) {
		return s.samples[0], true
	}
	return s.samples[s.next], true
}

func (s *source) add(n sample) {
	if len(s.samples) < cap(s.samples) {
		s.samples = append(s.samples, n)
		return
	}
	s.samples[s.next] = n
	s.next = (s.next + 1) % len(s.samples)
}
