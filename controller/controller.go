// Package controller closes the slow loop. At every tick it reads one snapshot
// of all coordinators from Prometheus, turns each target's signals into a
// level, the level into a scale by the provider's law, limits it by the guard,
// puts it on the provider under a lease, reads back what is in force, and
// keeps a record that explains the decision.
//
// When signals are gone the last scale is renewed until they are older than
// the target's stale limit, and the target's fail mode holds from then on.
// Missing is never OK and never 0.
package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/controller/shard"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/metrics"
)

// Reader reads one snapshot of every coordinator. It is called by one
// goroutine at a time.
type Reader interface {
	Read(context.Context) (metrics.Snapshot, error)
}

// Config says how the loop runs, whatever its targets.
type Config struct {
	Interval     time.Duration // from one tick to the next, > 0
	QueryTimeout time.Duration // that a read of the signals may take, > 0; longer than Interval is fine
	ApplyTimeout time.Duration // that a coordinator may take to answer, > 0; half an Interval at most counts
	Holder       string        // under which the leases are held; unique among the controllers
	Decisions    int           // kept for each target, > 0; fewer where all together were more than 20,000
	Tracer       trace.Tracer  // of the spans of each tick; nil is none

	// Shard is which part of all targets those of this controller are; there may
	// be none in it.
	Shard shard.Shard

	// Phase is when the ticks begin, counted from whole intervals of the clock,
	// so that those of several controllers can be held apart; in [0, Interval).
	// The first tick does not wait for it.
	Phase time.Duration
}

func (c Config) validate() error {
	var errs []error
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"interval", c.Interval}, {"query_timeout", c.QueryTimeout}, {"apply_timeout", c.ApplyTimeout}} {
		if d.value <= 0 {
			errs = append(errs, invalid.New(d.field, d.value, "a duration > 0"))
		}
	}
	if c.Phase < 0 || c.Phase > 0 && c.Phase >= c.Interval {
		errs = append(errs, invalid.New("phase", c.Phase, "a duration >= 0 and less than the interval"))
	}
	if c.Holder == "" {
		errs = append(errs, invalid.Missing("holder", "a name"))
	}
	if c.Decisions <= 0 {
		errs = append(errs, invalid.New("decisions", c.Decisions, "a whole number > 0"))
	}
	return errors.Join(errs...)
}

// Controller is the loop. Run runs it once; its other methods may be called
// at any time by any goroutine.
type Controller struct {
	config  Config
	reader  Reader
	log     *slog.Logger
	metrics *instruments
	spans   spans

	// The following belong to the goroutine of Run.
	lines    []*line
	outlets  []*outlet
	view     view
	reads    chan readResult
	inFlight bool      // a read is under way
	nextRead time.Time // not before; after an error
	backOff  *backoff.ExponentialBackOff
	failing  string // the error of the last read; empty where it succeeded
	unread   seldom.Condition
	sequence uint64 // of the last lease

	turn int // of the suspects, who is asked first at the next tick

	mu    sync.RWMutex // guards what follows
	ready bool         // there was a snapshot
	rows  []*row       // of the targets, in their order

	health Health
	ticked chan struct{} // closed and made anew at the end of each tick
}

// row is what is published of a target.
type row struct {
	target    Target
	counts    counts
	decisions ring
	latest    []*Decision // of each provider, in their order; nil before the first
}

// slots is how many coordinators are talked to at once of those that answered the
// last time, and of those that did not.
const slots = 64

// mostKept is how many decisions are kept of all targets together, however many
// of each it is to be; the last one of each is kept in any case.
const mostKept = 20_000

// longestBackOff is the most between two reads while Prometheus fails, in
// intervals and before the jitter of up to half of it. It is short, for one query
// is little, and what fails on a read is back within three ticks after Prometheus.
const longestBackOff = 2

