package controller

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/headgate/headgate/controller/headroom"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/seldom"
)

// drains remembers the least and the most that a store took, over an hour or a
// little more, while so much waited that it had to work.
type drains struct {
	hours   [6]extremes // of ten minutes each, the newest first
	began   time.Time   // hours[0]
	waiting bool        // at the sample before, too
}

type extremes struct {
	least, most float64
	known       bool
}

const drainSpan = 10 * time.Minute

// saw takes in a new sample, measured over the time since the one before.
func (d *drains) saw(now time.Time, depth, enough, perSecond float64) {
	if passed := now.Sub(d.began); passed >= drainSpan {
		n := min(int(passed/drainSpan), len(d.hours))
		copy(d.hours[n:], d.hours[:len(d.hours)-n])
		clear(d.hours[:n])
		d.began = now
	}
	waited := d.waiting
	d.waiting = depth >= enough
	if !waited || !d.waiting || math.IsNaN(perSecond) {
		return
	}
	e := &d.hours[0]
	if !e.known {
		*e = extremes{perSecond, perSecond, true}
		return
	}
	e.least, e.most = min(e.least, perSecond), max(e.most, perSecond)
}

// span is the least and the most of the whole time.
func (d *drains) span() (all extremes) {
	for _, e := range d.hours {
		switch {
		case !e.known:
		case !all.known:
			all = e
		default:
			all.least, all.most = min(all.least, e.least), max(all.most, e.most)
		}
	}
	return all
}

// room is what is known of a provider's headroom. Where several coordinators are
// observed it is that of the worst at each moment.
type room struct {
	drains  drains
	items   Number // what is left at the worst that was seen; NaN while that is not known
	checked time.Time
	began   bool // the start was reported
	first   bool // what was seen of the store was reported once
	short   seldom.Condition
	news    *roomNews
}

// roomNews is a report that an operator should hear of.
type roomNews struct {
	report  headroom.Report
	basis   string // of the store's least drain
	leftOut int    // reports before it
}

// checkEvery is how often the headroom is worked out anew.
const checkEvery = time.Minute

// look works the headroom out where it is due and all of it is known. Least and
// most drain are those seen; for the report at the start the store is one that
// may stop altogether.
func (r *room) look(now time.Time, p *throttle, in policy.Input) {
	if in.Fresh {
		enough := max(1, min(0.1*in.Thresholds.SoftEnter, 0.5*policy.ActsAt(p.Law, in)))
		r.drains.saw(now, in.Depth, enough, in.DrainPerSecond)
	}
	if !r.checked.IsZero() && now.Sub(r.checked) < checkEvery || in.DeadTime <= 0 {
		return
	}
	c := headroom.Case{
		Capacity: in.Capacity, BasePerSecond: in.BasePerSecond, FloorPerSecond: in.FloorPerSecond,
		MostDrainPerSecond: in.BasePerSecond, DeadTime: in.DeadTime, Thresholds: in.Thresholds, Law: p.Law,
	}
	if !r.began {
		if report, err := headroom.Check(c); err == nil { // an error is that something is not known
			r.began = true
			r.news = &roomNews{report: report, basis: "a store that stops altogether"}
		}
	}
	seen := r.drains.span()
	if !seen.known {
		r.items = Number(math.NaN())
		return
	}
	c.LeastDrainPerSecond, c.MostDrainPerSecond = seen.least, seen.most
	report, err := headroom.Check(c)
	if err != nil {
		return
	}
	r.checked, r.items = now, Number(report.Items)
	leftOut, tell := r.short.Now(now, !report.Holds())
	if tell || !r.first {
		r.first = true
		r.news = &roomNews{report, "the least that the store took in the last hour", leftOut}
	}
}

// tell logs a report once, as a warning where items may be lost.
func (r *room) tell(ctx context.Context, log *slog.Logger, d *Decision) {
	if r.news == nil {
		return
	}
	news := r.news
	r.news = nil
	level, message := slog.LevelInfo, "headroom: the queue need not overflow"
	if !news.report.Holds() {
		level, message = slog.LevelWarn, "headroom: the queue may overflow"
	}
	attrs := []any{"target", d.Target, "provider", d.Provider, "basis", news.basis, "headroom_items", news.report.Items,
		"left_out", news.leftOut}
	for _, f := range news.report.Findings {
		if !f.Holds || f.Kind == headroom.KindOverflow {
			attrs = append(attrs, string(f.Kind), f.Arithmetic)
		}
	}
	log.Log(ctx, level, message, attrs...)
}
