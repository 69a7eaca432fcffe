package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// Errors on which a caller decides.
var (
	ErrUnknownProvider = errors.New("unknown provider")
	ErrAboveBurst      = errors.New("more tokens than the burst")
	ErrNoTokens        = errors.New("not enough tokens now") // of TryAcquire
	ErrBreakerOpen     = errors.New("breaker is open")
	ErrCoolingDown     = errors.New("provider is cooling down")
	ErrClosed          = errors.New("coordinator is closed")
)

// aboveBurstError wraps ErrAboveBurst and an *invalid.Value, which is made only
// for who wants to see it.
type aboveBurstError struct {
	provider string
	n, burst int
}

func (e *aboveBurstError) Error() string { return fmt.Sprintf("%v: %v", ErrAboveBurst, e.value()) }

// Unwrap returns both.
func (e *aboveBurstError) Unwrap() []error { return []error{ErrAboveBurst, e.value()} }

func (e *aboveBurstError) value() *invalid.Value {
	return invalid.New("tokens", e.n, fmt.Sprintf("at most the burst of %s, which is %d", e.provider, e.burst))
}

// UnavailableError says that a provider lets nobody through for a while. It
// wraps ErrBreakerOpen or ErrCoolingDown.
type UnavailableError struct {
	Provider   string
	Why        error
	RetryAfter time.Duration
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("acquire of %s: %v for another %v", e.Provider, e.Why, e.RetryAfter.Round(time.Millisecond))
}

// Unwrap returns why.
func (e *UnavailableError) Unwrap() error { return e.Why }

// ConflictError says that a lease is in force which the request may not
// replace: another holder's, or a newer one of the same holder.
type ConflictError struct {
	Holder    string        // of the lease in force
	Sequence  uint64        // the newest one of that holder
	ExpiresIn time.Duration // until the lease runs out
	Stale     bool          // the holder asked itself, with a sequence that is not newer
}

func (e *ConflictError) Error() string {
	if e.Stale {
		return fmt.Sprintf("sequence is not newer than %d, the last one of %q", e.Sequence, e.Holder)
	}
	return fmt.Sprintf("%q holds the lease for another %v", e.Holder, e.ExpiresIn.Round(time.Millisecond))
}

// Refusal says why a call for tokens got none. It is one of a closed set.
type Refusal string

const (
	RefusedBurst     Refusal = "above_burst"
	RefusedBreaker   Refusal = "breaker_open"
	RefusedCoolDown  Refusal = "cooling_down"
	RefusedCancelled Refusal = "cancelled" // the caller gave up waiting
	RefusedClosed    Refusal = "closed"
)

// Refusals lists the set.
func Refusals() []Refusal {
	return []Refusal{RefusedBurst, RefusedBreaker, RefusedCoolDown, RefusedCancelled, RefusedClosed}
}

func refusal(err error) Refusal {
	if _, above := err.(*aboveBurstError); above {
		return RefusedBurst // spared making the error's parts
	}
	switch {
	case errors.Is(err, ErrBreakerOpen):
		return RefusedBreaker
	case errors.Is(err, ErrCoolingDown):
		return RefusedCoolDown
	case errors.Is(err, ErrClosed):
		return RefusedClosed
	}
	return RefusedCancelled
}
