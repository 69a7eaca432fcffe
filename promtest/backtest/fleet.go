package backtest

import (
	"time"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/promtest/autoscaler"
)

// fleet is the replicas that a ScaledObject would have had.
type fleet struct {
	object scaledObject
	fleet  *autoscaler.Fleet // nil before the first sync
	next   time.Time         // sync

	replicas    int
	counts      []count
	seconds     float64 // replicas times seconds
	passed      time.Duration
	unavailable time.Duration // in which a trigger had no answer
	without     bool          // a trigger has none now
	drawn       curve
}

// count is how many replicas there were from a time on.
type count struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"`
}

// tick lets the time since the tick before go by, shows the triggers a snapshot,
// and syncs where it is time. Where there is no snapshot they keep what they saw.
func (f *fleet) tick(before, now time.Time, snapshot metrics.Snapshot) {
	if !before.IsZero() {
		d := now.Sub(before)
		f.passed += d
		f.seconds += float64(f.replicas) * d.Seconds()
		if f.without {
			f.unavailable += d
		}
	}
	for _, t := range f.object.triggers {
		t.replay.See(now, snapshot)
	}
	if now.Before(f.next) {
		f.drawn.add(now, float64(f.replicas))
		return
	}
	f.next = now.Add(autoscaler.SyncInterval)
	f.without = false
	var told []autoscaler.Answer
	wrote := 0
	for _, t := range f.object.triggers {
		a := autoscaler.Answer{Answer: t.replay.Answer(now), AverageValue: t.averageValue}
		f.without = f.without || a.Error != ""
		wrote = max(wrote, a.Replicas)
		told = append(told, a)
	}
	if f.fleet == nil {
		f.fleet = autoscaler.New(f.object.config, f.object.config.Bounds.Within(wrote, true))
	}
	f.set(now, f.fleet.Sync(now, told))
}

func (f *fleet) set(now time.Time, replicas int) {
	if len(f.counts) == 0 || replicas != f.replicas {
		f.counts = append(f.counts, count{now, replicas})
	}
	f.replicas = replicas
	f.drawn.add(now, float64(replicas))
}
