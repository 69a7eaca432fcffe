package coordinator

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// SharedState is how a provider stands to the budget that it shares.
type SharedState string

const (
	// SharedConnected: tokens are drawn from it.
	SharedConnected SharedState = "connected"

	// SharedLost: it cannot be reached, and others may still count on what this
	// replica drew, or have what it would fall back to. No tokens are given away.
	SharedLost SharedState = "lost"

	// SharedOwnShare: it cannot be reached, and this replica uses its own share of
	// the budget by itself.
	SharedOwnShare SharedState = "own_share"
)

// drawer draws a provider's tokens from the budget that it shares with other
// replicas, by as much as is wanted now and a little ahead, so that not every call
// has to wait for an answer.
//
// A token that was drawn may be used for a short time. What is not used then is
// given back with the next draw. At a scale below 1 only that part of what
// was drawn may be used, and the rest is forgone: so the scale has its effect on
// the shared rate, and at once, also on what was drawn before.
//
// Where a draw fails nothing is given away until it is certain that the others are
// kept from this replica's own share of the budget, and then that share is used. It
// is given up again just before the first draw that succeeds.
type drawer struct {
	g      *gate
	budget SharedBudget
	terms  SharedTerms

	signal chan struct{} // of size one: look again
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended

	// The provider's lock guards these. Times are on the coordinator's clock.
	state    SharedState
	since    time.Duration // when it became that
	failure  string        // why the budget cannot be reached; empty where it can
	counted  time.Duration // when the last draw was sent, or the first try to
	fallsAt  time.Duration // when a lost replica may use its own share, or never
	told     float64       // the share that was told last
	again    time.Duration // no tokens are drawn before that
	late     int           // draws in a row whose answer came too late for their use
	lateFrom time.Duration // when the first of them was sent
	tried    int           // tokens that somebody wanted who did not wait; 0 where none did
	ahead    int           // tokens to draw at least
	last     int           // tokens of the last draw, or 0 once it was learned from
	fresh    int           // how many of them may still be used
	until    time.Duration // and until when
	credit   float64       // drawn and neither used, forgone nor given back, in tokens at scale 1
	draws    map[DrawOutcome]uint64
	drawn    uint64  // tokens
	returned float64 // tokens
	losses   uint64
}

// DrawOutcome is what came of a draw from a shared budget. It is one of a closed
// set.
type DrawOutcome string

const (
	DrawGranted  DrawOutcome = "granted"
	DrawTooEarly DrawOutcome = "too_early" // others are to come before
	DrawPresence DrawOutcome = "presence"  // nothing was wanted
	DrawFailed   DrawOutcome = "failed"
)

// DrawOutcomes lists the set.
func DrawOutcomes() []DrawOutcome {
	return []DrawOutcome{DrawGranted, DrawTooEarly, DrawPresence, DrawFailed}
}

const (
	// So many answers in a row may come too late, and for so long, before the budget
	// counts as lost: one or two may do so on a busy machine.
	mostLate, longestLate = 5, time.Second

	firstRetry, longestRetry = 100 * time.Millisecond, 2 * time.Second

	// lateRest is how long a budget is left alone whose answers come too late.
	lateRest = 10 * time.Second

	never = time.Duration(math.MaxInt64)

	// tiny forgives what floating point makes of sums.
	tiny = 1e-6
)

var errTooLate = errors.New("answers come later than the tokens may be used")

func newDrawer(g *gate, budget SharedBudget, now time.Duration) *drawer {
	d := &drawer{
		g: g, budget: budget, terms: budget.Terms(), state: SharedLost, since: now, counted: now, fallsAt: never, ahead: 1,
		draws: map[DrawOutcome]uint64{}, signal: make(chan struct{}, 1), done: make(chan struct{}),
	}
	return d
}

// start starts the drawing. Nobody uses the gate yet.
func (d *drawer) start() {
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	go d.run(ctx)
}

// stop ends the drawing. The gate is closed.
func (d *drawer) stop() {
	d.cancel()
	<-d.done
}

// run draws until stop.
func (d *drawer) run(ctx context.Context) {
	defer close(d.done)
	for d.connect(ctx) {
		err := d.draw(ctx)
		if ctx.Err() != nil {
			d.leave()
			return
		}
		d.lose(err)
		if errors.Is(err, errTooLate) && !pause(ctx, lateRest) {
			return
		}
	}
}

