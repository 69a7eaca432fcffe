package backtest

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
)

// reading is what was recorded of one coordinator, as a tick saw it. What is
// not known is NaN.
type reading struct {
	depth, capacity          float64
	arrivals, drain, dropped float64 // items per second
	store                    float64 // items per second that the store is held to be able to take, >= drain
	empty                    bool    // the queue was, so that the store may have been able to take more
	level                    *pressure.Level
	newest                   time.Time // sample of the depth
	instances                []string
}

// flows reports whether it is known what came and what was taken.
func (r reading) flows() bool { return !math.IsNaN(r.depth + r.arrivals + r.drain) }

// emptyFor is how many seconds of drain an empty queue may hold: a store that
// writes in batches always has some items waiting.
const emptyFor = 0.25

// read makes a reading of a snapshot. The capacity is the one that the settings
// give, where that is not 0.
func read(snapshot metrics.Snapshot, id string, capacity float64) reading {
	nan := math.NaN()
	r := reading{depth: nan, capacity: nan, arrivals: nan, drain: nan, dropped: nan, store: nan}
	o, ok := snapshot.Coordinators[id]
	if !ok {
		return r
	}
	r.depth, r.capacity, r.newest = o.Depth, o.Capacity, o.Newest
	if capacity > 0 {
		r.capacity = capacity
	}
	r.arrivals, r.drain, r.dropped = perSecond(o.Arrivals), perSecond(o.Drain), perSecond(o.Dropped)
	r.store, r.empty = r.drain, r.depth <= emptyFor*r.drain
	if o.HasLevel {
		r.level = &o.Level
	}
	for _, replica := range o.Replicas {
		r.instances = append(r.instances, replica.Instance)
	}
	return r
}

func perSecond(r metrics.Rate) float64 {
	if !r.Known {
		return math.NaN()
	}
	return r.PerSecond
}

// store remembers how fast a store was while it had work.
type store struct {
	busy   []float64 // items per second, in the last scrapes at which it had work
	newest time.Time // scrape
	least  float64   // items per second that it is held to take while the recorded queue is empty; NaN is the most of busy, 0 what was seen

	capacity float64 // of its queue, as the settings give it; 0 where they do not
}

// remembered is how many scrapes count. A queue becomes empty because its store
// is faster than what arrives, so that the last ones tell what it can take.
const remembered = 3

// judge sets what the store could take at a reading.
func (s *store) judge(r *reading) {
	if !r.flows() {
		return
	}
	if !r.empty {
		if r.newest.After(s.newest) {
			s.newest = r.newest
			s.busy = append(s.busy[max(0, len(s.busy)-remembered+1):], r.drain)
		}
		return
	}
	least := s.least
	if math.IsNaN(least) && len(s.busy) > 0 {
		least = slices.Max(s.busy)
	}
	if least > r.drain { // not where it is NaN
		r.store = least
	}
}

// sight is what was recorded of a target at a tick: of its coordinators
// together, and of its provider. What is not known is NaN.
type sight struct {
	depth, capacity          float64
	arrivals, drain, dropped float64 // items per second
	level                    *pressure.Level
	empty                    bool      // all of the queues were
	newest                   time.Time // scrape of all

	base   float64 // of the provider at the coordinator whose base rate is the largest
	supply float64 // of the provider at all of the target's coordinators together
	scale  float64 // in force, the lowest
}

