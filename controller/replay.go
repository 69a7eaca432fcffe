package controller

import (
	"context"
	"log/slog"
	"time"

	"github.com/headgate/headgate/metrics"
)

// Replay is the loop without its clock: for those who know what time it is,
// because the signals are written down or made up. The levels, the laws, the
// guards and what becomes of a decision are those of Controller. It belongs to
// one goroutine.
type Replay struct {
	c     *Controller
	began bool
}

// NewReplay returns a replay of the targets. The error is that of New.
func NewReplay(config Config, targets []Target, log *slog.Logger) (*Replay, error) {
	c, err := New(config, nil, targets, log)
	if err != nil {
		return nil, err
	}
	return &Replay{c: c}, nil
}

// Tick is one turn of the loop at now, which must not be before the last one's.
// The snapshot is what was read at this very moment; where readErr is not nil
// it could not be read. The decisions are those of all targets that are not
// disabled, and of each of their providers, in their order. Gates are asked one
// after another, and are held to answer at once.
func (r *Replay) Tick(ctx context.Context, now time.Time, snapshot metrics.Snapshot, readErr error) []*Decision {
	if !r.began {
		r.began = true
		r.c.begin(now)
	}
	if readErr != nil {
		r.c.view.fresh = false
		r.c.view.fault, r.c.view.detail = FaultQueryFailed, "Prometheus could not be read: "+readErr.Error()
	} else {
		r.c.view = view{snapshot: snapshot, fresh: true, at: now}
	}
	decisions, all := r.c.decide(now)
	for _, a := range all {
		a.ask(ctx)
		a.took = 0
		r.c.settle(ctx, now, a)
	}
	for _, d := range decisions {
		d.Explanation = d.Explain()
	}
	return decisions
}
