// Package coordinator is the gate at the head of a pipeline: it holds the
// providers with their rate budgets, lets items through as fast as each budget
// allows, and closes or opens the gate by the scales that others put on it.
//
// A provider runs at max(floor, base*share*scale) tokens per second. The share
// is 1 unless several replicas share the provider's budget. The scale is the
// lowest of those in force: the fast loop's, the controller's and an operator's.
// Each has an owner, a reason and, but for the fast loop's, an
// expiry. The controller's is a lease: while it lasts nobody else may set one,
// and when it runs out the provider falls to its fail mode.
package coordinator

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
)

// Coordinator holds the gates of all providers. Its methods may be called by
// several goroutines at once. It is a prometheus.Collector of its own series.
type Coordinator struct {
	log     *slog.Logger
	observe func(Grant)
	onRate  func(Rate)
	started time.Time // what now counts from
	wait    *prometheus.HistogramVec
	ignored ignored

	gates atomic.Pointer[gates] // replaced under mu, read without it

	mu       sync.RWMutex
	closed   bool
	watchers map[*watcher]struct{}
}

// gates are the gates of all providers. They are not changed, for whoever
// acquires looks one up without a lock.
type gates struct {
	byName map[string]*gate
	first  *gate // of those by name, spared the look-up: most coordinators have one
}

// with returns the gates and one more.
func (g *gates) with(one *gate) *gates {
	more := &gates{byName: maps.Clone(g.byName), first: g.first}
	more.byName[one.Name] = one
	if more.first == nil {
		more.first = one
	}
	return more
}

// Grant is one call that got its tokens.
type Grant struct {
	At            time.Time
	Provider      string
	N             int           // tokens
	Waited        time.Duration // in line
	RatePerSecond float64       // in force at that time
	Burst         int
}

// Rate is a provider's effective rate from a time on.
type Rate struct {
	At        time.Time
	Provider  string
	PerSecond float64
	Burst     int
}

// Option changes how a coordinator is made.
type Option func(*Coordinator)

// WithLogger lets the coordinator log; without it nothing is logged.
func WithLogger(log *slog.Logger) Option { return func(c *Coordinator) { c.log = log } }

// WithGrantObserver lets observe see every grant of a provider, in order. It
// is called with the provider locked: it must be quick and must not call the
// coordinator.
func WithGrantObserver(observe func(Grant)) Option {
	return func(c *Coordinator) { c.observe = observe }
}

// WithRateObserver lets observe see every effective rate of a provider, the
// first one when it is registered, in order with its grants. It is called as a
// grant observer is.
func WithRateObserver(observe func(Rate)) Option {
	return func(c *Coordinator) { c.onRate = observe }
}

// New returns a coordinator without providers. Close ends it.
func New(options ...Option) *Coordinator {
	c := &Coordinator{
		log:      slog.New(slog.DiscardHandler),
		started:  time.Now(),
		wait:     metrics.NewHistogram(metrics.AcquireWait),
		watchers: map[*watcher]struct{}{},
	}
	c.gates.Store(&gates{byName: map[string]*gate{}})
	for _, option := range options {
		option(c)
	}
	return c
}

// now is the coordinator's own clock, on which leases are durations. It is
// monotonic.
func (c *Coordinator) now() time.Duration { return time.Since(c.started) }

// Register adds a provider. The error joins an *invalid.Value for each wrong
// field; a name that is registered already is one.
func (c *Coordinator) Register(p Provider) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("register provider: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	all := c.gates.Load()
	if _, found := all.byName[p.Name]; found {
		return fmt.Errorf("register provider: %w", invalid.New("provider", p.Name, "a name that is not registered yet"))
	}
	c.gates.Store(all.with(newGate(c, p.withDefaults())))
	return nil
}

// find returns a provider's gate, or nil.
func (g *gates) find(provider string) *gate {
	if g.first != nil && g.first.Name == provider {
		return g.first
	}
	return g.byName[provider]
}

// gate returns a provider's gate.
func (c *Coordinator) gate(provider string) (*gate, error) {
	if g := c.gates.Load().find(provider); g != nil {
		return g, nil
	}
	return nil, errUnknown(provider)
}

func errUnknown(provider string) error {
	return fmt.Errorf("%w: %w", ErrUnknownProvider,
		invalid.New("provider", provider, "one that is registered"))
}

// all returns the gates by name.
func (c *Coordinator) all() []*gate {
	return slices.SortedFunc(maps.Values(c.gates.Load().byName), func(a, b *gate) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// RecordSuccess tells a provider's breaker that a call to it went well. An
// unknown provider is ignored with a warning.
func (c *Coordinator) RecordSuccess(provider string) { c.record(provider, true) }

// RecordFailure tells a provider's breaker that a call to it failed. As many
// failures in a row as the provider's setting says open it. An unknown provider
// is ignored with a warning.
func (c *Coordinator) RecordFailure(provider string) { c.record(provider, false) }

func (c *Coordinator) record(provider string, success bool) {
	g, err := c.gate(provider)
	if err != nil {
		c.warn(&c.ignored.outcome, "outcome for an unknown provider is ignored", "provider", provider)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breakerOpen() // half-opens it where its time is over
	before := g.breaker.State()
	if success {
		g.breaker.RecordSuccess()
	} else {
		g.breaker.RecordFailure()
	}
	after := g.breaker.State()
	if after == before {
		return
	}
	if g.breaker.IsOpen() {
		g.counts.breakerOpened++
		if leftOut, tell := g.news.broken.Now(time.Now(), true); tell {
			c.log.Warn("breaker opened", "provider", provider, "for", g.BreakerTimeout, "left_out", leftOut)
		}
		g.bar(c.now())
	} else if g.breaker.IsClosed() {
		if _, tell := g.news.broken.Now(time.Now(), false); tell {
			c.log.Info("breaker closed", "provider", provider)
		}
	}
	g.version++
	c.tell(provider)
}

// CoolDown starts a cool-down of one of a provider's scopes, or begins it anew;
// d 0 stands for the provider's own duration. While GlobalScope cools down
// nobody gets tokens; other scopes are told in the state and are for the caller
// to heed. An unknown provider is ignored with a warning.
func (c *Coordinator) CoolDown(provider, scope string, d time.Duration) {
	g, err := c.gate(provider)
	if err != nil {
		c.warn(&c.ignored.coolDown, "cool-down of an unknown provider is ignored", "provider", provider)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if d <= 0 {
		d = g.Provider.CoolDown
	}
	now := c.now()
	for other, until := range g.coolDowns {
		if until <= now {
			delete(g.coolDowns, other)
		}
	}
	leftOut, tell := 0, true
	if _, lasts := g.coolDowns[scope]; lasts {
		leftOut, tell = g.news.coolDowns.Tell(time.Now())
	}
	g.coolDowns[scope] = now + d
	if tell {
		c.log.Warn("cool-down", "provider", provider, "scope", scope, "for", d, "left_out", leftOut)
	}
	g.bar(now)
	g.version++
	c.tell(provider)
}

// Close refuses everybody who waits and all that comes after, ends the watchers,
// and leaves the shared budgets. It may be called more than once.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.closed = true
	for w := range c.watchers {
		w.end()
	}
	clear(c.watchers)
	c.mu.Unlock()
	for _, g := range c.all() {
		g.close()
	}
	for _, g := range c.all() {
		if g.drawer != nil {
			g.drawer.stop()
		}
	}
}
