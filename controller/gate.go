package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
)

// Gate is a coordinator as the controller sees it; *client.Client is one. Its
// methods may be called by several goroutines at once, for different
// providers.
type Gate interface {
	// Apply puts a leased scale on a provider and returns the state read back.
	Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error)

	// State reads a provider's state.
	State(ctx context.Context, provider string) (coordinator.State, error)
}

// Restless is a Gate that has to be called at every tick, also where the lease in
// force says the same and lasts: one that has to look for new replicas.
type Restless interface{ Restless() }

// PartialError says that some replicas of a provider could not be told, or asked,
// and others could. The state that comes with it is that of the others.
type PartialError struct {
	Of     int     // replicas, with those that answered
	Failed []error // one of each that did not, by name
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d replicas: %v", len(e.Failed), e.Of, strings.ReplaceAll(errors.Join(e.Failed...).Error(), "\n", ", "))
}

// Unwrap returns one error of each replica that failed.
func (e *PartialError) Unwrap() []error { return e.Failed }

// errBusy says that no slot came free in time.
var errBusy = errors.New("too many coordinators do not answer")

// applyFault sorts an error of a gate.
func applyFault(err error) ApplyFault {
	var conflict *coordinator.ConflictError
	var answer *client.Error
	switch {
	case errors.Is(err, errBusy):
		return ApplyBusy
	case errors.Is(err, context.DeadlineExceeded):
		return ApplyTimeout
	case errors.Is(err, coordinator.ErrUnknownProvider):
		return ApplyUnknownProvider
	case errors.As(err, &conflict):
		return ApplyStaleSequence
	case errors.As(err, &answer) && answer.Status < 500:
		return ApplyRefused
	case errors.As(err, &answer):
		return ApplyServerError
	default:
		return ApplyUnreachable
	}
}
