package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/pressure"
)

// Gate is a coordinator as the controller sees it. Its methods may be called
// by several goroutines at once, for different providers.
type Gate interface {
	// Apply puts a leased scale on a provider and returns the state read back.
	// The errors that the controller decides on are ErrUnknownProvider,
	// ErrRefused and *ConflictError; any other says that the coordinator could
	// not be reached.
	Apply(ctx context.Context, provider string, lease Lease) (State, error)

	// State reads a provider's state. Its errors are those of Apply.
	State(ctx context.Context, provider string) (State, error)
}

// Lease is a scale with a limited life. Without renewal the coordinator puts
// the provider into its own fail mode.
type Lease struct {
	Holder   string // who holds it, the same for the life of a controller
	Sequence uint64 // rises with every lease of a holder, across its restarts
	Scale    float64
	Level    pressure.Level
	Reason   string // for people who look at the coordinator
	TTL      time.Duration
}

// State is what a coordinator says of a provider. Rates are in tokens per
// second.
type State struct {
	Scale              float64 // the lowest of all scales in force, in [0, 1]
	BasePerSecond      float64 // at scale 1
	FloorPerSecond     float64 // the rate is never below it
	EffectivePerSecond float64 // what Scale makes of the base
}

// ErrUnknownProvider says that the coordinator has no such provider.
var ErrUnknownProvider = errors.New("unknown provider")

// ErrRefused says that the coordinator understood the request and would not
// do it, as when the caller has no right to.
var ErrRefused = errors.New("refused")

// ConflictError says that a lease is in force that the request may not replace.
type ConflictError struct {
	Holder    string        // of the lease in force; the caller itself where its sequence was too old
	Sequence  uint64        // of that lease
	ExpiresIn time.Duration // until it ends
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%q holds the lease for another %s", e.Holder, e.ExpiresIn.Round(time.Millisecond))
}