// pause waits, and reports whether ctx did not end before.
func pause(ctx context.Context, d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connect tries until the budget counts this replica as there, and reports whether
// it does; it does not where ctx ended.
func (d *drawer) connect(ctx context.Context) bool {
	retries := &backoff.ExponentialBackOff{
		InitialInterval: firstRetry, MaxInterval: longestRetry,
		Multiplier: backoff.DefaultMultiplier, RandomizationFactor: backoff.DefaultRandomizationFactor,
	}
	retries.Reset()
	for {
		err := d.call(ctx, d.budget.Reach)
		if err == nil {
			err = d.call(ctx, func(ctx context.Context) error {
				_, err := d.budget.Draw(ctx, d.comeBack())
				return err
			})
		}
		if err == nil {
			d.connected()
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d.lose(err)
		if !pause(ctx, retries.NextBackOff()) {
			return false
		}
	}
}

// call bounds a call's time.
func (d *drawer) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.terms.Timeout)
	defer cancel()
	return do(ctx)
}

// lock locks the provider and tells the time.
func (d *drawer) lock() time.Duration {
	d.g.mu.Lock()
	return d.g.c.now()
}

// become changes the state, and the rate with it.
func (d *drawer) become(state SharedState, now time.Duration) {
	d.state, d.since = state, now
	d.g.changed(now, true)
}

// comeBack gives the own share up and makes the draw by which the replica counts
// as there again.
func (d *drawer) comeBack() Draw {
	now := d.lock()
	defer d.g.mu.Unlock()
	d.fallsAt = never
	if d.state == SharedOwnShare {
		d.become(SharedLost, now)
	}
	d.counted, d.told = now, d.g.share
	return Draw{Share: d.told}
}

func (d *drawer) connected() {
	now := d.lock()
	defer d.g.mu.Unlock()
	if d.g.closed {
		return
	}
	if d.failure != "" {
		d.g.c.log.Info("shared budget is reached again", "provider", d.g.Name)
	}
	d.draws[DrawPresence]++
	d.failure, d.again, d.late = "", 0, 0
	d.become(SharedConnected, now)
}

// lose takes in that the budget cannot be reached.
func (d *drawer) lose(err error) {
	now := d.lock()
	defer d.g.mu.Unlock()
	if d.g.closed {
		return
	}
	if d.failure == "" {
		d.losses++
		d.g.c.log.Warn("shared budget cannot be reached, provider falls back to its own share",
			"provider", d.g.Name, "share", d.g.share, "error", err)
	}
	d.failure = err.Error()
	d.draws[DrawFailed]++
	d.fresh, d.credit = 0, 0
	if d.state == SharedOwnShare {
		return
	}
	d.fallsAt = max(now, d.counted+d.terms.Lost)
	d.become(SharedLost, now)
	d.fallBack(now)
}

// fallBack lets a replica that lost the budget use its own share once it may.
func (d *drawer) fallBack(now time.Duration) {
	if d.state == SharedLost && now >= d.fallsAt {
		d.become(SharedOwnShare, now)
	}
}

// leave gives back what is left and ends the counting on this replica.
func (d *drawer) leave() {
	d.lock()
	last := Draw{Unused: d.credit}
	connected := d.state == SharedConnected
	d.credit, d.fresh = 0, 0
	d.g.mu.Unlock()
	if connected {
		_ = d.call(context.Background(), func(ctx context.Context) error {
			_, err := d.budget.Draw(ctx, last)
			return err // then the others are kept from its share until it is forgotten
		})
	}
}

// draw draws whenever there is need, until it fails or ctx ends.
func (d *drawer) draw(ctx context.Context) error {
	for {
		now := d.lock()
		ask, due, at := d.plan(now)
		d.g.mu.Unlock()
		if !due {
			wait := time.NewTimer(at - now)
			select {
			case <-wait.C:
			case <-d.signal:
				wait.Stop()
			case <-ctx.Done():
				wait.Stop()
				return ctx.Err()
			}
			continue
		}
		var got Drawn
		err := d.call(ctx, func(ctx context.Context) (err error) {
			got, err = d.budget.Draw(ctx, ask)
			return err
		})
		if err == nil {
			err = d.take(now, ask, got)
		}
		if err != nil {
			return err
		}
	}
}

