package backtest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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
	"github.com/headgate/headgate/writequeue"
)

// course is what the controller would have done by one policy.
type course struct {
	policy  string // empty where each target has its own
	loop    *controller.Replay
	lines   []*line // of the targets, in their order
	gates   []*gate
	streams map[string]*stream // by coordinator

	// openLoop decides from what was recorded, whatever the decisions would have
	// made of it.
	openLoop bool
}

// line is one target on a course.
type line struct {
	target    settings.Target
	needsBase bool
	gate      *gate
	streams   []*stream // of its coordinators
	account   account
	deepest   float64 // of what would have waited; NaN where that was never known
	drawn     curves
}

// newCourse makes the loop of the targets, all of which are enabled. An empty
// policy is each target's own. The error is about their settings.
func newCourse(policyName string, config controller.Config, all []settings.Target, rates rates) (*course, error) {
	c := &course{policy: policyName, streams: map[string]*stream{}}
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
			gates[key] = newGate(rates)
			c.gates = append(c.gates, gates[key])
		}
		target, err := targets.New(t, gates[key])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l := &line{
			target: t, needsBase: policy.Needs(target.Providers[0].Law).Has(policy.SignalBase),
			gate: gates[key], account: newAccount(), deepest: math.NaN(),
		}
		for _, id := range t.CoordinatorIDs {
			if c.streams[id] == nil {
				c.streams[id] = &stream{}
			}
			l.streams = append(l.streams, c.streams[id])
			l.gate.feeds(c.streams[id])
		}
		l.gate.needed = l.gate.needed || l.needsBase
		c.lines = append(c.lines, l)
		made = append(made, target)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = controller.NewReplay(config, made, slog.New(slog.DiscardHandler))
	return c, err
}

// tick lets the time since the tick before go by, and decides.
func (c *course) tick(ctx context.Context, before, now time.Time, snapshot metrics.Snapshot, readings map[string]reading, seen []sight) []*controller.Decision {
	for i, l := range c.lines {
		l.account.pass(passed(before, now))
		l.gate.learn(seen[i].base, seen[i].supply)
	}
	c.flow(before, now, readings)
	if !c.openLoop {
		snapshot = c.shown(before, now, snapshot, readings)
	}
	decisions := c.loop.Tick(ctx, now, snapshot, nil)
	for i, d := range decisions {
		l, level := c.lines[i], d.Level
		if d.Reason != controller.ReasonLaw && d.Reason != controller.ReasonHold {
			level = nil
		}
		l.account.set(now, level, float64(d.Scale))
		if depth := l.depth(); math.IsNaN(l.deepest) || depth > l.deepest {
			l.deepest = depth
		}
		l.draw(now, d, seen[i])
	}
	return decisions
}

// passed is the time since a tick, which is zero where there was none.
func passed(before, now time.Time) time.Duration {
	if before.IsZero() {
		return 0
	}
	return now.Sub(before)
}

// flow lets time go by for the queues as they would have been. What a provider
// may send goes to the queues that it feeds by what they have waiting for it.
func (c *course) flow(before, now time.Time, readings map[string]reading) {
	seconds := passed(before, now).Seconds()
	for _, s := range c.streams {
		s.allowed = 0
	}
	for _, g := range c.gates {
		total := 0.0
		for _, id := range slices.Sorted(maps.Keys(c.streams)) {
			if s := c.streams[id]; slices.Contains(g.streams, s) {
				s.share = s.wanting(readings[id], seconds)
				total += s.share
			}
		}
		for _, s := range g.streams {
			if total > 0 {
				s.allowed += g.allowed() * s.share / total
			} else {
				s.allowed += g.allowed()
			}
		}
	}
	if before.IsZero() {
		return
	}
	for id, s := range c.streams {
		s.flow(before, now, readings[id])
	}
}

// shown is a snapshot as it would have been, as of the recorded samples' times.
func (c *course) shown(before, now time.Time, recorded metrics.Snapshot, readings map[string]reading) metrics.Snapshot {
	would := recorded
	would.Coordinators = maps.Clone(recorded.Coordinators)
	for id, s := range c.streams {
		o, ok := would.Coordinators[id]
		if !ok || s.queue == nil || math.IsNaN(s.allowed) {
			continue
		}
		s.scrape(before, now, o, readings[id])
		s.show(&o)
		would.Coordinators[id] = o
	}
	return would
}

// stream is one coordinator's queue on a course.
type stream struct {
	queue   *queue // nil before anything was seen of the real one
	share   float64
	allowed float64       // items per second that come through at most; NaN where that is not known
	unsure  time.Duration // in which the store may have been able to take more
	lost    time.Duration // since it was known what flows

	scraped, before scrape
	level           *pressure.Tracker // that the coordinator says; nil where it says none
}

// scrape is what a scrape would have seen.
type scrape struct {
	at                       time.Time
	depth, accepted, written float64

	rated           bool // there was one before it
	arrivals, drain float64
}