// New returns a controller of the targets. The error joins an *invalid.Value
// for everything that is wrong with them or the configuration.
func New(config Config, reader Reader, targets []Target, log *slog.Logger) (*Controller, error) {
	errs := []error{config.validate(), validateAll(targets)}
	if len(targets) == 0 && config.Shard.Only() {
		errs = append(errs, invalid.Missing("targets", "at least one target"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c := &Controller{
		config: config, reader: reader, log: log, metrics: newInstruments(), spans: spans{tracer: config.Tracer},
		reads:   make(chan readResult, 1),
		backOff: backoff.NewExponentialBackOff(),
		ticked:  make(chan struct{}),
	}
	c.backOff.InitialInterval = config.Interval
	c.backOff.MaxInterval = longestBackOff * config.Interval
	c.backOff.Multiplier = 2
	c.backOff.Reset()
	kept := min(config.Decisions, mostKept/max(1, len(targets)))
	for _, t := range targets {
		c.rows = append(c.rows, &row{
			target: t, counts: counts{applyErrors: make([][len(applyFaults)]uint64, len(t.Providers))},
			decisions: newRing(max(kept, len(t.Providers))),
		})
	}
	return c, nil
}

// Run ticks until ctx ends, and returns nil then. The leases in force are left
// to expire, so that the providers go to their fail modes or to a standby.
func (c *Controller) Run(ctx context.Context) error {
	c.begin(time.Now())
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	begin := time.NewTimer(c.config.untilPhase(time.Now()))
	defer begin.Stop()
	c.tick(ctx, &reading)
	select {
	case <-begin.C:
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(c.config.Interval)
	defer ticker.Stop()
	for {
		c.tick(ctx, &reading)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// untilPhase is the time until the ticks begin, more than 0 and at most an
// interval.
func (c Config) untilPhase(now time.Time) time.Duration {
	into := time.Duration(now.UnixNano() % int64(c.Interval)) // since the last whole interval
	until := c.Phase - into
	if until <= 0 {
		until += c.Interval
	}
	return until
}

// begin makes the lines of the targets that are not disabled, and the outlets
// that they share.
func (c *Controller) begin(now time.Time) {
	outlets := map[outletKey]*outlet{}
	for _, row := range c.rows {
		if row.target.Disabled {
			continue
		}
		l := newLine(&row.target, now)
		c.lines = append(c.lines, l)
		for _, p := range l.throttles {
			key := p.Provider.key()
			if first := outlets[key]; first != nil {
				p.outlet = first
				continue
			}
			outlets[key] = p.outlet
			c.outlets = append(c.outlets, p.outlet)
		}
	}
}

// tick takes at most an interval: half of it for the signals, and half for
// the coordinators.
func (c *Controller) tick(ctx context.Context, reading *sync.WaitGroup) {
	start := time.Now()
	ctx, span := c.spans.start(ctx, "tick")
	defer span.End()
	c.look(ctx, reading)
	if ctx.Err() != nil {
		return
	}
	_, deciding := c.spans.start(ctx, "decide")
	decisions, all := c.decide(time.Now())
	decided := time.Now()
	c.spans.choose(span, all)
	c.apply(ctx, all)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	for _, a := range all {
		c.settle(ctx, now, a)
	}
	c.spans.decided(deciding, decided, decisions)
	c.publish(decisions)
	c.metrics.tick.Observe(time.Since(start).Seconds())
	c.ended(start)
}

// decide makes the decisions of all lines from the view, in the order of the
// targets and their providers, and says what is to be done about them.
func (c *Controller) decide(now time.Time) ([]*Decision, []*application) {
	var decisions []*Decision
	for _, o := range c.outlets {
		o.sources = o.sources[:0]
	}
	for _, l := range c.lines {
		for i, d := range l.decide(now, c.view) {
			p := l.throttles[i]
			p.outlet.sources = append(p.outlet.sources, source{l, p, d})
			decisions = append(decisions, d)
		}
	}
	all := make([]*application, len(c.outlets))
	applications := make([]application, len(c.outlets)) // one piece of memory, for there may be many
	for i, o := range c.outlets {
		applications[i] = c.application(now, o)
		all[i] = &applications[i]
	}
	return decisions, all
}

// readResult is what came of one read.
type readResult struct {
	snapshot metrics.Snapshot
	err      error
	at       time.Time
}

// look brings the view up to date. A read that is slow goes on beside the
// ticks, so that the leases are renewed while it does; there is one at a time.
func (c *Controller) look(ctx context.Context, reading *sync.WaitGroup) {
	c.view.fresh = false
	select {
	case r := <-c.reads:
		c.take(ctx, r)
	default:
	}
	now := time.Now()
	if !c.inFlight && now.Before(c.nextRead) {
		return
	}
	if !c.inFlight {
		c.inFlight = true
		c.metrics.queries.Inc()
		ctx, span := c.spans.start(ctx, "query")
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, c.config.QueryTimeout)
			defer cancel()
			snapshot, err := c.reader.Read(ctx)
			queried(span, snapshot, err)
			c.reads <- readResult{snapshot, err, time.Now()}
		})
	}
	patience := time.NewTimer(c.config.Interval / 2)
	defer patience.Stop()
	select {
	case r := <-c.reads:
		c.take(ctx, r)
	case <-patience.C:
		if !c.view.fresh {
			c.view.fault, c.view.detail = FaultQueryPending, "Prometheus has not answered yet"
		}
	case <-ctx.Done():
	}
}

// take makes a read's result the view.
func (c *Controller) take(ctx context.Context, r readResult) {
	c.inFlight = false
	c.answered(r)
	if r.err != nil {
		c.metrics.queryErrors.Inc()
		c.nextRead = time.Now().Add(c.backOff.NextBackOff())
		c.view.fresh = false
		c.view.fault, c.view.detail = FaultQueryFailed, "Prometheus could not be read: "+r.err.Error()
		c.failing = r.err.Error()
		if leftOut, tell := c.unread.Now(r.at, true); tell {
			c.log.WarnContext(ctx, "signals cannot be read", "error", r.err, "left_out", leftOut)
		}
		return
	}
	if _, tell := c.unread.Now(r.at, false); tell {
		c.log.InfoContext(ctx, "signals are read again", "last_error", c.failing)
	}
	c.failing = ""
	c.backOff.Reset()
	c.nextRead = time.Time{}
	c.metrics.queryWarnings.Add(float64(r.snapshot.Warnings))
	c.view = view{snapshot: r.snapshot, fresh: true, at: r.at}
	c.mu.Lock()
	c.ready = true
	c.mu.Unlock()
}

// nextSequence rises by at least one, and also across restarts: it follows
// the wall clock in microseconds.
func (c *Controller) nextSequence(now time.Time) uint64 {
	c.sequence = max(c.sequence+1, uint64(max(0, now.UnixMicro())))
	return c.sequence
}

// publish shows the decisions of a tick to those who ask, and counts them.
func (c *Controller) publish(decisions []*Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	for _, row := range c.rows {
		if row.target.Disabled {
			continue
		}
		latest := make([]*Decision, 0, len(row.target.Providers))
		for p := range row.target.Providers {
			row.counts.add(p, decisions[i])
			latest = append(latest, decisions[i])
			row.decisions.add(decisions[i])
			i++
		}
		row.latest = latest
	}
}

// Decisions returns up to limit decisions, the newest first: of the named
// target, or of all where the name is empty. It reports whether there is such
// a target.
func (c *Controller) Decisions(target string, limit int) ([]*Decision, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []*Decision
	found := target == ""
	for _, row := range c.rows {
		if target == "" || row.target.Name == target {
			found = true
			all = append(all, row.decisions.last(limit)...)
		}
	}
	if target == "" {
		slices.SortStableFunc(all, func(a, b *Decision) int {
			return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Target, b.Target))
		})
	}
	all = all[:min(limit, len(all))]
	for i, d := range all {
		if d.Explanation == "" {
			explained := *d
			explained.Explanation = d.Explain()
			all[i] = &explained
		}
	}
	return all, found
}

// Ready reports whether there ever was a snapshot.
func (c *Controller) Ready() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.ready {
		return errors.New("no snapshot was read yet")
	}
	return nil
}
