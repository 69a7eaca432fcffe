package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/pipeline/transform"
	"github.com/headgate/headgate/writequeue"
)

// stage is a node as the one before it sees it. A source's goroutine carries
// its items through all stages up to the queue, so that whatever holds them up
// holds the source up, and nothing but the queue keeps items.
type stage interface {
	// put takes items and tells how many it accepted; these are always the
	// first ones. It waits for the others until ctx ends.
	put(ctx context.Context, items []writequeue.Item) (accepted int, err error)
}

// queueStage is where items leave their source's goroutine.
type queueStage struct{ queue queue }

func (s queueStage) put(ctx context.Context, items []writequeue.Item) (int, error) {
	return s.queue.Put(ctx, items...)
}

// teeStage gives every item to each of several stages. What one of them did not
// accept counts as not accepted, though others may have it: it is offered again
// under its key, or reported.
type teeStage []stage

func (s teeStage) put(ctx context.Context, items []writequeue.Item) (int, error) {
	least := len(items)
	var errs []error
	for _, next := range s {
		n, err := next.put(ctx, items)
		least = min(least, n)
		errs = append(errs, err)
	}
	return least, errors.Join(errs...)
}

// transformStage changes or removes items. One that is removed counts as
// accepted.
type transformStage struct {
	transform transform.Transform
	next      stage

	kept, removed prometheus.Counter
}

func (s *transformStage) put(ctx context.Context, items []writequeue.Item) (int, error) {
	kept, from := s.transform.Apply(items)
	accepted, err := 0, error(nil)
	if len(kept) > 0 {
		accepted, err = s.next.put(ctx, kept)
	}
	s.transform.Taken(kept[:accepted])
	reached := len(items)
	if accepted < len(kept) {
		reached = from[accepted] // the first that was not accepted
	}
	s.kept.Add(float64(accepted))
	s.removed.Add(float64(reached - accepted))
	return reached, err
}

// gateStage lets items through as its provider allows.
type gateStage struct {
	coordinator *coordinator.Coordinator
	provider    string
	batch       int // most tokens asked for at once
	next        stage
}

// busyError says that a gate did not open before the caller's time was over.
type busyError struct {
	after time.Duration
	cause error
}

func (e *busyError) Error() string { return e.cause.Error() }
func (e *busyError) Unwrap() error { return e.cause }

// RetryAfter is when the gate may let the rest through.
func (e *busyError) RetryAfter() time.Duration { return e.after }

// chunkTime is how long it takes at the present rate to bring in the tokens
// that are asked for at once. It is short, so that a rate that falls to a
// trickle still lets single items through, rather than many after a long time.
const chunkTime = 10 * time.Millisecond

func (s *gateStage) put(ctx context.Context, items []writequeue.Item) (accepted int, err error) {
	for accepted < len(items) {
		state, err := s.coordinator.State(s.provider)
		if err != nil {
			return accepted, err
		}
		rest := items[accepted:]
		n := int(math.Ceil(state.EffectivePerSecond * chunkTime.Seconds()))
		n = max(1, min(n, s.batch, state.Burst, len(rest)))
		if err := s.acquire(ctx, n); err != nil {
			if ctx.Err() != nil {
				err = &busyError{after: until(len(rest), state), cause: err}
			}
			return accepted, err
		}
		taken, err := s.next.put(ctx, rest[:n])
		accepted += taken
		if err != nil {
			return accepted, err
		}
	}
	return accepted, nil
}

// acquire waits for n tokens, also while the provider's breaker is open or it
// cools down.
func (s *gateStage) acquire(ctx context.Context, n int) error {
	for {
		err := s.coordinator.Acquire(ctx, s.provider, n)
		var unavailable *coordinator.UnavailableError
		if !errors.As(err, &unavailable) {
			return err
		}
		// Looked at again every second, for it may end before its time.
		timer := time.NewTimer(min(max(unavailable.RetryAfter, chunkTime), time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w, and the caller's time is over: %w", err, ctx.Err())
		}
	}
}

// until is when a provider in that state will have let n items through.
func until(n int, state coordinator.State) time.Duration {
	seconds := float64(n) / state.EffectivePerSecond
	for _, c := range state.CoolDowns {
		if c.Scope == coordinator.GlobalScope {
			seconds = max(seconds, c.RemainingSeconds)
		}
	}
	seconds = max(seconds, state.Breaker.RemainingSeconds)
	if !(seconds < time.Hour.Seconds()) {
		return time.Hour // parked, or nearly so
	}
	return time.Duration(seconds * float64(time.Second))
}

// sourceStage is what a source puts its items into. It counts them, and ends
// what waits within when the sources are told to stop.
type sourceStage struct {
	stopping context.Context // ends when the sources are to stop
	next     stage

	offered, accepted prometheus.Counter
}

func (s *sourceStage) put(ctx context.Context, items []writequeue.Item) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := context.AfterFunc(s.stopping, cancel)
	defer release()
	if s.stopping.Err() != nil {
		return 0, writequeue.ErrClosed
	}
	accepted, err := s.next.put(ctx, items)
	s.offered.Add(float64(len(items)))
	s.accepted.Add(float64(accepted))
	if err != nil && s.stopping.Err() != nil {
		err = fmt.Errorf("%w: %w", writequeue.ErrClosed, context.Cause(s.stopping))
	}
	return accepted, err
}

// directStage writes to a sink without a queue: the source waits for each
// write. What the sink does not take after some tries is dropped and counted.
type directStage struct {
	name string
	sink writequeue.Sink
	log  *slog.Logger

	writtenTotal, droppedTotal prometheus.Counter

	mu    sync.Mutex
	stats writequeue.Stats
}

// directAttempts is how often a batch is written to a sink without a queue.
const directAttempts = 5

func (s *directStage) put(ctx context.Context, items []writequeue.Item) (int, error) {
	n := uint64(len(items))
	s.count(func(c *writequeue.Stats) {
		c.Accepted += n
		c.Waiting += n
		c.MaxDepth = max(c.MaxDepth, c.Waiting)
	})
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, s.sink.Write(ctx, items)
	}, backoff.WithMaxTries(directAttempts))
	switch {
	case err == nil:
		s.count(func(c *writequeue.Stats) { c.Waiting -= n; c.Written += n })
		settled(ctx, len(items), writequeue.Written)
		s.writtenTotal.Add(float64(n))
	case ctx.Err() != nil:
		s.count(func(c *writequeue.Stats) { c.Waiting -= n; c.Accepted -= n; c.Refused += n })
		return 0, ctx.Err()
	default:
		s.log.Error("items are dropped, for the sink does not take them", "node", s.name, "items", n, "error", err)
		s.count(func(c *writequeue.Stats) { c.Waiting -= n; c.Dropped += n })
		settled(ctx, len(items), writequeue.Lost)
		s.droppedTotal.Add(float64(n))
	}
	return len(items), nil
}

// settled tells the receipt of a context, if it has one, of items that were
// accepted and settled at once.
func settled(ctx context.Context, n int, what writequeue.Outcome) {
	receipt := writequeue.ReceiptOf(ctx)
	receipt.Accepted(n)
	receipt.Settled(n, what)
}

func (s *directStage) count(change func(*writequeue.Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Stats is one consistent cut, as a queue gives it.
func (s *directStage) Stats() writequeue.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