// plan says what is to be drawn now, or until when there is nothing to draw. What
// it gives back is no longer used here.
func (d *drawer) plan(now time.Duration) (ask Draw, due bool, at time.Duration) {
	b := &d.g.bucket
	need := d.tried
	if b.line.head != nil {
		need = b.line.head.n
	}
	wanting := need > 0 && b.rate > 0 && !d.has(need, now)
	// A call may take several draws to pay for; the rest is of use in its time alone.
	pays := min(d.credit, max(0, float64(need)/d.part()-float64(need)))
	useless := d.credit > 0 && b.rate == 0 || d.credit > pays+tiny && now >= d.until
	at = d.counted + d.terms.Every
	due = now >= at || d.told != d.g.share
	ready := d.again
	if next, some := b.next(); some {
		ready = max(ready, next) // what the bucket does not let through yet is not drawn yet
	}
	drawing := wanting && now >= ready
	switch {
	case drawing, useless:
		due = true
	case wanting:
		at = min(at, ready)
	}
	if d.credit > pays+tiny {
		at = min(at, d.until)
	}
	if !due {
		return Draw{}, false, at
	}
	kept := d.credit
	switch {
	case drawing:
		d.learn(true)
		kept = pays
		want := float64(max(need, b.line.tokens, d.ahead)) / d.part()
		ask.Need, ask.Want, d.tried = need, int(math.Ceil(min(want, math.MaxInt32))), 0
	case useless:
		d.learn(wanting)
		kept = pays
		if b.rate == 0 {
			kept = 0
		}
	}
	ask.Unused, ask.Share = d.credit-kept, d.g.share
	d.credit, d.counted, d.told = kept, now, ask.Share
	d.returned += ask.Unused
	return ask, true, at
}

// learn ends the use of what was drawn last. Where more is wanted within its time,
// twice as much is drawn ahead the next time; else as much as was used.
func (d *drawer) learn(more bool) {
	switch {
	case d.last > 0 && more:
		d.ahead = min(2*d.last, math.MaxInt32)
	case d.last > 0:
		d.ahead = max(1, d.last-d.fresh)
	}
	d.last, d.fresh = 0, 0
}

// take takes in what a draw brought that was sent at a time.
func (d *drawer) take(sent time.Duration, ask Draw, got Drawn) error {
	now := d.lock()
	defer d.g.mu.Unlock()
	if ask.Need == 0 {
		d.draws[DrawPresence]++
		return nil
	}
	d.again = now + got.Wait
	if got.Tokens == 0 {
		d.draws[DrawTooEarly]++
		return nil
	}
	d.draws[DrawGranted]++
	d.drawn += uint64(got.Tokens)
	d.last, d.fresh, d.credit = got.Tokens, got.Tokens, d.credit+float64(got.Tokens)
	d.until = sent + d.terms.Hold
	if now < d.until {
		d.late = 0
	} else if d.late++; d.late == 1 {
		d.lateFrom = sent
	} else if d.late >= mostLate && now-d.lateFrom >= longestLate {
		return errTooLate
	}
	if !d.g.closed {
		d.g.settle(now)
	}
	return nil
}

// part is the part of what was drawn that may be used: the scale, or all of it
// where the floor is above what the scale leaves.
func (d *drawer) part() float64 {
	if scale := d.g.scale(); d.g.BasePerSecond*scale >= d.g.FloorPerSecond && scale > 0 {
		return scale
	}
	return 1
}

// has reports whether n tokens were drawn that may be used now.
func (d *drawer) has(n int, now time.Duration) bool {
	return now < d.until && n <= d.fresh && float64(n) <= d.credit*d.part()+tiny
}

// ready reports whether n tokens may be used now, by the shared budget.
func (d *drawer) ready(n int, now time.Duration) bool {
	return d.state == SharedOwnShare || d.state == SharedConnected && d.has(n, now)
}

// used takes n tokens away.
func (d *drawer) used(n int) {
	if d.state == SharedConnected {
		d.fresh -= n
		d.credit = max(0, d.credit-float64(n)/d.part())
	}
}

// next is when the gate is to look again that would by itself at a time.
func (d *drawer) next(now, at time.Duration, some bool) (time.Duration, bool) {
	switch d.state {
	case SharedLost:
		return d.fallsAt, d.fallsAt < never
	case SharedConnected:
		return at, some && d.has(d.g.bucket.line.head.n, now)
	}
	return at, some
}

// ring lets the drawer look again.
func (d *drawer) ring() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}
