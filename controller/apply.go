package controller

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/seldom"
)

// outlet is one provider at its coordinator, whatever the number of targets
// that throttle it. It belongs to the goroutine of the loop.
type outlet struct {
	provider Provider // of the first target; its name, address and gate are those of all
	combine  Combine
	sources  []source // of this tick, in the order of the targets

	state        coordinator.State // the last one read back
	read         bool              // there is one
	standbyUntil time.Time         // another controller holds the lease so long
	holder       string            // that controller; empty where there is none
	standby      seldom.State[string]
	suspect      bool // the coordinator did not answer the last time
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
	outlet *outlet
	lease  coordinator.ScaleRequest // to be applied
	apply  bool                     // else the state is only read
	traced bool                     // the call has a span

	state    coordinator.State
	took     time.Duration // to apply
	err      error
	readBack bool // the state was read though another holds the lease
}

// application says what is to be done about an outlet.
func (c *Controller) application(now time.Time, o *outlet) *application {
	a := &application{outlet: o}
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
	}
	return a
}

// ask applies the scale, or only reads the state.
func (a *application) ask(ctx context.Context) {
	p := a.outlet.provider
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

// apply talks to all coordinators side by side and returns when all have
// answered or half an interval is over.
func (c *Controller) apply(ctx context.Context, all []*application) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Interval/2)
	defer cancel()
	var applying sync.WaitGroup
	for _, a := range all {
		applying.Go(func() {
			lane := c.healthy
			if a.outlet.suspect {
				lane = c.suspects
			}
			select {
			case lane <- struct{}{}:
				defer func() { <-lane }()
			case <-ctx.Done():
				a.err = errBusy
				return
			}
			ctx, cancel := context.WithTimeout(ctx, c.config.ApplyTimeout)
			defer cancel()
			ctx, span := c.spans.call(ctx, a)
			a.ask(ctx)
			called(span, a)
		})
	}
	applying.Wait()
}

// settle brings the outcome into the outlet, and into the decisions and the
// throttles of all that have a part in it.
func (c *Controller) settle(ctx context.Context, now time.Time, a *application) {
	o := a.outlet
	before, read := o.state.EffectivePerSecond, o.read
	var conflict *coordinator.ConflictError
	var partial *PartialError
	var fault ApplyFault
	told := a.err == nil || errors.As(a.err, &partial)
	switch {
	case told:
		o.state, o.read, o.suspect = a.state, true, partial != nil
		if a.apply {
			c.standBy(ctx, now, o, "", time.Time{})
		}
	case errors.As(a.err, &conflict) && !conflict.Stale:
		o.suspect = false
		if a.readBack {
			o.state, o.read = a.state, true
		}
		c.standBy(ctx, now, o, conflict.Holder, now.Add(conflict.ExpiresIn))
	default:
		fault = applyFault(a.err)
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
				c.metrics.applyErrors.WithLabelValues(d.Target, d.Provider, string(d.ApplyFault)).Inc()
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
			c.metrics.applyErrors.WithLabelValues(d.Target, d.Provider, string(fault)).Inc()
		}
		c.tell(ctx, now, s)
	}
}

// tell explains a decision, and logs it where it says something new.
func (c *Controller) tell(ctx context.Context, now time.Time, s source) {
	p, d := s.throttle, s.decision
	d.Changed = p.previous == nil || !d.sameAs(p.previous)
	d.Explanation = d.explain()
	if d.Changed { // small steps add up until they are a change
		p.previous = d
	}
	if leftOut, tell := p.news.look(now, d); tell {
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
