package writequeue

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// newBreaker returns the store's circuit breaker. Half open it lets one write
// through, and that one's outcome closes or opens it.
func (w *Writer) newBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(w.cfg.Breaker.Failures)).
		WithSuccessThreshold(1).
		WithDelay(w.cfg.Breaker.Timeout).
		OnStateChanged(w.breakerMoved).
		Build()
}

// breakerMoved wakes the workers that wait for the breaker.
func (w *Writer) breakerMoved(change circuitbreaker.StateChangedEvent) {
	if change.NewState == circuitbreaker.OpenState {
		w.breakerOpened.Add(1)
		w.log.Warn("breaker opened, the store is left alone", "for", w.cfg.Breaker.Timeout)
	}
	if change.NewState == circuitbreaker.ClosedState {
		w.log.Info("breaker closed, the store is written to again")
	}
	w.breakerMu.Lock()
	close(w.breakerChanged)
	w.breakerChanged = make(chan struct{})
	w.breakerMu.Unlock()
}

// permit waits until the breaker lets a write through, or ctx ends. Whoever
// has a permit must tell the breaker how the write ended.
func (w *Writer) permit(ctx context.Context) error {
	return w.awaitBreaker(ctx, w.breaker.TryAcquirePermit)
}

// Await waits while the breaker would let no write through, or until ctx ends,
// whose cause it returns then. So nobody takes items that it cannot write.
func (w *Writer) Await(ctx context.Context) error {
	return w.awaitBreaker(ctx, func() bool {
		return w.breaker.IsClosed() || w.breaker.IsOpen() && w.breaker.RemainingDelay() <= 0
	})
}

// awaitBreaker waits until the breaker passes a test, or ctx ends.
func (w *Writer) awaitBreaker(ctx context.Context, passes func() bool) error {
	for {
		// Taken before the breaker is asked, so that no change is missed.
		w.breakerMu.Lock()
		changed := w.breakerChanged
		w.breakerMu.Unlock()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if passes() {
			return nil
		}
		// Half open, somebody else tries the store, and the outcome is a change.
		var alarm <-chan time.Time
		if open := w.breaker.RemainingDelay(); open > 0 {
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
