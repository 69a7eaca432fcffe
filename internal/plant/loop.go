package plant

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// loop is what sees the queue and turns the gate: scrapes, the controller's
// evaluations and what they command, and the queue's own fast loop.
type loop struct {
	scenario Scenario
	law      policy.Law
	random   *rand.Rand
	limiter  *controller.Limiter
	tracker  *pressure.Tracker
	fast     *pressure.Tracker

	nextScrape, nextEvaluation time.Duration
	sample, previous           sample
	samples                    int
	began                      sample        // what the counters had counted when they last began anew
	decided                    time.Duration // the last evaluation; 0 before the first
	newest                     time.Duration // sample that was decided on

	pending   []command
	inForce   float64 // of the controller
	fastScale float64

	wanted    float64 // by the last decision
	turned    float64 // the scale at the last change that counted
	direction float64 // of that change
	reversals int
	variation float64
}

// sample is what a scrape saw.
type sample struct {
	at                       time.Duration
	depth, accepted, written float64
}

// command is a scale on its way.
type command struct {
	at    time.Duration
	scale float64
}

func newLoop(s Scenario, law policy.Law) *loop {
	l := &loop{
		scenario: s, law: law, random: rand.New(rand.NewPCG(s.Seed, 1)),
		limiter: controller.NewLimiter(s.Guard, s.Seed),
		tracker: pressure.NewTracker(s.Thresholds), fast: pressure.NewTracker(s.Thresholds),
		inForce: startScale, wanted: startScale, turned: startScale, fastScale: 1,
	}
	l.nextScrape, l.nextEvaluation = l.phase(s.Scrape), l.phase(s.Evaluate)
	if s.Phases != nil {
		l.nextScrape, l.nextEvaluation = s.Phases.Scrape, s.Phases.Evaluate
	}
	return l
}

func (l *loop) phase(interval time.Duration) time.Duration {
	return time.Duration(l.random.Float64() * float64(interval))
}

func (l *loop) after(now, interval time.Duration) time.Duration {
	return now + time.Duration(float64(interval)*(1+l.scenario.Jitter*(2*l.random.Float64()-1)))
}

// turn does what is due.
func (l *loop) turn(now time.Duration, q *queue) {
	if now >= l.nextScrape {
		l.nextScrape = l.after(now, l.scenario.Scrape)
		l.scrape(now, q)
	}
	if now >= l.nextEvaluation {
		l.nextEvaluation = l.after(now, l.scenario.Evaluate)
		if l.samples > 0 {
			l.evaluate(now)
		}
	}
	for len(l.pending) > 0 && l.pending[0].at <= now {
		l.inForce = l.pending[0].scale
		l.pending = l.pending[1:]
	}
	if l.scenario.FastLoop != nil {
		level, _ := l.fast.Observe(clock(now), q.depth, pressure.OK)
		l.fastScale = l.scenario.FastLoop[level]
	}
}

func (l *loop) scaleInForce() float64 { return min(l.inForce, l.fastScale) }

func (l *loop) scrape(now time.Duration, q *queue) {
	if l.random.Float64() < l.scenario.Missed {
		return
	}
	if s := l.scenario; s.Resets > 0 && l.random.Float64() < s.Resets {
		l.began = sample{accepted: q.accepted, written: q.written}
	}
	l.previous = l.sample
	l.sample = sample{now, q.depth, q.accepted - l.began.accepted, q.written - l.began.written}
	l.samples++
}

// since is by how much a counter rose from one sample to the next. One that
// began anew counts from 0, as the reader has it.
func since(before, now float64) float64 {
	if now < before {
		return now
	}
	return now - before
}

func (l *loop) evaluate(now time.Duration) {
	s := l.scenario
	in := policy.Input{
		Depth: l.sample.depth, Capacity: s.Capacity, Thresholds: s.Thresholds,
		ArrivalsPerSecond: math.NaN(), DrainPerSecond: math.NaN(),
		BasePerSecond: s.Base, FloorPerSecond: s.Floor, DeadTime: s.DeadTime(),
		Age: now - l.sample.at, Fresh: l.sample.at != l.newest || l.decided == 0,
		InForce: l.scaleInForce(),
	}
	if span := (l.sample.at - l.previous.at).Seconds(); l.samples > 1 && span > 0 {
		in.ArrivalsPerSecond = since(l.previous.accepted, l.sample.accepted) / span
		in.DrainPerSecond = since(l.previous.written, l.sample.written) / span
	}
	if l.decided > 0 {
		in.Elapsed = now - l.decided
	}
	l.decided, l.newest = now, l.sample.at
	in.Level, _ = l.tracker.Observe(clock(now), l.sample.depth, pressure.OK)
	if policy.Needs(l.law).Has(policy.SignalDrain) && math.IsNaN(in.DrainPerSecond) {
		return // production decides nothing without a signal that the law needs
	}
	scale, _ := l.limiter.Limit(in.Elapsed, in.Level, l.law.Decide(in).Scale, l.wanted)
	l.count(scale)
	l.pending = append(l.pending, command{now + s.Apply, scale})
}

// smallest is the least change that counts as one of direction.
const smallest = 0.01

func (l *loop) count(scale float64) {
	l.variation += math.Abs(scale - l.wanted)
	l.wanted = scale
	change := scale - l.turned
	if math.Abs(change) < smallest {
		return
	}
	direction := math.Copysign(1, change)
	if l.direction != 0 && direction != l.direction {
		l.reversals++
	}
	l.direction, l.turned = direction, scale
}

func clock(at time.Duration) time.Time { return time.Unix(0, int64(at)) }
