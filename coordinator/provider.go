package coordinator

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/invalid"
)

// FailMode is the scale that a provider falls to when a lease runs out.
type FailMode string

const (
	FailHold   FailMode = "hold"   // the last scale
	FailOpen   FailMode = "open"   // 1
	FailSafe   FailMode = "safe"   // the provider's SafeScale
	FailClosed FailMode = "closed" // 0
)

// Provider describes a source of items and its rate budget. A zero field stands
// for the default that is named beside it, if any.
type Provider struct {
	Name string // never empty, at most 256 bytes

	BasePerSecond  float64 // tokens per second at scale 1; > 0
	Burst          int     // tokens that may pass at once after a pause; >= 1; the scale never changes it
	FloorPerSecond float64 // tokens per second that pass at any scale; 0 parks the provider at scale 0

	// InitialShare is the part of the base rate that is this replica's until a
	// controller gives it another, where several replicas share the budget; in
	// (0, 1], default 1.
	InitialShare float64

	// Shared is where the tokens come from beside, where several replicas share the
	// budget exactly: what the base and the scale allow here, and no more than is
	// drawn there. InitialShare and the controller's share then only count while it
	// cannot be reached. Nil for a budget of this replica's own.
	Shared SharedBudget

	// ResumeJitter is how long the bucket rests at most before it fills again
	// when the provider was parked: each time a part of it, drawn evenly, so that
	// providers which were parked together do not return together. 0 is no rest.
	ResumeJitter time.Duration

	CoolDown        time.Duration // how long a cool-down lasts where nothing else is said; default 600 s
	BreakerFailures int           // failures in a row that open the breaker; default 5
	BreakerTimeout  time.Duration // how long it stays open; default 60 s

	FailMode  FailMode // default safe
	SafeScale float64  // the scale of FailSafe, in [0, 1]

	// StartInFailMode lets the provider come up at its fail mode (hold counts
	// as safe, for there is nothing to hold) until the first decision or event.
	StartInFailMode bool
}

// Defaults of a Provider.
const (
	DefaultCoolDown        = 600 * time.Second
	DefaultBreakerFailures = 5
	DefaultBreakerTimeout  = 60 * time.Second
	DefaultFloorPerSecond  = 1.0 // what settings give; HARD then still lets one token a second through
	DefaultSafeScale       = 0.5 // likewise
)

// GlobalScope is the scope of a cool-down that stops the whole provider.
const GlobalScope = "global"

const (
	longestName   = 256
	wantName      = "a name of 1 to 256 bytes"
	wantFailMode  = "hold, open, safe or closed"
	mostPerSecond = 1e12
)

func (p Provider) withDefaults() Provider {
	if p.InitialShare == 0 {
		p.InitialShare = 1
	}
	if p.CoolDown == 0 {
		p.CoolDown = DefaultCoolDown
	}
	if p.BreakerFailures == 0 {
		p.BreakerFailures = DefaultBreakerFailures
	}
	if p.BreakerTimeout == 0 {
		p.BreakerTimeout = DefaultBreakerTimeout
	}
	if p.FailMode == "" {
		p.FailMode = FailSafe
	}
	return p
}

// Validate reports every field that is out of its range, joined.
func (p Provider) Validate() error {
	var errs []error
	refuse := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, invalid.New(field, got, want))
		}
	}
	refuse(p.Name == "" || len(p.Name) > longestName, "provider", p.Name, wantName)
	refuse(!(p.BasePerSecond > 0 && p.BasePerSecond <= mostPerSecond), "base_per_second", p.BasePerSecond, "a number in (0, 1e12]")
	refuse(p.Burst < 1, "burst", p.Burst, "a whole number >= 1")
	refuse(!(p.FloorPerSecond >= 0 && p.FloorPerSecond <= p.BasePerSecond), "floor_per_second", p.FloorPerSecond,
		fmt.Sprintf("a number from 0 to base_per_second, which is %v", p.BasePerSecond))
	refuse(!(p.InitialShare >= 0 && p.InitialShare <= 1), "initial_share", p.InitialShare, wantShare)
	refuse(p.ResumeJitter < 0, "resume_jitter", p.ResumeJitter, "a duration >= 0")
	refuse(p.CoolDown < 0, "cool_down", p.CoolDown, "a duration >= 0")
	refuse(p.BreakerFailures < 0, "breaker_failures", p.BreakerFailures, "a whole number >= 1")
	refuse(p.BreakerTimeout < 0, "breaker_timeout", p.BreakerTimeout, "a duration > 0")
	switch p.FailMode {
	case FailHold, FailOpen, FailSafe, FailClosed, "":
	default:
		refuse(true, "fail_mode", string(p.FailMode), wantFailMode)
	}
	refuse(!(p.SafeScale >= 0 && p.SafeScale <= 1), "safe_scale", p.SafeScale, wantScale)
	return errors.Join(errs...)
}

// failScale is the scale of the fail mode, where last is the one before.
func (p Provider) failScale(last float64) float64 {
	switch p.FailMode {
	case FailHold:
		return last
	case FailOpen:
		return 1
	case FailClosed:
		return 0
	}
	return p.SafeScale
}

