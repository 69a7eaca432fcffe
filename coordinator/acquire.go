package coordinator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// Acquire takes n tokens from a provider's bucket. It waits in line for them,
// first come first served, until ctx ends; a call that ends so leaves nothing
// behind. A change of the rate counts at once for those who wait too. A call
// that need not wait takes no lock and allocates nothing.
//
// It fails at once with ErrUnknownProvider, with ErrAboveBurst for an n that
// the bucket can never hold, with an *invalid.Value for an n below 1, and with
// an *UnavailableError while the provider's breaker is open or its global
// scope cools down; those who wait when that begins get it too.
func (c *Coordinator) Acquire(ctx context.Context, provider string, n int) error {
	g := c.gates.Load().find(provider)
	if g == nil {
		return errUnknown(provider)
	}
	if g.bucket.pass(n, c.now()) == passed {
		return nil
	}
	return g.acquire(ctx, n)
}

// TryAcquire takes n tokens from a provider's bucket if they are there now and
// nobody waits for them, and fails with ErrNoTokens if not. Otherwise it is as
// Acquire. That there were too few is not counted as a refusal: who tries may
// try very often.
func (c *Coordinator) TryAcquire(provider string, n int) error {
	g := c.gates.Load().find(provider)
	if g == nil {
		return errUnknown(provider)
	}
	switch g.bucket.pass(n, c.now()) {
	case passed:
		return nil
	case tooFew:
		return ErrNoTokens
	}
	return g.tryAcquire(n)
}

// acquire takes n tokens, waiting for them if need be.
func (g *gate) acquire(ctx context.Context, n int) error {
	if n < 1 {
		return errTooFewAsked(n)
	}
	g.mu.Lock()
	now := g.c.now()
	if granted, err := g.take(n, now); granted || err != nil {
		g.openIfMay(now)
		g.mu.Unlock()
		return err
	}
	w := g.waiters.Get().(*waiter)
	w.n, w.since = n, now
	g.bucket.line.join(w)
	g.counts.waited++
	g.fit(now)
	g.arm(now)
	g.mu.Unlock()

	var err error
	select {
	case err = <-w.result:
	case <-ctx.Done():
		err = g.giveUp(ctx, w)
	}
	g.waiters.Put(w)
	return err
}

// giveUp takes a waiter out of the line, unless it was served or refused in the
// same moment.
func (g *gate) giveUp(ctx context.Context, w *waiter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.inLine {
		return <-w.result
	}
	g.bucket.line.leave(w)
	g.counts.refused[RefusedCancelled]++
	g.settle(g.c.now()) // those behind it may want less
	return fmt.Errorf("acquire %d tokens of %s: %w", w.n, g.Name, ctx.Err())
}

// tryAcquire takes n tokens if they are there.
func (g *gate) tryAcquire(n int) error {
	if n < 1 {
		return errTooFewAsked(n)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.c.now()
	granted, err := g.take(n, now)
	if !granted && err == nil {
		err = ErrNoTokens
		if g.drawer != nil {
			g.drawer.tried = n
			g.drawer.ring()
		}
	}
	g.openIfMay(now)
	return err
}

func errTooFewAsked(n int) error { return invalid.New("tokens", n, "a whole number >= 1") }

// take takes n tokens, at least one, if they are there and nobody waits, and
// leaves the bucket shut. g.mu is held, as in all that follows.
func (g *gate) take(n int, now time.Duration) (granted bool, err error) {
	if err := g.admits(n, now); err != nil {
		g.counts.refused[refusal(err)]++
		return false, err
	}
	g.bucket.shut()
	if g.drawer != nil && !g.drawer.ready(n, now) {
		return false, nil
	}
	granted = g.bucket.take(n, now)
	if granted {
		g.granted(n, 0, now)
	}
	return granted, nil
}

// admits says whether a call for n tokens may come in at all.
func (g *gate) admits(n int, now time.Duration) error {
	if n > g.Burst && !g.closed {
		return &aboveBurstError{provider: g.Name, n: n, burst: g.Burst}
	}
	return g.barred(now)
}

// barred says why nobody may come in now, if so.
func (g *gate) barred(now time.Duration) error {
	if g.closed {
		return ErrClosed
	}
	if until, cooling := g.coolDowns[GlobalScope]; cooling && until > now {
		return &UnavailableError{Provider: g.Name, Why: ErrCoolingDown, RetryAfter: until - now}
	}
	if g.breakerOpen() {
		return &UnavailableError{Provider: g.Name, Why: ErrBreakerOpen, RetryAfter: g.breaker.RemainingDelay()}
	}
	return nil
}

// openIfMay lets calls take tokens without the lock if nobody waits, nothing bars
// the way, nobody wants to see each grant in its order, and the bucket is not the
// only place from which tokens come.
func (g *gate) openIfMay(now time.Duration) {
	if g.bucket.line.n == 0 && g.c.observe == nil && g.drawer == nil && g.barred(now) == nil {
		g.bucket.open()
	}
}

// granted counts n tokens that were given away, and tells the observer.
func (g *gate) granted(n int, waited, now time.Duration) {
	g.counts.grantedCalls++
	g.counts.grantedTokens += uint64(n)
	if g.drawer != nil {
		g.drawer.used(n)
	}
	if waited > 0 {
		g.wait.Observe(waited.Seconds())
	}
	if g.c.observe != nil {
		g.c.observe(Grant{
			At: g.c.started.Add(now), Provider: g.Name, N: n, Waited: waited,
			RatePerSecond: g.bucket.rate, Burst: g.Burst,
		})
	}
}

// settle lets through whom it can, sets the timer for what comes next, and opens
// the bucket where it may.
func (g *gate) settle(now time.Duration) {
	for w := g.first(now); w != nil; w = g.first(now) {
		g.granted(w.n, now-w.since, now)
		w.result <- nil
	}
	g.arm(now)
	g.openIfMay(now)
}

// first takes the first one out of the line if its tokens are there.
func (g *gate) first(now time.Duration) *waiter {
	if w := g.bucket.line.head; w == nil || g.drawer != nil && !g.drawer.ready(w.n, now) {
		return nil
	}
	return g.bucket.serveFirst(now)
}

// refuseWaiting tells all who wait that they will not be served.
func (g *gate) refuseWaiting(err error) {
	for w := g.bucket.line.head; w != nil; w = g.bucket.line.head {
		g.bucket.line.leave(w)
		w.result <- err
		g.counts.refused[refusal(err)]++
	}
}

// bar shuts the bucket and refuses those who wait if the breaker or a cool-down
// now holds calls off.
func (g *gate) bar(now time.Duration) {
	if err := g.barred(now); err != nil {
		g.bucket.shut()
		g.refuseWaiting(err)
		g.arm(now)
	}
}

// rest is how long a bucket that was parked is to wait before it fills again.
func (g *gate) rest() time.Duration {
	return time.Duration(rand.Float64() * float64(g.ResumeJitter))
}
