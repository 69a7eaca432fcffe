package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/seldom"
)

// outlet is one provider at its coordinator, whatever the number of targets
// that throttle it. It belongs to the goroutine of the loop.
type outlet struct {
	provider *Provider // of the first target; its name, address and gate are those of all
	combine  Combine
	sources  []source // of this tick, in the order of the targets

	state        coordinator.State // the last one read back
	read         bool              // there is one
	standbyUntil time.Time         // another controller holds the lease so long
	holder       string            // that controller; empty where there is none
	standby      seldom.State[string]
	suspect      bool // the coordinator did not answer the last time

	put    coordinator.ScaleRequest // the lease that all of the provider took last
	readAt time.Time                // when the state was read
	until  time.Time                // when put runs out at the earliest; zero where there is none
}

// source is a target's part in an outlet.
type source struct {
	line     *line
	throttle *throttle
	decision *Decision
}

// outletKey tells outlets apart.
type outletKey struct{ url, provider string }

func (p Provider) key() outletKey { return outletKey{strings.TrimRight(p.URL, "/"), p.Name} }

// application is what is decided about one outlet on its way to its coordinator
// and back.
type application struct {
	outlet  *outlet
	lease   coordinator.ScaleRequest // to be applied
	apply   bool                     // else the state is only read
	keep    bool                     // what is in force is as good, and nobody is asked
	decided time.Time
	traced  bool // the call has a span

	state    coordinator.State
	took     time.Duration // to apply
	err      error
	readBack bool // the state was read though another holds the lease
}

// application says what is to be done about an outlet.
func (c *Controller) application(now time.Time, o *outlet) application {
	a := application{outlet: o, decided: now}
	total, lowest := o.combined()
	for _, s := range o.sources {
		switch d := s.decision; {
		case !d.Scale.Known():
		case s.line.target.DryRun:
			d.Outcome = OutcomeDryRun
		case now.Before(o.standbyUntil):
			d.Outcome, d.Holder = OutcomeStandby, o.holder
		case total.Known():
			a.apply = true
		}
	}
	if a.apply {
		level, ttl := o.lease()
		a.lease = coordinator.ScaleRequest{
			Owner: coordinator.OwnerController, Holder: c.config.Holder, Sequence: c.nextSequence(now), Scale: float64(total),
			Level: level, Reason: leaseReason(lowest.decision), TTL: ttl,
		}
		a.keep = o.lasts(now, a.lease, c.config.Interval)
	}
	return a
}

// triesToRenew is how many ticks are left to a lease at least when it is renewed,
// so that it does not run out where one or two of them fail.
const triesToRenew = 3

// lasts reports whether the lease in force says the same as the new one, and need
// not be renewed yet: more than half of it is left, and more than the ticks that
// it takes to be sure of the next one.
func (o *outlet) lasts(now time.Time, lease coordinator.ScaleRequest, interval time.Duration) bool {
	if _, restless := o.provider.Gate.(Restless); restless || o.until.IsZero() {
		return false
	}
	same := o.put
	same.Sequence = lease.Sequence
	return same == lease && o.until.Sub(now) > max(triesToRenew*interval, lease.TTL/2)
}

// ask applies the scale, or only reads the state.
func (a *application) ask(ctx context.Context) {
	p := a.outlet.provider
	if a.keep {
		return
	}
	if !a.apply {
		a.state, a.err = p.Gate.State(ctx, p.Name)
		return
	}
	began := time.Now()
	a.state, a.err = p.Gate.Apply(ctx, p.Name, a.lease)
	a.took = time.Since(began)
	var conflict *coordinator.ConflictError
	if errors.As(a.err, &conflict) && !conflict.Stale {
		// What is in force is told at standby too. Where it cannot be read
		// nothing is lost but that.
		if state, err := p.Gate.State(ctx, p.Name); err == nil {
			a.state, a.readBack = state, true
		}
	}
}

func leaseReason(d *Decision) string {
	if d.Fault == FaultNone {
		return string(d.Reason)
	}
	return string(d.Reason) + ": " + string(d.Fault)
}

// apply talks to all coordinators that have to be asked, side by side, and returns
// when all have answered or half an interval is over. None waits behind one that
// did not answer the last time.
func (c *Controller) apply(ctx context.Context, all []*application) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Interval/2)
	defer cancel()
	var healthy, suspects []*application
	for _, a := range all {
		switch {
		case a.keep:
		case a.outlet.suspect:
			suspects = append(suspects, a)
		default:
			healthy = append(healthy, a)
		}
	}
	if n := len(suspects); n > 0 { // where time is too short for all of them, they take turns
		c.turn %= n
		suspects = slices.Concat(suspects[c.turn:], suspects[:c.turn])
	}
	var asking sync.WaitGroup
	var tried atomic.Int64
	c.askAll(ctx, &asking, healthy, new(atomic.Int64))
	c.askAll(ctx, &asking, suspects, &tried)
	asking.Wait()
	c.turn += int(min(tried.Load(), int64(len(suspects))))
}

