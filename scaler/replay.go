package scaler

import (
	"log/slog"
	"maps"
	"time"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/scaler/replicas"
	"github.com/headgate/headgate/scaler/trigger"
)

// Replay is one trigger without a server and without a clock: for those who
// know what time it is, because the signals are written down or made up. What
// it answers is what Server would. It belongs to one goroutine.
type Replay struct {
	row        *row
	view       View
	staleAfter time.Duration
}

// NewReplay returns a replay of one trigger of a ScaledObject, given as
// namespace/name, by its metadata over the defaults. A sample older than
// staleAfter is not answered with, where the metadata does not say another age.
// The error joins an *invalid.Value for each key that is wrong.
func NewReplay(scaledObject string, metadata map[string]string, defaults trigger.Defaults, staleAfter time.Duration) (*Replay, error) {
	r := &row{
		object: scaledObject, metadata: maps.Clone(metadata),
		log: slog.New(slog.DiscardHandler), bites: func(replicas.Cause) {},
	}
	r.configure(defaults)
	if r.wrong != nil {
		return nil, r.wrong
	}
	return &Replay{row: r, staleAfter: staleAfter}, nil
}

// See lets the trigger learn from a snapshot that was read at now, which must
// not be before the last one's.
func (r *Replay) See(now time.Time, snapshot metrics.Snapshot) {
	number := r.view.Number + 1
	r.view = viewOf(snapshot, now)
	r.view.Number = number
	r.row.refresh(&r.view, now, r.staleAfter)
}

// Answer is what KEDA would be told at now, and what it is made of.
func (r *Replay) Answer(now time.Time) Answer {
	r.row.answer(&r.view, now, r.staleAfter)
	return r.row.told.describe()
}
