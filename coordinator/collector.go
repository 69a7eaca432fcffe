package coordinator

import (
	"maps"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/metrics"
)

// Describe implements prometheus.Collector. The coordinator describes nothing
// beforehand, for its providers may be registered later.
func (c *Coordinator) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Coordinator) Collect(ch chan<- prometheus.Metric) {
	c.wait.Collect(ch)
	for _, g := range c.all() {
		g.collect(ch)
	}
}

func (g *gate) collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	g.expire(g.c.now())
	state, counts := g.state(), g.counts
	refused := map[Refusal]uint64{}
	for _, why := range Refusals() {
		refused[why] = counts.refused[why]
	}
	calls, tokens := g.grants()
	breaker := g.breaker.State()
	shared := g.drawer.series()
	g.mu.Unlock()

	send := func(kind prometheus.ValueType, name string, value float64, more ...string) {
		labels := append([]string{g.Name}, more...)
		ch <- prometheus.MustNewConstMetric(metrics.Desc(name), kind, value, labels...)
	}
	gauge := func(name string, value float64, more ...string) {
		send(prometheus.GaugeValue, name, value, more...)
	}
	counter := func(name string, value uint64, more ...string) {
		send(prometheus.CounterValue, name, float64(value), more...)
	}
	gauge(metrics.ScaleFactor, state.Scale)
	gauge(metrics.PressureState, float64(state.Level))
	for _, s := range state.Scales {
		gauge(metrics.OwnerScale, s.Scale, string(s.Owner))
	}
	gauge(metrics.BaseRate, state.BasePerSecond)
	gauge(metrics.ProviderShare, state.Share)
	gauge(metrics.EffectiveRate, state.EffectivePerSecond)
	gauge(metrics.AcquireWaiters, float64(state.Waiters))
	gauge(metrics.ProviderBreaker, breakerValue(breaker))
	cooling := 0.0
	for _, c := range state.CoolDowns {
		if c.Scope == GlobalScope {
			cooling = c.RemainingSeconds
		}
	}
	gauge(metrics.ProviderCooling, cooling)
	counter(metrics.AcquireGranted, calls)
	counter(metrics.TokensGranted, tokens)
	counter(metrics.AcquireWaited, counts.waited)
	for _, why := range Refusals() {
		counter(metrics.AcquireRefused, refused[why], string(why))
	}
	counter(metrics.ProviderOpened, counts.breakerOpened)
	counter(metrics.LeaseExpiries, counts.leaseExpiries)
	counter(metrics.LeaseConflicts, counts.conflicts)
	if shared != nil {
		gauge(metrics.SharedConnected, shared.connected)
		counter(metrics.SharedLosses, shared.losses)
		for _, outcome := range DrawOutcomes() {
			counter(metrics.SharedDraws, shared.draws[outcome], string(outcome))
		}
		counter(metrics.SharedDrawn, shared.drawn)
		send(prometheus.CounterValue, metrics.SharedReturned, shared.returned)
	}
}

// grants is how many calls got their tokens, and how many these were. g.mu is
// held.
func (g *gate) grants() (calls, tokens uint64) {
	calls, tokens = g.bucket.passages()
	return g.counts.grantedCalls + calls, g.counts.grantedTokens + tokens
}

// drawing is what a drawer's series tell.
type drawing struct {
	connected float64
	losses    uint64
	draws     map[DrawOutcome]uint64
	drawn     uint64
	returned  float64
}

// series is called with the provider's lock held. There are none of a budget that
// is not shared.
func (d *drawer) series() *drawing {
	if d == nil {
		return nil
	}
	s := &drawing{losses: d.losses, draws: maps.Clone(d.draws), drawn: d.drawn, returned: d.returned}
	if d.state == SharedConnected {
		s.connected = 1
	}
	return s
}

func breakerValue(s circuitbreaker.State) float64 {
	switch s {
	case circuitbreaker.OpenState:
		return 2
	case circuitbreaker.HalfOpenState:
		return 1
	}
	return 0
}