// askAll begins to ask, so many at once. It counts those that had their turn.
func (c *Controller) askAll(ctx context.Context, asking *sync.WaitGroup, all []*application, turns *atomic.Int64) {
	var next atomic.Int64
	for range min(slots, len(all)) {
		asking.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				a := all[i]
				if ctx.Err() != nil {
					a.err = errBusy
					continue
				}
				turns.Add(1)
				c.askOne(ctx, a)
			}
		})
	}
}

func (c *Controller) askOne(ctx context.Context, a *application) {
	ctx, cancel := context.WithTimeout(ctx, c.config.ApplyTimeout)
	defer cancel()
	ctx, span := c.spans.call(ctx, a)
	a.ask(ctx)
	called(span, a)
}

// settle brings the outcome into the outlet, and into the decisions and the
// throttles of all that have a part in it.
func (c *Controller) settle(ctx context.Context, now time.Time, a *application) {
	o := a.outlet
	before, read := o.state.EffectivePerSecond, o.read
	if a.keep {
		c.keep(ctx, now, o)
		return
	}
	var conflict *coordinator.ConflictError
	var partial *PartialError
	var fault ApplyFault
	told := a.err == nil || errors.As(a.err, &partial)
	switch {
	case told:
		o.state, o.read, o.readAt, o.suspect = a.state, true, now, partial != nil
		if a.apply {
			c.standBy(ctx, now, o, "", time.Time{})
		}
		o.took(a, partial != nil)
	case errors.As(a.err, &conflict) && !conflict.Stale:
		o.suspect, o.until = false, time.Time{}
		if a.readBack {
			o.state, o.read, o.readAt = a.state, true, now
		}
		c.standBy(ctx, now, o, conflict.Holder, now.Add(conflict.ExpiresIn))
	default:
		fault, o.until = applyFault(a.err), time.Time{}
		if conflict != nil { // the clock has gone back since this holder's last life
			c.sequence = max(c.sequence, conflict.Sequence)
		}
		if fault != ApplyBusy { // which says nothing of this one
			o.suspect = fault == ApplyTimeout || fault == ApplyUnreachable || fault == ApplyServerError
		}
	}
	for _, s := range o.sources {
		d := s.decision
		applies := a.apply && d.Scale.Known() && d.Outcome == OutcomeNothing
		switch {
		case told:
			if partial != nil {
				d.ApplyFault, d.ApplyError = applyFault(partial.Failed[0]), partial.Error()
			}
			if applies {
				d.Outcome = OutcomeApplied
			}
			if a.apply && read {
				s.throttle.deadTime.commanded(now, a.took, before, a.state.EffectivePerSecond, float64(d.ArrivalsPerSecond))
			}
			d.readBack(now, a.state)
		case fault == ApplyNone:
			if d.Outcome != OutcomeDryRun {
				d.Outcome, d.Holder = OutcomeStandby, o.holder
			}
			if a.readBack {
				d.readBack(now, a.state)
			}
		default:
			d.ApplyFault, d.ApplyError = fault, a.err.Error()
			if applies {
				d.Outcome = OutcomeFailed
			}
		}
		c.tell(ctx, now, s)
	}
}

// took notes the lease that was put, where all of the provider has taken it.
func (o *outlet) took(a *application, partly bool) {
	o.put, o.until = a.lease, time.Time{}
	if a.apply && !partly {
		o.until = a.decided.Add(a.lease.TTL)
	}
}

// keep tells what is in force where nobody had to be asked.
func (c *Controller) keep(ctx context.Context, now time.Time, o *outlet) {
	for _, s := range o.sources {
		d := s.decision
		if d.Scale.Known() && d.Outcome == OutcomeNothing {
			d.Outcome = OutcomeApplied
		}
		d.Kept = true
		d.readBack(o.readAt, o.state)
		c.tell(ctx, now, s)
	}
}

// tell explains a decision, and logs it where it says something new.
func (c *Controller) tell(ctx context.Context, now time.Time, s source) {
	p, d := s.throttle, s.decision
	d.Changed = p.previous == nil || !d.sameAs(p.previous)
	leftOut, tell := p.news.look(now, d)
	if d.Changed { // small steps add up until they are a change
		p.previous = d
	}
	if d.Changed || tell {
		d.Explanation = d.explain()
	}
	if tell {
		c.log.InfoContext(ctx, "decision", "decision", d, "left_out", leftOut)
	} else {
		c.log.DebugContext(ctx, "decision", "decision", d)
	}
	p.room.tell(ctx, c.log, d)
}

// standBy notes who holds a provider's lease, and logs it where it is another.
// The empty holder is this controller.
func (c *Controller) standBy(ctx context.Context, now time.Time, o *outlet, holder string, until time.Time) {
	if leftOut, tell := o.standby.Now(now, holder); tell {
		provider := []any{"provider", o.provider.Name, "coordinator", o.provider.URL, "left_out", leftOut}
		if holder != "" {
			c.log.InfoContext(ctx, "standing by: another controller holds the lease", append(provider, "holder", holder)...)
		} else {
			c.log.InfoContext(ctx, "took over the lease", append(provider, "last_holder", o.holder)...)
		}
	}
	o.holder, o.standbyUntil = holder, until
}
