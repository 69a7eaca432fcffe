// Package paced puts a limit in front of a store: so many rows a second, by a
// profile over time. It stands for a store that others use too, and lets a
// pipeline be rehearsed against one that slows down, stalls and recovers.
package paced

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
)

// Sink hands batches on to another sink, no faster than its capacity allows.
// All callers share the capacity and are served one after another: a batch of
// n rows is handed on when the capacity, summed up since the batch before it,
// has come to n. What the sink behind it takes comes on top. Unused capacity is
// not saved up.
//
// A caller whose context ends leaves without a trace in the sink behind.
type Sink struct {
	next writequeue.Sink
	turn chan struct{} // holds one token; whoever has it is being served

	// freeAt is when the last batch was served. It belongs to whoever has the
	// turn.
	freeAt time.Time

	mu       sync.Mutex
	capacity trace.Trace   // rows/s over time, the last value held for ever
	epoch    time.Time     // what capacity counts from
	changed  chan struct{} // closed and replaced by Set
}

// New returns a sink whose capacity in rows/s follows the profile from now on,
// with the last row held for ever; 0 is a stall. The profile must begin at 0.
func New(next writequeue.Sink, rowsPerSecond trace.Trace) (*Sink, error) {
	if err := validate(rowsPerSecond); err != nil {
		return nil, fmt.Errorf("paced store: %w", err)
	}
	s := &Sink{
		next: next, turn: make(chan struct{}, 1),
		capacity: rowsPerSecond, epoch: time.Now(), changed: make(chan struct{}),
	}
	s.turn <- struct{}{}
	return s, nil
}

// Constant is the profile of a capacity that never changes.
func Constant(rowsPerSecond float64) trace.Trace {
	return trace.Trace{Points: []trace.Point{{Value: rowsPerSecond}}, Interval: time.Second}
}

// Set replaces the profile by another one that begins now. It applies to
// batches that are being served too. On an error nothing changes.
func (s *Sink) Set(rowsPerSecond trace.Trace) error {
	if err := validate(rowsPerSecond); err != nil {
		return fmt.Errorf("paced store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity, s.epoch = rowsPerSecond, time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// RowsPerSecond is the capacity now.
func (s *Sink) RowsPerSecond() float64 {
	rate, _, _ := s.at(time.Now())
	return rate
}

// Write waits until the batch is served and hands it on.
func (s *Sink) Write(ctx context.Context, batch []writequeue.Item) error {
	if err := s.serve(ctx, float64(len(batch))); err != nil {
		return err
	}
	return s.next.Write(ctx, batch)
}

// serve returns when it was the caller's turn and the capacity came to that
// many rows, or when ctx ended.
func (s *Sink) serve(ctx context.Context, rows float64) error {
	arrived := time.Now()
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()

	// Counted from when the one before was served, not from when this
	// goroutine woke up, so that late timers do not add up.
	at := arrived
	if s.freeAt.After(at) {
		at = s.freeAt
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		rate, until, changed := s.at(at)
		served := at.Add(duration(rows / rate))
		wake := until
		if !served.After(until) {
			wake = served
		}
		timer.Reset(time.Until(wake))
		select {
		case <-timer.C:
		case <-changed:
			if now := time.Now(); now.Before(wake) {
				wake = now
			}
		case <-ctx.Done():
			s.freeAt = time.Now()
			return ctx.Err()
		}
		if !served.After(wake) {
			s.freeAt = served
			return nil
		}
		rows -= rate * wake.Sub(at).Seconds()
		at = wake
	}
}

// at is the capacity at a time, until when it holds at most, and a channel that
// is closed when Set changes it.
func (s *Sink) at(now time.Time) (rate float64, until time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := max(0, s.capacity.Row(now.Sub(s.epoch)))
	until = now.Add(forever)
	if row < len(s.capacity.Points)-1 {
		until = s.epoch.Add(s.capacity.Points[row+1].At)
	}
	return s.capacity.Points[row].Value, until, s.changed
}

// forever is longer than anything that is waited for.
const forever = 100 * 365 * 24 * time.Hour

// duration is so many seconds, at most for ever and a little more.
func duration(seconds float64) time.Duration {
	if !(seconds < forever.Seconds()) {
		return forever + time.Hour
	}
	return time.Duration(math.Ceil(seconds * float64(time.Second)))
}

func validate(t trace.Trace) error {
	if len(t.Points) == 0 || t.Points[0].At != 0 {
		return invalid.New("capacity", fmt.Sprintf("%d rows", len(t.Points)), "a profile that begins at 0")
	}
	for i, p := range t.Points {
		if !(p.Value >= 0) || math.IsInf(p.Value, 0) {
			return invalid.New(fmt.Sprintf("capacity row %d", i+1), p.Value, "rows/s >= 0")
		}
		if i > 0 && p.At <= t.Points[i-1].At {
			return invalid.New(fmt.Sprintf("capacity row %d", i+1), p.At, "a time after that of the row before")
		}
	}
	return nil
}
