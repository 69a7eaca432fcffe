package coordinator

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/pressure"
)

// State is what a provider is at: its budget, and everything that bears on it.
// Rates are in tokens per second.
type State struct {
	Provider           string  `json:"provider"`
	BasePerSecond      float64 `json:"base_per_second"`
	Burst              int     `json:"burst"`
	FloorPerSecond     float64 `json:"floor_per_second"`
	Share              float64 `json:"share"`                // of the base that is this replica's, in (0, 1]
	EffectivePerSecond float64 `json:"effective_per_second"` // what the share and the scale make of the base

	Scale     float64        `json:"scale"`  // the lowest of those in force
	Level     pressure.Level `json:"level"`  // the worst of those told
	Scales    []Scale        `json:"scales"` // in force, by owner
	FailMode  FailMode       `json:"fail_mode"`
	SafeScale float64        `json:"safe_scale"` // of the fail mode safe

	Shared *Shared `json:"shared_budget,omitempty"` // absent where the budget is this replica's own

	Waiters   int        `json:"waiters"`        // calls in line
	Granted   uint64     `json:"tokens_granted"` // since the provider was registered
	Breaker   Breaker    `json:"breaker"`
	CoolDowns []CoolDown `json:"cool_downs"` // in progress, by scope

	Version uint64 `json:"version"` // rises with every change that is told
}

// Scale is one owner's scale in force.
type Scale struct {
	Owner    Owner          `json:"owner"`
	Holder   string         `json:"holder,omitempty"`
	Sequence uint64         `json:"sequence,omitempty"`
	Scale    float64        `json:"scale"`
	Level    pressure.Level `json:"level"`
	Reason   string         `json:"reason"`

	AgeSeconds       float64  `json:"age_seconds"`
	ExpiresInSeconds *float64 `json:"expires_in_seconds"` // null where it lasts for ever
}

// Shared is how a provider stands to the budget that it shares with other replicas.
type Shared struct {
	State      SharedState `json:"state"`
	AgeSeconds float64     `json:"age_seconds"`     // since when
	Error      string      `json:"error,omitempty"` // why the budget cannot be reached
}

// Breaker is the state of a provider's circuit breaker.
type Breaker struct {
	State            string  `json:"state"` // closed, open or half-open
	RemainingSeconds float64 `json:"remaining_seconds"`
	Failures         uint    `json:"failures"` // counted towards opening
}

// CoolDown is a scope that cools down.
type CoolDown struct {
	Scope            string  `json:"scope"`
	RemainingSeconds float64 `json:"remaining_seconds"`
}

// State returns what a provider is at, or ErrUnknownProvider.
func (c *Coordinator) State(provider string) (State, error) {
	g, err := c.gate(provider)
	if err != nil {
		return State{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(c.now())
	return g.state(), nil
}

// States returns what every provider is at, by name.
func (c *Coordinator) States() []State {
	gates := c.all()
	states := make([]State, 0, len(gates))
	for _, g := range gates {
		g.mu.Lock()
		g.expire(c.now())
		states = append(states, g.state())
		g.mu.Unlock()
	}
	return states
}

// state is called with g.mu held.
func (g *gate) state() State {
	now := g.c.now()
	_, granted := g.grants()
	g.breakerOpen() // half-opens it where its time is over
	s := State{
		Provider: g.Name, BasePerSecond: g.BasePerSecond, Burst: g.Burst,
		FloorPerSecond: g.FloorPerSecond, Share: g.share, EffectivePerSecond: g.bucket.rate,
		Scale: g.scale(), Level: g.level(), FailMode: g.FailMode, SafeScale: g.SafeScale,
		Scales: []Scale{}, CoolDowns: []CoolDown{},
		Waiters: g.bucket.line.n, Granted: granted, Version: g.version,
		Breaker: Breaker{
			State:            g.breaker.State().String(),
			RemainingSeconds: g.breaker.RemainingDelay().Seconds(),
			Failures:         g.breaker.Metrics().Failures(),
		},
	}
	for _, owner := range owners() {
		e, found := g.scales[owner]
		if !found {
			continue
		}
		shown := Scale{
			Owner: owner, Holder: e.holder, Sequence: e.sequence, Scale: e.scale,
			Level: e.level, Reason: e.reason, AgeSeconds: (now - e.since).Seconds(),
		}
		if e.expires > 0 {
			left := max(0, e.expires-now).Seconds()
			shown.ExpiresInSeconds = &left
		}
		s.Scales = append(s.Scales, shown)
	}
	if d := g.drawer; d != nil {
		s.Shared = &Shared{State: d.state, AgeSeconds: (now - d.since).Seconds(), Error: d.failure}
	}
	for scope, until := range g.coolDowns {
		if until > now {
			s.CoolDowns = append(s.CoolDowns, CoolDown{scope, (until - now).Seconds()})
		}
	}
	slices.SortFunc(s.CoolDowns, func(a, b CoolDown) int { return strings.Compare(a.Scope, b.Scope) })
	return s
}
