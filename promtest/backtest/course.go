package backtest

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
)

// course is what the controller would have done by one policy.
type course struct {
	policy string // empty where each target has its own
	loop   *controller.Replay
	lines  []*line // of the targets, in their order
}

// line is one target on a course.
type line struct {
	target    settings.Target
	needsBase bool
	gate      *gate
	account   account
	supply    float64 // base rate at all coordinators together, as last told; NaN before
	queue     *queue  // nil before anything was seen of the real one
	unsure    time.Duration
	drawn     curves
}

// newCourse makes the loop of the targets, all of which are enabled. An empty
// policy is each target's own. The error is about their settings.
func newCourse(policyName string, config controller.Config, all []settings.Target, provider provider) (*course, error) {
	c := &course{policy: policyName}
	gates := map[[2]string]*gate{}
	var made []controller.Target
	var errs []error
	for _, t := range all {
		if policyName != "" {
			t.Policy = policyName
		}
		t.DryRun = false // what is asked for is what it would do
		key := [2]string{strings.TrimRight(t.CoordinatorURL, "/"), t.Provider}
		if gates[key] == nil {
			gates[key] = newGate(provider)
		}
		target, err := targets.New(t, gates[key])
		errs = append(errs, err)
		if err != nil {
			continue
		}
		needs := policy.Needs(target.Providers[0].Law).Has(policy.SignalBase)
		gates[key].needed = gates[key].needed || needs
		made = append(made, target)
		c.lines = append(c.lines, &line{target: t, needsBase: needs, gate: gates[key], account: newAccount(), supply: math.NaN()})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = controller.NewReplay(config, made, slog.New(slog.DiscardHandler))
	return c, err
}

// tick lets the time since the tick before go by, and decides.
func (c *course) tick(ctx context.Context, before, now time.Time, snapshot metrics.Snapshot, seen []sight) []*controller.Decision {
	for i, l := range c.lines {
		if !before.IsZero() {
			l.pass(before, now, seen[i])
		}
		l.gate.learn(seen[i].base)
		if !math.IsNaN(seen[i].supply) {
			l.supply = seen[i].supply
		}
	}
	decisions := c.loop.Tick(ctx, now, snapshot, nil)
	for i, d := range decisions {
		l := c.lines[i]
		level := d.Level
		if d.Reason != controller.ReasonLaw && d.Reason != controller.ReasonHold {
			level = nil
		}
		l.account.set(now, level, float64(d.Scale))
		l.draw(now, d, seen[i])
	}
	return decisions
}

// pass lets time go by for the queue as it would have been.
func (l *line) pass(from, to time.Time, s sight) {
	l.account.pass(to.Sub(from))
	if l.queue == nil {
		if math.IsNaN(s.depth) {
			return
		}
		l.queue = newQueue(from, s.depth)
	}
	l.queue.capacity = s.capacity
	if allowed := l.allowed(); !s.flows() || math.IsNaN(allowed) {
		return
	}
	l.queue.flow(from, to, s.arrivals, l.allowed(), s.drain)
	if s.empty() && l.queue.depth > emptyFor*s.drain {
		l.unsure += to.Sub(from)
	}
}

// allowed is how many items a second the provider may send now, NaN where its
// base rate is not known.
func (l *line) allowed() float64 {
	base := l.supply
	if l.gate.fixed {
		base = l.gate.state.BasePerSecond
	}
	return math.Max(l.gate.state.FloorPerSecond, base*l.gate.state.Scale)
}

// gate is a coordinator that does at once what it is told. Until the first
// decision its provider is at the fail mode in which coordinators come up.
type gate struct {
	state  coordinator.State
	fixed  bool // the base rate was given
	needed bool // a law needs it
}

// provider is what is known of all providers beforehand.
type provider struct {
	base  float64 // items per second; 0 where the series are to tell it
	floor float64 // items per second
}

func newGate(p provider) *gate {
	g := &gate{fixed: p.base > 0}
	g.state.FloorPerSecond, g.state.BasePerSecond = p.floor, math.NaN()
	if g.fixed {
		g.state.BasePerSecond = p.base
	}
	g.set(coordinator.DefaultSafeScale)
	return g
}

// learn takes in what a coordinator said of its base rate, NaN where it said
// nothing.
func (g *gate) learn(base float64) {
	if !g.fixed && !math.IsNaN(base) {
		g.state.BasePerSecond = base
		g.set(g.state.Scale)
	}
}

func (g *gate) set(scale float64) {
	g.state.Scale = scale
	g.state.EffectivePerSecond = math.Max(g.state.FloorPerSecond, g.state.BasePerSecond*scale)
}

var errBaseUnknown = errors.New("nothing has told the base rate yet")

// State fails while the base rate is not known and a law needs it, as if the
// coordinator did not answer.
func (g *gate) State(context.Context, string) (coordinator.State, error) {
	if g.needed && math.IsNaN(g.state.BasePerSecond) {
		return coordinator.State{}, errBaseUnknown
	}
	return g.state, nil
}

func (g *gate) Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	if _, err := g.State(ctx, provider); err != nil {
		return coordinator.State{}, err
	}
	g.set(lease.Scale)
	g.state.Level = lease.Level
	return g.state, nil
}

