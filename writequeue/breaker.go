package writequeue

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// newBreaker returns the store's circuit breaker. Half open it lets one write
// through, and that one's outcome closes or opens it.
func (q *Queue) newBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(q.cfg.Breaker.Failures)).
		WithSuccessThreshold(1).
		WithDelay(q.cfg.Breaker.Timeout).
		OnStateChanged(q.breakerMoved).
		Build()
}

// breakerMoved wakes the workers that wait for the breaker.
func (q *Queue) breakerMoved(change circuitbreaker.StateChangedEvent) {
	if change.NewState == circuitbreaker.OpenState {
		q.mu.Lock()
		q.count.breakerOpened++
		q.mu.Unlock()
		q.log.Warn("breaker opened, the store is left alone", "for", q.cfg.Breaker.Timeout)
	}
	if change.NewState == circuitbreaker.ClosedState {
		q.log.Info("breaker closed, the store is written to again")
	}
	q.breakerMu.Lock()
	close(q.breakerChanged)
	q.breakerChanged = make(chan struct{})
	q.breakerMu.Unlock()
}

// permit waits until the breaker lets a write through, or ctx ends. Whoever
// has a permit must tell the breaker how the write ended.
func (q *Queue) permit(ctx context.Context) error {
	for {
		// Taken before the breaker is asked, so that no change is missed.
		q.breakerMu.Lock()
		changed := q.breakerChanged
		q.breakerMu.Unlock()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if q.breaker.TryAcquirePermit() {
			return nil
		}
		// Half open, somebody else tries the store, and the outcome is a change.
		var alarm <-chan time.Time
		if open := q.breaker.RemainingDelay(); open > 0 {
			timer := time.NewTimer(open)
			defer timer.Stop()
			alarm = timer.C
		}
		select {
		case <-changed:
		case <-alarm:
		case <-ctx.Done():
		}
	}
}
