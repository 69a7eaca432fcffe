package coordinator

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/pressure"
)

// Owner says who put a scale on a provider. Each owner has one scale in force
// at most, and the lowest of them counts.
type Owner string

const (
	OwnerFastLoop   Owner = "fast_loop"  // the feedback of a queue
	OwnerController Owner = "controller" // the holder of the lease
	OwnerOperator   Owner = "operator"   // somebody's override

	// ownerStartUp is the provider itself, until the first decision or event.
	ownerStartUp Owner = "start_up"
)

// owners lists all owners in the order in which states show them.
func owners() []Owner {
	return []Owner{ownerStartUp, OwnerFastLoop, OwnerController, OwnerOperator}
}

// Reasons of scales that the coordinator makes itself.
const (
	reasonStartUp      = "start_up: no decision or event yet"
	reasonLeaseExpired = "lease_expired"
)

// ScaleRequest asks for a scale in force.
type ScaleRequest struct {
	Owner Owner

	// Holder is who asks: the controller that holds the lease, or the operator
	// by name. 1 to 256 bytes; not looked at for the fast loop.
	Holder string

	// Sequence rises with every request of a controller, from 1 on. It is not
	// looked at for the other owners.
	Sequence uint64

	Scale float64 // clamped to [0, 1]; NaN and the infinities are refused

	// Share is the part of the base rate that is this replica's, where several
	// share one budget: in (0, 1], and 0 stands for 1, but for the share as it is
	// where the replica draws from a SharedBudget. It is a controller's to set.
	// Unlike the scale it lasts beyond the lease, until the next one.
	Share float64

	Level  pressure.Level // what the owner makes of the pressure
	Reason string         // for people; at most 1024 bytes, an operator must give one

	// TTL is how long the scale lasts without another request. The fast loop
	// may leave it 0, for ever; the others may not.
	TTL time.Duration
}

const (
	longestReason = 1024
	longestTTL    = 7 * 24 * time.Hour
	wantScale     = "a number in [0, 1]"
	wantShare     = "a number in (0, 1]"
	wantTTL       = "a duration above 0 and at most 168h"
)

// Validate reports every field that is out of its range, joined. A scale
// outside of [0, 1] is none of them: it is clamped.
func (r ScaleRequest) Validate() error {
	var errs []error
	refuse := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, invalid.New(field, got, want))
		}
	}
	refuse(math.IsNaN(r.Scale) || math.IsInf(r.Scale, 0), "scale", r.Scale, wantScale)
	refuse(!(r.Share >= 0 && r.Share <= 1), "share", r.Share, wantShare)
	refuse(r.Share != 0 && r.Owner != OwnerController, "share", r.Share, "none: the share is a controller's to set")
	refuse(!r.Level.Known(), "level", uint8(r.Level), "ok, soft or hard")
	refuse(len(r.Reason) > longestReason, "reason", r.Reason, "at most 1024 bytes")
	switch r.Owner {
	case OwnerFastLoop:
		refuse(r.TTL < 0 || r.TTL > longestTTL, "ttl", r.TTL, "a duration from 0 to 168h")
	case OwnerController:
		refuse(r.Sequence == 0, "sequence", r.Sequence, "a whole number >= 1")
	case OwnerOperator:
		refuse(r.Reason == "", "reason", r.Reason, "why the override is needed")
	default:
		refuse(true, "owner", string(r.Owner), "fast_loop, controller or operator")
	}
	if r.Owner == OwnerController || r.Owner == OwnerOperator {
		refuse(r.Holder == "" || len(r.Holder) > longestName, "holder", r.Holder, wantName)
		refuse(r.TTL <= 0 || r.TTL > longestTTL, "ttl", r.TTL, wantTTL)
	}
	return errors.Join(errs...)
}

// entry is one owner's scale in force. Times are on the coordinator's clock.
type entry struct {
	holder   string // empty where nobody holds a lease
	sequence uint64
	scale    float64
	level    pressure.Level
	reason   string
	since    time.Duration
	expires  time.Duration // 0 is never
}

// scale is the lowest of the scales in force, 1 where there is none. g.mu is
// held, as in all that follows.
func (g *gate) scale() float64 {
	lowest := 1.0
	for _, e := range g.scales {
		lowest = min(lowest, e.scale)
	}
	return lowest
}

