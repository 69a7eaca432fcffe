// Package replay offers recorded items to a pipeline at their times: counts
// over time, each counted item made up, or items read from NDJSON.
package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
)

// Put takes items and tells how many of them it accepted; these are always the
// first ones. It waits as long as it has to.
type Put func(ctx context.Context, items []writequeue.Item) (accepted int, err error)

// Slot is an interval and the items that arrive in it, evenly spread.
type Slot struct {
	At    time.Duration // since the beginning
	Span  time.Duration // > 0
	Count int           // >= 0
}

// Slots are a trace of counts at a speed (> 0), each count multiplied, once or
// without end. Where a multiplied count is no whole number the rest goes over
// into the next, so that the total is right.
func Slots(t trace.Trace, speed, multiplier float64, loop bool) iter.Seq[Slot] {
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) / speed) }
	return func(yield func(Slot) bool) {
		var begin time.Duration
		owed := 0.0
		for {
			for i, p := range t.Points {
				owed += p.Value * multiplier
				// A hair is added, for 0.1 ten times is a little less than 1.
				whole := math.Floor(owed + 1e-9)
				owed -= whole
				slot := Slot{At: begin + scaled(p.At), Span: max(scaled(t.Span(i)), 1), Count: int(whole)}
				if !yield(slot) {
					return
				}
			}
			begin += max(scaled(t.Duration()), 1)
			if !loop {
				return
			}
		}
	}
}

const (
	// tick is the time over which items are gathered into one Put.
	tick = 10 * time.Millisecond

	// mostItems is the most that one Put is given.
	mostItems = 1000
)

// Counts is a source that makes an item of each count. Its items are the same
// in each run but for the times.
type Counts struct {
	Source string // the source's name, which the payloads repeat
	Slots  iter.Seq[Slot]
	Key    func(sequence uint64) string
	MaxLag time.Duration // items later than this are skipped; 0 skips none
	Put    Put

	Skipped prometheus.Counter // items skipped
	Lag     prometheus.Gauge   // seconds by which the latest item was late
}

// Run offers all items, each at its time or as soon after it as Put takes it.
// It returns nil when there are no more, when ctx ended, or when the pipeline
// takes no more; and else Put's error.
func (c *Counts) Run(ctx context.Context) error {
	start := time.Now()
	var sequence uint64
	var end time.Duration
	items := make([]writequeue.Item, 0, mostItems)
	for slot := range c.Slots {
		if err := sleepUntil(ctx, start.Add(slot.At)); err != nil {
			return nil
		}
		c.Lag.Set(max(0, (time.Since(start) - slot.At).Seconds()))
		for sent := 0; sent < slot.Count; {
			if err := sleepUntil(ctx, start.Add(slot.due(sent))); err != nil {
				return nil
			}
			now := time.Since(start)
			n := min(slot.dueBy(now)-sent, mostItems)
			items = items[:0]
			for i := range n {
				due := slot.due(sent + i)
				if c.MaxLag > 0 && now-due > c.MaxLag {
					c.Skipped.Inc()
				} else {
					items = append(items, c.item(sequence, due, start))
				}
				sequence++
			}
			sent += n
			if len(items) == 0 {
				continue
			}
			if _, err := c.Put(ctx, items); err != nil && !passes(err) {
				return ended(ctx, err)
			}
		}
		end = slot.At + slot.Span
	}
	// The last slot is over when its time is, also where nothing came in it.
	_ = sleepUntil(ctx, start.Add(end))
	return nil
}

// due is the time of the slot's item i.
func (s Slot) due(i int) time.Duration {
	return s.At + time.Duration(float64(s.Span)*float64(i)/float64(s.Count))
}

// dueBy is how many of the slot's items are due, the first one included.
func (s Slot) dueBy(now time.Duration) int {
	n := int(float64(now-s.At)/float64(s.Span)*float64(s.Count)) + 1
	return min(max(n, 1), s.Count)
}

func (c *Counts) item(sequence uint64, due time.Duration, start time.Time) writequeue.Item {
	payload := make([]byte, 0, 64)
	payload = append(payload, `{"source":`...)
	payload = strconv.AppendQuote(payload, c.Source)
	payload = append(payload, `,"sequence":`...)
	payload = strconv.AppendUint(payload, sequence, 10)
	payload = append(payload, `,"t_seconds":`...)
	payload = strconv.AppendFloat(payload, due.Seconds(), 'f', -1, 64)
	payload = append(payload, '}')
	return writequeue.Item{Key: c.Key(sequence), Time: start.Add(due), Payload: payload}
}

// passes reports whether a source goes on after the error: a queue that refuses
// what it has no room for has counted that.
func passes(err error) bool { return errors.Is(err, writequeue.ErrFull) }

// ended is nil when the end of the context, or of the pipeline's intake, is why
// Put failed.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, writequeue.ErrClosed) {
		return nil
	}
	return fmt.Errorf("offer items: %w", err)
}