// gate is a provider at work: its bucket, the scales in force, its breaker and
// its cool-downs. One mutex guards all of them, so that whoever holds it sees one
// state. Grants of an open bucket alone go past it; the bucket is shut while
// anything else than its tokens decides, see openIfMay.
type gate struct {
	Provider
	c       *Coordinator
	breaker circuitbreaker.CircuitBreaker[any]
	wait    prometheus.Observer // of the calls that had to wait
	waiters sync.Pool           // of *waiter that nobody uses

	bucket bucket
	drawer *drawer // nil for a budget of this replica's own; set once

	mu        sync.Mutex
	share     float64 // of the base rate, in (0, 1]; outlives the lease that set it
	scales    map[Owner]entry
	coolDowns map[string]time.Duration // by scope: until when, on the coordinator's clock
	newest    []ScaleRequest           // of each controller that held the lease, also after that; the newest at the end
	timer     *time.Timer              // fires when the bucket or a lease has something to do
	closed    bool
	version   uint64 // rises with every change that Watch tells of
	counts    counts
	news      news
}

// counts only rise.
type counts struct {
	grantedCalls, grantedTokens uint64 // under the lock
	waited                      uint64
	refused                     map[Refusal]uint64
	leaseExpiries               uint64
	conflicts                   uint64
	breakerOpened               uint64
}

func newGate(c *Coordinator, p Provider) *gate {
	g := &gate{
		Provider: p, c: c, share: p.InitialShare,
		scales: map[Owner]entry{}, coolDowns: map[string]time.Duration{},
	}
	g.counts.refused = map[Refusal]uint64{}
	// Half open, the first outcome closes or opens it.
	g.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(p.BreakerFailures)).
		WithSuccessThreshold(1).
		WithDelay(p.BreakerTimeout).
		Build()
	now := c.now()
	if p.Shared != nil {
		g.drawer = newDrawer(g, p.Shared, now)
	}
	if p.StartInFailMode {
		g.scales[ownerStartUp] = entry{
			scale: p.failScale(p.SafeScale), reason: reasonStartUp, since: now,
		}
	}
	g.news.told(g.scale(), g.share, g.level())
	g.bucket.start(g.rate(), p.Burst, now)
	g.observeRate(now)
	g.wait = c.wait.WithLabelValues(p.Name)
	g.waiters.New = func() any { return &waiter{result: make(chan error, 1)} }
	g.timer = time.AfterFunc(time.Hour, g.wake)
	g.timer.Stop()
	g.settle(now)
	if g.drawer != nil {
		g.drawer.start()
	}
	return g
}

// rate is what the share and the scales make of the base rate. While tokens are
// drawn from a shared budget it is the share that is drawn.
func (g *gate) rate() float64 {
	switch rate := g.BasePerSecond * g.scale(); g.sharing() {
	case SharedConnected:
		return max(g.FloorPerSecond, rate)
	case SharedLost:
		return 0
	default:
		return max(g.FloorPerSecond, rate*g.share)
	}
}

// sharing is how the provider stands to the budget that it shares, empty where it
// has one of its own.
func (g *gate) sharing() SharedState {
	if g.drawer == nil {
		return ""
	}
	return g.drawer.state
}

// capacity is the most tokens that the bucket holds. Of a burst that is shared it
// is a part, while this replica uses its own share of the budget, but never less
// than somebody waits for.
func (g *gate) capacity() int {
	if g.sharing() != SharedOwnShare {
		return g.Burst
	}
	most := max(1, int(float64(g.Burst)*g.share))
	for w := g.bucket.line.head; w != nil; w = w.behind {
		most = max(most, w.n)
	}
	return most
}

// fit makes the bucket hold what it is to hold now.
func (g *gate) fit(now time.Duration) {
	if g.drawer == nil {
		return
	}
	if most := min(g.capacity(), mostBurst); most != g.bucket.burst {
		g.bucket.setBurst(most, now)
	}
}

// breakerOpen reports whether the breaker holds calls off. One that has been
// open for its time is half open.
func (g *gate) breakerOpen() bool {
	if !g.breaker.IsOpen() {
		return false
	}
	if g.breaker.RemainingDelay() > 0 {
		return true
	}
	g.breaker.HalfOpen()
	return false
}

// observeRate tells the observer the rate from now on.
func (g *gate) observeRate(now time.Duration) {
	if g.c.onRate != nil {
		g.c.onRate(Rate{At: g.c.started.Add(now), Provider: g.Name, PerSecond: g.bucket.rate, Burst: g.Burst})
	}
}

// arm sets the timer to the next time at which the bucket or a lease has
// something to do.
func (g *gate) arm(now time.Duration) {
	at, some := g.bucket.next()
	if g.drawer != nil {
		at, some = g.drawer.next(now, at, some)
		g.drawer.ring()
	}
	for _, e := range g.scales {
		if e.expires > 0 && (!some || e.expires < at) {
			at, some = e.expires, true
		}
	}
	if some && !g.closed {
		g.timer.Reset(max(0, at-now))
	} else {
		g.timer.Stop()
	}
}

// wake does what the timer was set for.
func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := g.c.now()
	g.expire(now)
	if g.drawer != nil {
		g.drawer.fallBack(now)
	}
	g.settle(now)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.timer.Stop()
	g.bucket.shut()
	g.refuseWaiting(ErrClosed)
}