// level is the worst level that an owner tells.
func (g *gate) level() pressure.Level {
	worst := pressure.OK
	for _, e := range g.scales {
		worst = max(worst, e.level)
	}
	return worst
}

// apply puts a valid request in force, unless another lease forbids it.
func (g *gate) apply(r ScaleRequest) error {
	if g.closed {
		return ErrClosed
	}
	now := g.c.now()
	g.expire(now)
	r.Scale = clamp(r.Scale)
	shareBefore := g.share
	if r.Owner == OwnerController {
		if r.Share == 0 {
			r.Share = 1
			if g.drawer != nil { // a controller that knows one replica alone leaves it its part
				r.Share = g.share
			}
		}
		repeated, err := g.mayLease(r, now)
		if err != nil {
			g.counts.conflicts++
			return err
		}
		if repeated {
			return nil
		}
		g.remember(r)
		g.share = r.Share
	}
	e := entry{
		holder: r.Holder, sequence: r.Sequence, scale: r.Scale, level: r.Level,
		reason: r.Reason, since: now,
	}
	if r.TTL > 0 {
		e.expires = now + r.TTL
	}
	g.put(r.Owner, e, now, g.share != shareBefore)
	return nil
}

// mayLease says whether a controller's request may come in force, or is the
// one that is in force already.
func (g *gate) mayLease(r ScaleRequest, now time.Duration) (repeated bool, err error) {
	e := g.scales[OwnerController]
	if e.holder != "" && e.holder != r.Holder {
		return false, &ConflictError{Holder: e.holder, Sequence: e.sequence, ExpiresIn: e.expires - now}
	}
	newest, known := g.newestOf(r.Holder)
	switch {
	case !known || r.Sequence > newest.Sequence:
		return false, nil
	case r == newest:
		return true, nil
	}
	return false, &ConflictError{
		Holder: r.Holder, Sequence: newest.Sequence, ExpiresIn: max(0, e.expires-now), Stale: true,
	}
}

// mostHolders is how many holders are remembered. A controller that is started
// again may have another name.
const mostHolders = 32

// newestOf is the newest request of a holder that was in force, if it is
// remembered.
func (g *gate) newestOf(holder string) (ScaleRequest, bool) {
	i := slices.IndexFunc(g.newest, func(r ScaleRequest) bool { return r.Holder == holder })
	if i < 0 {
		return ScaleRequest{}, false
	}
	return g.newest[i], true
}

// remember makes a request the newest of its holder, and forgets the holder whose
// last one is the longest ago where there are too many.
func (g *gate) remember(r ScaleRequest) {
	g.newest = slices.DeleteFunc(g.newest, func(old ScaleRequest) bool { return old.Holder == r.Holder })
	if len(g.newest) == mostHolders {
		g.newest = slices.Delete(g.newest, 0, 1)
	}
	g.newest = append(g.newest, r)
}

// put sets an owner's scale, and is told whether the share was changed with it.
// The first decision or event ends the start.
func (g *gate) put(owner Owner, e entry, now time.Duration, otherShare bool) {
	before := g.scales[owner]
	g.scales[owner] = e
	if owner != OwnerOperator {
		delete(g.scales, ownerStartUp)
	}
	same := before.scale == e.scale && before.level == e.level && before.holder == e.holder
	g.changed(now, !same || otherShare)
}

// remove takes an owner's scale away and reports whether there was one.
func (g *gate) remove(owner Owner) bool {
	_, found := g.scales[owner]
	if found {
		delete(g.scales, owner)
		g.changed(g.c.now(), true)
	}
	return found
}

// changed brings the rate into line with the scales, serves those who wait,
// and tells the watchers where something differs that they would want to know.
func (g *gate) changed(now time.Duration, tell bool) {
	g.fit(now)
	if rate := g.rate(); rate != g.bucket.rate {
		g.bucket.setRate(rate, now, g.rest())
		g.observeRate(now)
		tell = true
	}
	g.settle(now)
	if tell {
		g.version++
		g.c.tell(g.Name)
	}
}

