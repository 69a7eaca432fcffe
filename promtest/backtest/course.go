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
		target, err := targets.New(t, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		throttled := &target.Providers[0]
		key := [2]string{strings.TrimRight(throttled.URL, "/"), throttled.Name}
		if gates[key] == nil {
			gates[key] = newGate(rates)
			c.gates = append(c.gates, gates[key])
		}
		throttled.Gate = gates[key]
		l := &line{
			target: t, needsBase: policy.Needs(throttled.Law).Has(policy.SignalBase),
			gate: gates[key], account: newAccount(), deepest: math.NaN(),
		}
		for _, id := range t.CoordinatorIDs {
			if c.streams[id] == nil {
				c.streams[id] = &stream{id: id}
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

// tick lets the time up to the newest samples go by, and decides.
func (c *course) tick(ctx context.Context, before, now time.Time, snapshot metrics.Snapshot, readings map[string]reading, seen []sight) []*controller.Decision {
	for i, l := range c.lines {
		l.account.pass(passed(before, now))
		l.gate.learn(seen[i].base, seen[i].supply)
	}
	if before.IsZero() {
		c.allot(now, readings)
	}
	for id, s := range c.streams {
		s.see(readings[id])
	}
	if !c.openLoop {
		snapshot = c.shown(snapshot)
	}
	decisions := c.loop.Tick(ctx, now, snapshot, nil)
	c.allot(now, readings)
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

// allot gives what each provider may send from now on to the queues that it
// feeds, by what they have waiting for it and what arrives.
func (c *course) allot(now time.Time, readings map[string]reading) {
	allowed := map[*stream]float64{}
	for _, g := range c.gates {
		total := 0.0
		for _, s := range g.streams {
			total += s.wanting(readings[s.id])
		}
		for _, s := range g.streams {
			share := 1.0
			if total > 0 {
				share = s.wanting(readings[s.id]) / total
			}
			allowed[s] += share * g.allowed()
		}
	}
	for s, rate := range allowed {
		s.steps = append(s.steps, step{now, rate})
	}
}

// shown is a snapshot as it would have been.
func (c *course) shown(recorded metrics.Snapshot) metrics.Snapshot {
	would := recorded
	would.Coordinators = maps.Clone(recorded.Coordinators)
	for id, s := range c.streams {
		if o, ok := would.Coordinators[id]; ok && s.queue != nil && s.lost < longestGap {
			s.show(&o)
			would.Coordinators[id] = o
		}
	}
	return would
}

// stream is one coordinator's queue on a course. It flows from one recorded
// scrape to the next, so that it is known as of that scrape's time.
type stream struct {
	id    string
	steps []step // that may yet count, by their times

	queue  *queue        // nil before it was known what flows
	until  time.Time     // scrape up to which it has flowed
	lost   time.Duration // before it, in which it was not known what flows
	unsure time.Duration // in all, in which the store may have been able to take more

	rated           bool              // there are rates
	arrivals, drain float64           // items per second, from the last scrape but one to the last
	level           *pressure.Tracker // that the coordinator says; nil where it says none
}

// step is how many items a second may come from a time on; NaN where that is not
// known.
type step struct {
	at      time.Time
	allowed float64
}

// wanting is what waits before the gate, to be let through within some seconds,
// and what arrives in a second.
func (s *stream) wanting(r reading) float64 {
	const within = 5
	items := 0.0
	if s.queue != nil {
		items = s.queue.held / within
	}
	if r.flows() {
		items += r.arrivals
	}
	return items
}

// longestGap is how long it may be unknown what flows until a queue begins anew,
// with what is recorded then.
const longestGap = 5 * time.Minute

// see lets time go by up to the scrape of a reading, if it is a new one.
func (s *stream) see(r reading) {
	from := s.until
	if !r.newest.After(from) {
		return
	}
	s.until = r.newest
	switch known := r.flows() && len(s.steps) > 0 && !math.IsNaN(s.at(from)); {
	case s.queue == nil && !known:
	case s.queue == nil:
		s.queue = newQueue(r.newest, r.depth)
	case !known:
		s.lost += r.newest.Sub(from)
	default:
		if s.lost >= longestGap {
			s.queue.resume(from, r.depth)
		}
		s.lost = 0
		s.flow(from, r)
	}
	if s.queue != nil {
		s.judge(r)
	}
}

// flow lets the time from one scrape to the next go by, in the steps that were
// in force.
func (s *stream) flow(from time.Time, r reading) {
	q, to := s.queue, r.newest
	accepted, written := q.accepted, q.written
	q.capacity = r.capacity
	for at := from; at.Before(to); {
		next := to
		if len(s.steps) > 1 && s.steps[1].at.Before(to) {
			next = s.steps[1].at
		}
		if next.After(at) {
			q.flow(at, next, r.arrivals, s.at(at), r.store)
			at = next
		}
		if next.Before(to) {
			s.steps = s.steps[1:]
		}
	}
	seconds := to.Sub(from).Seconds()
	s.rated, s.arrivals, s.drain = true, (q.accepted-accepted)/seconds, (q.written-written)/seconds
	if r.empty && q.depth > emptyFor*r.drain {
		s.unsure += to.Sub(from)
	}
}

// at is what may come at a time, which must not be before those that were asked
// for.
func (s *stream) at(when time.Time) float64 {
	for len(s.steps) > 1 && !s.steps[1].at.After(when) {
		s.steps = s.steps[1:]
	}
	return s.steps[0].allowed
}

// judge lets the coordinator judge its own depth, where it really did. It is
// held to have the marks of Headgate's own queue.
func (s *stream) judge(r reading) {
	if r.level == nil || !(r.capacity >= 1) {
		s.level = nil
		return
	}
	marks := writequeue.DefaultConfig("").Marks.Thresholds(int(r.capacity))
	if s.level == nil {
		s.level = pressure.NewTracker(marks)
	}
	s.level.SetThresholds(marks)
	s.level.Observe(r.newest, s.queue.depth, pressure.OK)
}

// show puts what a scrape would have seen into an observation, as far as the
// recorded one has it.
func (s *stream) show(o *metrics.Observation) {
	o.Depth = s.queue.depth
	if s.rated {
		o.Arrivals.PerSecond, o.Drain.PerSecond = s.arrivals, s.drain
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
		if s.queue == nil {
			return math.NaN()
		}
		sum += s.queue.depth
	}
	return sum
}
