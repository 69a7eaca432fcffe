package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollEvery is how often Poll looks.
const pollEvery = 100 * time.Millisecond

// Poll asks again and again until there is no error, or a final one, or ctx has
// ended; then the error tells what was still wrong. It is for what cannot be
// watched.
func Poll(ctx context.Context, condition func(context.Context) error) error {
	ticks := time.NewTicker(pollEvery)
	defer ticks.Stop()
	var last error
	for {
		err := condition(ctx)
		var final finalError
		if err == nil || errors.As(err, &final) {
			return err
		}
		// What is only broken off tells less than the time before.
		if ctx.Err() != nil && last != nil {
			err = last
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain (%w): %w", context.Cause(ctx), err)
		case <-ticks.C:
		}
	}
}

// Pause waits and reports whether ctx is still there.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final makes an error that Poll does not wait out.
func Final(err error) error { return finalError{err} }