// expire ends the scales whose time is over. An override just ends. A lease
// leaves the fail mode behind, which lasts until the next request.
func (g *gate) expire(now time.Duration) {
	for _, owner := range owners() {
		e, found := g.scales[owner]
		if !found || e.expires == 0 || e.expires > now {
			continue
		}
		if owner == OwnerOperator {
			g.remove(owner)
			g.audit(auditExpired, e, e.holder, e.reason)
			continue
		}
		g.counts.leaseExpiries++
		left := entry{scale: g.failScale(e.scale), level: e.level, reason: reasonLeaseExpired, since: now}
		g.put(owner, left, now, false)
		if leftOut, tell := g.news.leases.Tell(time.Now()); tell {
			g.c.log.Warn("lease ran out, provider falls to its fail mode", "provider", g.Name, "owner", string(owner),
				"holder", e.holder, "fail_mode", string(g.FailMode), "scale", left.scale, "left_out", leftOut)
			g.news.told(g.scale(), g.share, g.level())
		}
	}
}

// clamp brings a number into [0, 1].
func clamp(scale float64) float64 { return min(1, max(0, scale)) }

// Apply puts a request in force and returns the state after it. The same
// request of a controller twice is one change. The error is ErrUnknownProvider,
// a *ConflictError, or joins an *invalid.Value for each wrong field; the state
// is then what it was, and is returned for a conflict too.
func (c *Coordinator) Apply(provider string, r ScaleRequest) (State, error) {
	g, err := c.gate(provider)
	if err != nil {
		return State{}, err
	}
	if err := r.Validate(); err != nil {
		return State{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before, shareBefore := g.scale(), g.share
	if err := g.apply(r); err != nil {
		return g.state(), fmt.Errorf("apply a scale to %s: %w", provider, err)
	}
	if r.Owner == OwnerOperator {
		g.audit(auditSet, g.scales[OwnerOperator], r.Holder, r.Reason)
	} else {
		after := g.scale()
		changed := after != before || g.share != shareBefore
		if leftOut, tell := g.news.look(time.Now(), changed, after, g.share, g.level()); tell {
			c.log.Info("scale changed", "provider", provider, "owner", string(r.Owner), "holder", r.Holder, "requested", r.Scale,
				"scale", after, "share", g.share, "rate_per_second", g.bucket.rate, "reason", r.Reason, "left_out", leftOut)
		}
	}
	return g.state(), nil
}

// ClearOverride ends an operator's override before its time and returns the
// state after it. Who ends it has to be told, and why may be. That there is none
// is no error.
func (c *Coordinator) ClearOverride(provider, who, reason string) (State, error) {
	g, err := c.gate(provider)
	if err != nil {
		return State{}, err
	}
	var errs []error
	if who == "" || len(who) > longestName {
		errs = append(errs, invalid.New("holder", who, wantName))
	}
	if len(reason) > longestReason {
		errs = append(errs, invalid.New("reason", reason, "at most 1024 bytes"))
	}
	if err := errors.Join(errs...); err != nil {
		return State{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(c.now())
	e := g.scales[OwnerOperator]
	if g.remove(OwnerOperator) {
		g.audit(auditCleared, e, who, reason)
	}
	return g.state(), nil
}

// SetScale sets the fast loop's scale of a provider, for ever and clamped to
// [0, 1]; NaN counts as 0, the safe end. An unknown provider is ignored with a
// warning: feedback must not break the one who gives it.
func (c *Coordinator) SetScale(provider string, scale float64) {
	if math.IsNaN(scale) {
		scale = 0
	}
	c.setFast(provider, &c.ignored.scale, func(e *entry) { e.scale, e.reason = clamp(scale), "set_scale" })
}

// SetPressure sets the fast loop's level of a provider. A level that is not
// known counts as OK with a warning, and an unknown provider is ignored with
// one.
func (c *Coordinator) SetPressure(provider string, level pressure.Level) {
	if !level.Known() {
		c.warn(&c.ignored.level, "unknown pressure level counts as OK", "provider", provider, "level", uint8(level))
		level = pressure.OK
	}
	c.setFast(provider, &c.ignored.pressure, func(e *entry) { e.level = level })
}

func (c *Coordinator) setFast(provider string, ignored *seldom.Shared, change func(*entry)) {
	g, err := c.gate(provider)
	if err != nil {
		c.warn(ignored, "feedback for an unknown provider is ignored", "provider", provider)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := c.now()
	e, found := g.scales[OwnerFastLoop]
	if !found {
		e = entry{scale: 1}
	}
	change(&e)
	e.since, e.expires = now, 0
	g.put(OwnerFastLoop, e, now, false)
}
