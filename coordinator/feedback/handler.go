package feedback

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/pressure"
)

// Policy turns an event into a scale. What lies outside of [0, 1] is clamped,
// and NaN counts as 0. It is never given an unknown level.
type Policy func(pressure.Event) float64

// Step is the policy of the original system: a scale for each level.
func Step(ok, soft, hard float64) Policy {
	return func(e pressure.Event) float64 {
		switch e.Level {
		case pressure.Hard:
			return hard
		case pressure.Soft:
			return soft
		}
		return ok
	}
}

// DefaultStep is Step with the original system's scales.
func DefaultStep() Policy { return Step(1, 0.5, 0) }

// Gate is what a handler throttles; *coordinator.Coordinator is one.
type Gate interface {
	Apply(provider string, r coordinator.ScaleRequest) (coordinator.State, error)
}

// Handler turns events into the fast loop's scale of some providers. Where
// several coordinators send events the lowest of their scales counts. Its
// Handle may be called by several goroutines at once.
type Handler struct {
	gate      Gate
	providers []string
	policy    Policy
	ttl       time.Duration

	mu    sync.Mutex
	heard map[string]word // by coordinator
}

// word is the last that a coordinator said.
type word struct {
	at    time.Time // on the sender's clock; zero where it gave none
	heard time.Time // on ours
	scale float64
	level pressure.Level
}

// mostCoordinators bounds what a handler remembers. Past it those who were not
// heard for longest are forgotten.
const mostCoordinators = 10_000

// NewHandler returns a handler that throttles those providers of the gate. An
// event's scale lasts for ttl without another event of the same coordinator,
// after which the provider goes to its fail mode; with 0 it lasts until the
// next event, which is right for events of the same process.
func NewHandler(gate Gate, policy Policy, ttl time.Duration, providers ...string) *Handler {
	return &Handler{gate: gate, providers: providers, policy: policy, ttl: ttl, heard: map[string]word{}}
}

// Handle is the handler as a Subscriber. It returns ErrOld for an event that
// is older than the newest one of its coordinator, which changes nothing;
// ErrUnknownLevel for one that was taken as OK; and else what the gate says.
func (h *Handler) Handle(e pressure.Event) error {
	var unknown error
	if !e.Level.Known() {
		unknown = ErrUnknownLevel
		e.Level = pressure.OK
	}
	scale := h.policy(e)
	if math.IsNaN(scale) {
		scale = 0
	}
	scale = min(1, max(0, scale))

	// Held until the gate has it, so that two events cannot overtake each other.
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, found := h.heard[e.CoordinatorID]; found && !e.Time.IsZero() && e.Time.Before(last.at) {
		return ErrOld
	}
	now := time.Now()
	h.remember(e.CoordinatorID, word{at: e.Time, heard: now, scale: scale, level: e.Level})
	request := coordinator.ScaleRequest{
		Owner: coordinator.OwnerFastLoop, Scale: 1, TTL: h.ttl,
		Reason: fmt.Sprintf("%s: %d of %d items at %s", e.Level, e.QueueSize, e.Capacity, e.CoordinatorID),
	}
	for _, w := range h.heard {
		request.Scale = min(request.Scale, w.scale)
		request.Level = max(request.Level, w.level)
	}
	errs := []error{unknown}
	for _, provider := range h.providers {
		_, err := h.gate.Apply(provider, request)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// remember keeps the newest word of a coordinator and forgets those whose time
// is over.
func (h *Handler) remember(id string, w word) {
	if last := h.heard[id]; w.at.IsZero() {
		w.at = last.at
	}
	h.heard[id] = w
	for other, old := range h.heard {
		if h.ttl > 0 && w.heard.Sub(old.heard) > h.ttl {
			delete(h.heard, other)
		}
	}
	for len(h.heard) > mostCoordinators {
		oldest := id
		for other, old := range h.heard {
			if old.heard.Before(h.heard[oldest].heard) {
				oldest = other
			}
		}
		delete(h.heard, oldest)
	}
}
