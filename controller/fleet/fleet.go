package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/coordinator"
)

// Finder finds the replicas that there are.
type Finder interface {
	// Find returns the base address of each replica's coordinator.
	Find(context.Context) ([]string, error)
}

// Config says how the replicas of a provider are found and what they get.
type Config struct {
	Find    Finder
	Every   time.Duration // the least time from one look to the next; 0 is to look at every call
	Open    func(address string) (Replica, error)
	Sharing Sharing
}

// Fleet is the gate of providers that have several replicas. It starts nothing
// that goes on by itself: everything happens in its calls, those for one provider
// one at a time.
type Fleet struct {
	config Config
	log    *slog.Logger

	mu      sync.Mutex
	budgets map[string]*budget // by provider
}

// New returns the gate.
func New(config Config, log *slog.Logger) *Fleet {
	return &Fleet{config: config, log: log, budgets: map[string]*budget{}}
}

// of is the budget of a provider, for this call alone until it is let go.
func (f *Fleet) of(provider string) (b *budget, letGo func()) {
	f.mu.Lock()
	b = f.budgets[provider]
	if b == nil {
		b = newBudget(f.config, f.log)
		f.budgets[provider] = b
	}
	f.mu.Unlock()
	b.mu.Lock()
	return b, b.mu.Unlock
}

// Restless implements controller.Restless: replicas come and go, and what each has
// of the budget moves, whatever the scale.
func (f *Fleet) Restless() {}

// Apply gives every replica the scale and its share under the lease, and returns
// the state of all that answered together.
//
// The error is a *coordinator.ConflictError where another holder has the lease of
// any replica, which then ends the call, and a *controller.PartialError where
// some could not be told.
func (f *Fleet) Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	b, letGo := f.of(provider)
	defer letGo()
	return b.apply(ctx, provider, lease)
}

// State reads the state of all replicas together. The error is as of Apply.
func (f *Fleet) State(ctx context.Context, provider string) (coordinator.State, error) {
	b, letGo := f.of(provider)
	defer letGo()
	return b.read(ctx, provider)
}

// Override puts an operator's scale on every replica, also on those that are
// found while it lasts. The error is a *controller.PartialError where some could
// not be told; those are told once they answer again.
func (f *Fleet) Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error) {
	b, letGo := f.of(provider)
	defer letGo()
	return b.overrideAll(ctx, provider, &override{scale, who, reason, time.Now().Add(ttl), map[string]bool{}})
}

// ClearOverride ends an operator's override on every replica. The error is as of
// Override.
func (f *Fleet) ClearOverride(ctx context.Context, provider, who, reason string) (coordinator.State, error) {
	b, letGo := f.of(provider)
	defer letGo()
	return b.clear(ctx, provider, who, reason)
}