// past is what really was, for one target.
type past struct {
	account account
	queue   *queue // as if nothing had been held back; nil before anything was seen

	deepest                        float64 // items, as measured
	dropped                        float64 // items; NaN where no series tells
	empty, unknown, throttled, all time.Duration
}

func newPast() *past { return &past{account: newAccount(), deepest: math.NaN()} }

// pass lets time go by.
func (p *past) pass(from, to time.Time, s sight) {
	d := to.Sub(from)
	p.all += d
	p.account.pass(d)
	p.dropped += s.dropped * d.Seconds()
	if s.scale < 1-smallest {
		p.throttled += d
	}
	if p.queue == nil && !math.IsNaN(s.depth) {
		p.queue = newQueue(from, s.depth)
	}
	if !s.flows() {
		p.unknown += d
		return
	}
	if s.empty() {
		p.empty += d
	}
	p.queue.flow(from, to, s.arrivals, math.Inf(1), s.drain)
}

// set says what was there from now on.
func (p *past) set(now time.Time, s sight) {
	p.account.set(now, s.level, s.scale)
	if math.IsNaN(p.deepest) || s.depth > p.deepest {
		p.deepest = s.depth
	}
}

// sight is what was seen at a tick of a target's coordinators together, and of
// its provider. What is not known is NaN.
type sight struct {
	depth, capacity          float64
	arrivals, drain, dropped float64 // items per second
	level                    *pressure.Level
	base                     float64 // of the provider at the coordinator whose base rate is the largest
	supply                   float64 // of the provider at all of the target's coordinators together
	scale                    float64 // in force, the lowest
}

// emptyFor is how many seconds of drain an empty queue may hold: a store that
// writes in batches always has some items waiting.
const emptyFor = 0.25

// flows reports whether it is known what came and what was taken.
func (s sight) flows() bool { return !math.IsNaN(s.depth + s.arrivals + s.drain) }

// empty reports whether the queue was so, and the store so without work.
func (s sight) empty() bool { return s.depth <= emptyFor*s.drain }

// look adds up what a snapshot has of the target's coordinators. All of them
// must be there.
func look(t settings.Target, snapshot metrics.Snapshot, told []report) sight {
	unknown := math.NaN()
	s := sight{base: unknown, supply: unknown, scale: unknown}
	instances := map[string]bool{}
	worst, known := pressure.OK, true
	for _, id := range t.CoordinatorIDs {
		o, ok := snapshot.Coordinators[id]
		if !ok {
			return sight{unknown, unknown, unknown, unknown, unknown, nil, unknown, unknown, unknown}.with(told, t.Provider, nil)
		}
		s.depth += o.Depth
		if t.QueueCapacity > 0 {
			s.capacity += t.QueueCapacity
		} else {
			s.capacity += o.Capacity
		}
		s.arrivals += perSecond(o.Arrivals)
		s.drain += perSecond(o.Drain)
		s.dropped += perSecond(o.Dropped)
		worst, known = max(worst, o.Level), known && o.HasLevel
		for _, r := range o.Replicas {
			instances[r.Instance] = true
		}
	}
	if known {
		s.level = &worst
	}
	return s.with(told, t.Provider, instances)
}

func perSecond(r metrics.Rate) float64 {
	if !r.Known {
		return math.NaN()
	}
	return r.PerSecond
}

// report is what one process told of a provider.
type report struct {
	provider, instance string
	base, scale        float64 // NaN where it did not
}

// with adds what was told of the provider: by the processes that hold the
// target's queues, or else by whichever did.
func (s sight) with(told []report, provider string, instances map[string]bool) sight {
	own := func(r report) bool { return r.provider == provider && instances[r.instance] }
	anyone := func(r report) bool { return r.provider == provider }
	chosen := anyone
	if slices.ContainsFunc(told, own) {
		chosen = own
	}
	for _, r := range told {
		if !chosen(r) {
			continue
		}
		s.base, s.scale = either(math.Max, s.base, r.base), either(math.Min, s.scale, r.scale)
		s.supply = either(func(a, b float64) float64 { return a + b }, s.supply, r.base)
	}
	return s
}

// either makes one of two numbers, of which each may be unknown.
func either(of func(a, b float64) float64, a, b float64) float64 {
	switch {
	case math.IsNaN(a):
		return b
	case math.IsNaN(b):
		return a
	}
	return of(a, b)
}