// look puts together what the readings have of the target's coordinators, and
// what was told of its provider: by the processes that hold the target's queues,
// or else by whichever did.
func look(t settings.Target, readings map[string]reading, told []report) sight {
	nan := math.NaN()
	s := sight{base: nan, supply: nan, scale: nan, empty: true}
	worst, leveled := pressure.OK, true
	var instances []string
	for _, id := range t.CoordinatorIDs {
		r := readings[id]
		s.depth, s.capacity = s.depth+r.depth, s.capacity+r.capacity
		s.arrivals, s.drain, s.dropped = s.arrivals+r.arrivals, s.drain+r.drain, s.dropped+r.dropped
		s.empty = s.empty && r.empty
		if r.newest.After(s.newest) {
			s.newest = r.newest
		}
		if leveled = leveled && r.level != nil; leveled {
			worst = max(worst, *r.level)
		}
		instances = append(instances, r.instances...)
	}
	if leveled {
		s.level = &worst
	}
	anyone := func(r report) bool { return r.provider == t.Provider }
	own := func(r report) bool { return anyone(r) && slices.Contains(instances, r.instance) }
	chosen := anyone
	if slices.ContainsFunc(told, own) {
		chosen = own
	}
	for _, r := range told {
		if chosen(r) {
			s.base, s.scale = either(math.Max, s.base, r.base), either(math.Min, s.scale, r.scale)
			s.supply = either(func(a, b float64) float64 { return a + b }, s.supply, r.base*r.share)
		}
	}
	return s
}

// flows reports whether it is known what came and what was taken.
func (s sight) flows() bool { return !math.IsNaN(s.depth + s.arrivals + s.drain) }

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

// report is what one process told of a provider.
type report struct {
	provider, instance string
	base, scale        float64 // NaN where it did not
	share              float64 // of the base rate that is this process' own; 1 where it did not
}

// providerSeries are what coordinators tell of their providers.
func providerSeries() []string {
	return []string{metrics.BaseRate, metrics.ScaleFactor, metrics.ProviderShare}
}

// reports are what processes told of their providers, in a fixed order.
func reports(told model.Vector) []report {
	type process struct{ provider, instance string }
	byProcess := map[process]*report{}
	for _, s := range told {
		p := process{string(s.Metric[metrics.LabelProvider]), string(s.Metric[model.InstanceLabel])}
		if p.instance == "" {
			p.instance = string(s.Metric["pod"])
		}
		r := byProcess[p]
		if r == nil {
			r = &report{p.provider, p.instance, math.NaN(), math.NaN(), 1}
			byProcess[p] = r
		}
		value := float64(s.Value)
		if !(value >= 0) || math.IsInf(value, 0) || s.Histogram != nil {
			continue
		}
		switch s.Metric[model.MetricNameLabel] {
		case metrics.BaseRate:
			r.base = value
		case metrics.ScaleFactor:
			r.scale = value
		case metrics.ProviderShare:
			r.share = value
		}
	}
	all := make([]report, 0, len(byProcess))
	for _, r := range byProcess {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b report) int {
		return strings.Compare(a.provider+"\xff"+a.instance, b.provider+"\xff"+b.instance)
	})
	return all
}

// past is what there really was, for one target.
type past struct {
	account account
	flow    *queue    // nil before it was known what came and what was taken
	until   time.Time // scrape up to which it has flowed

	deepest                   float64 // items, as measured; NaN before the first
	dropped                   float64 // items; NaN where no series tells
	empty, unknown, throttled time.Duration
}

func newPast() *past { return &past{account: newAccount(), deepest: math.NaN()} }

// pass lets the time since the tick before go by, and says what there is from
// now on.
func (p *past) pass(before, now time.Time, s sight) {
	d := passed(before, now)
	p.account.pass(d)
	if s.scale < 1-smallest {
		p.throttled += d
	}
	switch {
	case !s.flows():
		p.unknown += d
	case s.empty:
		p.empty += d
	}
	p.see(s)
	p.account.set(now, s.level, s.scale)
	if math.IsNaN(p.deepest) || s.depth > p.deepest {
		p.deepest = s.depth
	}
}

// see takes in what a scrape saw, if it is a new one.
func (p *past) see(s sight) {
	from := p.until
	if !s.newest.After(from) {
		return
	}
	p.until = s.newest
	switch {
	case !s.flows():
	case p.flow == nil:
		p.flow = newQueue(s.newest, s.depth)
	default:
		p.flow.follow(from, s.newest, s.arrivals, s.drain, s.depth)
		p.dropped += s.dropped * s.newest.Sub(from).Seconds()
	}
}