// after sets the rates since the scrape before.
func (s *scrape) after(last scrape) {
	seconds := s.at.Sub(last.at).Seconds()
	if last.at.IsZero() || seconds <= 0 {
		return
	}
	s.rated = true
	s.arrivals, s.drain = max(0, s.accepted-last.accepted)/seconds, max(0, s.written-last.written)/seconds
}

// longestGap is how long it may be unknown what flows until a queue begins anew,
// with what is recorded then.
const longestGap = 5 * time.Minute

// wanting is what waits before the gate and what arrives in so many seconds.
func (s *stream) wanting(r reading, seconds float64) float64 {
	items := 0.0
	if s.queue != nil {
		items = s.queue.held
	}
	if r.flows() {
		items += r.arrivals * seconds
	}
	return items
}

// flow lets time go by. Where it is not known what came and what was taken, or
// could come, nothing happens.
func (s *stream) flow(from, to time.Time, r reading) {
	switch {
	case !r.flows() || math.IsNaN(s.allowed):
		s.lost += to.Sub(from)
		return
	case s.queue == nil:
		s.queue = newQueue(to, r.depth)
		return
	}
	q := s.queue
	if s.lost >= longestGap {
		q.resume(from, r.depth)
	}
	s.lost = 0
	s.before = scrape{at: from, depth: q.depth, accepted: q.accepted, written: q.written}
	q.capacity = r.capacity
	q.flow(from, to, r.arrivals, s.allowed, r.store)
	if r.empty && q.depth > emptyFor*r.drain {
		s.unsure += to.Sub(from)
	}
}

// scrape looks at the queue when a recorded scrape did, if one came since the
// tick before.
func (s *stream) scrape(before, now time.Time, o metrics.Observation, r reading) {
	if !o.Newest.After(s.scraped.at) {
		return
	}
	q, share := s.queue, 1.0
	if s.before.at.Equal(before) && now.After(before) && !before.IsZero() {
		share = min(max(float64(o.Newest.Sub(before))/float64(now.Sub(before)), 0), 1)
	}
	between := func(a, b float64) float64 { return a + share*(b-a) }
	seen := scrape{
		at: o.Newest, depth: between(s.before.depth, q.depth),
		accepted: between(s.before.accepted, q.accepted), written: between(s.before.written, q.written),
	}
	seen.after(s.scraped)
	s.scraped = seen
	if r.level == nil || math.IsNaN(r.capacity) || r.capacity < 1 {
		s.level = nil
		return
	}
	marks := writequeue.DefaultConfig("").Marks.Thresholds(int(r.capacity))
	if s.level == nil {
		s.level = pressure.NewTracker(marks)
	}
	s.level.SetThresholds(marks)
	s.level.Observe(o.Newest, s.scraped.depth, pressure.OK)
}

// show puts the last scrape into an observation, as far as the recorded one has
// it.
func (s *stream) show(o *metrics.Observation) {
	o.Depth = s.scraped.depth
	if s.scraped.rated {
		o.Arrivals.PerSecond, o.Drain.PerSecond = s.scraped.arrivals, s.scraped.drain
	}
	o.Level = pressure.OK
	if s.level != nil {
		o.Level, _ = s.level.Level()
	}
}

// gate is a coordinator that does at once what it is told. Until the first
// decision its provider is at the fail mode in which coordinators come up.
type gate struct {
	state   coordinator.State
	supply  float64   // base rate of the provider at all of its coordinators; NaN while it is not known
	streams []*stream // that it feeds
	fixed   bool      // the base rate was given
	needed  bool      // a law needs it
}

// rates are what is known of all providers beforehand.
type rates struct {
	base  float64 // items per second; 0 where the series are to tell it
	floor float64 // items per second
}

func newGate(r rates) *gate {
	g := &gate{fixed: r.base > 0, supply: math.NaN()}
	g.state.FloorPerSecond, g.state.BasePerSecond = r.floor, math.NaN()
	if g.fixed {
		g.state.BasePerSecond, g.supply = r.base, r.base
	}
	g.set(coordinator.DefaultSafeScale)
	return g
}

func (g *gate) feeds(s *stream) {
	if !slices.Contains(g.streams, s) {
		g.streams = append(g.streams, s)
	}
}

// learn takes in what coordinators said of the base rate, NaN where they said
// nothing.
func (g *gate) learn(base, supply float64) {
	if g.fixed || math.IsNaN(base) {
		return
	}
	g.state.BasePerSecond, g.supply = base, supply
	g.set(g.state.Scale)
}

// allowed is how many items a second the provider may send now; NaN where that
// is not known.
func (g *gate) allowed() float64 { return math.Max(g.state.FloorPerSecond, g.supply*g.state.Scale) }

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

// Apply puts a scale in force, or fails as State does.
func (g *gate) Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	if _, err := g.State(ctx, provider); err != nil {
		return coordinator.State{}, err
	}
	g.set(lease.Scale)
	g.state.Level = lease.Level
	return g.state, nil
}

// depth is what would wait in all queues of the line; NaN where that is not
// known.
func (l *line) depth() float64 {
	sum := 0.0
	for _, s := range l.streams {
		if s.queue == nil || math.IsNaN(s.allowed) {
			return math.NaN()
		}
		sum += s.queue.depth
	}
	return sum
}
