package scaler

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/scaler/replicas"
	"github.com/headgate/headgate/scaler/trigger"
)

// row is one trigger of one ScaledObject, and what the scaler makes of it. It
// may be used by several goroutines at once.
type row struct {
	object   string // namespace/name
	metadata map[string]string
	log      *slog.Logger

	mu      sync.Mutex
	trigger trigger.Trigger
	wrong   error // of the metadata
	chooser chooser
	fleet   *replicas.Fleet // nil where the metric sizes none
	stepped time.Time       // when the fleet last saw a view
	view    uint64          // the number of the view that outcome is made of
	outcome outcome
	cause   replicas.Cause // of the last plan that could be made
	bound   seldom.Condition
	told    told // what was last answered
	used    time.Time
	streams int // open ones
	bites   func(replicas.Cause)
}

// outcome is what one view makes of a trigger.
type outcome struct {
	err    error // instead of all else
	ids    []string
	asOf   time.Time
	load   load // of all coordinators, or of the one that decided
	plan   replicas.Plan
	cause  replicas.Cause // empty where the metric is made by no arithmetic
	value  float64
	active bool
}

// configure gives the row its trigger, or a new one; what was learnt stays.
func (r *row) configure(defaults trigger.Defaults) {
	t, err := trigger.Parse(r.metadata, defaults, r.object)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trigger, r.wrong, r.view = t, err, 0
	switch {
	case err != nil || !t.Sizes:
		r.fleet = nil
	case r.fleet == nil:
		r.fleet = replicas.NewFleet(t.Replicas)
	default:
		r.fleet.Configure(t.Replicas)
	}
}

// refresh takes a view in, once. r.mu is held.
func (r *row) refresh(view *View, now time.Time, stale time.Duration) {
	if r.wrong != nil || r.view == view.Number && r.view != 0 {
		return
	}
	r.view, r.outcome = view.Number, r.look(view, now, r.limit(stale))
	o := &r.outcome
	if o.cause == "" {
		return // no plan could be made; what is known of the last one stands
	}
	if o.cause != r.cause {
		r.cause = o.cause
		r.bites(o.cause)
	}
	r.tellBound(now)
}

// tellBound logs whether the store is the limit, where that changed.
func (r *row) tellBound(now time.Time) {
	o := &r.outcome
	if leftOut, tell := r.bound.Now(now, o.plan.StoreBound); tell {
		r.log.Info("store-bound guard", "scaled_object", r.object, "metric", r.trigger.Metric, "store_bound", o.plan.StoreBound,
			"replicas", len(o.load.writers), figures.Attr("drain_per_second", o.load.drain), figures.Attr("depth", o.load.depth),
			"left_out", leftOut)
	}
}

// limit is the age at which the trigger's samples are stale.
func (r *row) limit(stale time.Duration) time.Duration {
	if r.trigger.StaleAfter > 0 {
		return r.trigger.StaleAfter
	}
	return stale
}

// look makes an outcome of a view.
func (r *row) look(view *View, now time.Time, stale time.Duration) outcome {
	t := &r.trigger
	chosen, err := r.chooser.choose(view, t, now, stale)
	if err != nil {
		return outcome{err: err}
	}
	o := outcome{ids: chosen.ids, asOf: chosen.asOf, load: together(chosen.loads)}
	if now.Sub(o.asOf) > stale {
		return o // it is told when somebody asks; the fleet must not learn from it
	}
	if t.Sizes {
		return r.size(o, now)
	}
	if t.Aggregation == trigger.Sum {
		o.value, o.err = o.load.value(t)
	} else {
		o.value = math.Inf(-1)
		for _, l := range chosen.loads {
			v, err := l.value(t)
			if err != nil {
				return outcome{err: err}
			}
			if v > o.value {
				o.value, o.load = v, l
			}
		}
	}
	o.active = o.value > t.Activation
	return o
}

// size lets the fleet see the load.
func (r *row) size(o outcome, now time.Time) outcome {
	t, s := &r.trigger, o.load.signals()
	elapsed := time.Duration(0)
	if !r.stepped.IsZero() {
		elapsed = now.Sub(r.stepped)
	}
	r.stepped = now
	plan, ok := r.fleet.Step(elapsed, s)
	switch {
	case !ok:
		return outcome{err: missing(t, "the arrivals: two samples of what every replica has accepted")}
	case t.Metric == trigger.RelativePressure && !o.load.levelKnown:
		return outcome{err: missing(t, "the level, or the capacity")}
	}
	o.plan = plan
	if t.Metric == trigger.RelativePressure {
		o.value, o.cause = replicas.Relative(plan, s, t.Replicas.StepBack)
		o.active = s.Depth > t.Activation || s.ArrivalsPerSecond > 0
		return o
	}
	o.value, o.cause = float64(plan.Replicas), plan.Cause
	o.active = o.value > t.Activation
	return o
}

// told is what was answered to a question.
type told struct {
	at      time.Time // zero before the first question
	trigger trigger.Trigger
	outcome outcome
	err     error // instead of a value
}

// answer makes of the view what there is to tell now, and keeps it. The error
// is what the metadata or the signals lack.
func (r *row) answer(view *View, now time.Time, stale time.Duration) (value float64, active bool, name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = now
	r.told = told{at: now, err: r.wrong}
	if r.wrong != nil {
		return 0, false, "", r.wrong
	}
	r.refresh(view, now, stale)
	o, limit := &r.outcome, r.limit(stale)
	err = o.err
	if age := now.Sub(o.asOf); err == nil && age > limit {
		err = fmt.Errorf("%w of %v: it is %v old", errStale, limit, age.Round(time.Millisecond))
	}
	r.told.trigger, r.told.outcome, r.told.err = r.trigger, *o, err
	return o.value, o.active, r.trigger.Name, err
}
