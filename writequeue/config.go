package writequeue

import (
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Overflow says what Put does when the queue is full.
type Overflow string

const (
	Block      Overflow = "block"       // wait for room, in the order of the calls
	Refuse     Overflow = "refuse"      // take what fits and return ErrFull
	DropOldest Overflow = "drop_oldest" // make room by dropping what waited longest
)

// UnmarshalText reads one of the three names; on an error o keeps its value.
func (o *Overflow) UnmarshalText(text []byte) error {
	switch v := Overflow(text); v {
	case Block, Refuse, DropOldest:
		*o = v
		return nil
	}
	return invalid.New("overflow", string(text), wantOverflow)
}

// Marks are the depths at which the level changes. A mark in percent is a
// share of the capacity.
type Marks struct {
	SoftEnter pressure.Mark // SOFT above it
	HardEnter pressure.Mark // HARD at or above it

	// The level is left here: OK at or below SoftExit, no longer HARD below
	// HardExit. The zero Mark is the mark at which the level is entered; write
	// "0%" for a level that lasts until the queue is empty.
	SoftExit pressure.Mark
	HardExit pressure.Mark
}

// Thresholds are the marks in items of a capacity.
func (m Marks) Thresholds(capacity int) pressure.Thresholds {
	or := func(mark, otherwise pressure.Mark) float64 {
		if mark == (pressure.Mark{}) {
			mark = otherwise
		}
		return mark.Items(float64(capacity))
	}
	t := pressure.Thresholds{
		SoftEnter: m.SoftEnter.Items(float64(capacity)),
		HardEnter: m.HardEnter.Items(float64(capacity)),
		SoftExit:  or(m.SoftExit, m.SoftEnter),
		HardExit:  or(m.HardExit, m.HardEnter),
	}
	return t
}

// Retry says how often and how fast a failing write is tried again. The nominal
// delay doubles from Initial to Max; each delay is drawn from 50 to 100 % of
// it, so that workers that failed together do not return together.
type Retry struct {
	Attempts int           // writes in all, the first one included, >= 1
	Initial  time.Duration // > 0
	Max      time.Duration // >= Initial
}

// Breaker guards the store: after Failures failed writes in a row no worker
// writes for Timeout, then one tries; its outcome closes or opens the breaker.
// Time spent before an open breaker is no attempt.
type Breaker struct {
	Failures int           // >= 1
	Timeout  time.Duration // > 0
}

// Config are the settings of a queue. Begin with DefaultConfig.
type Config struct {
	CoordinatorID string // names the queue in series and events; never empty

	Capacity int      // the most items that may wait, with those being written; >= 1
	Marks    Marks    // where the level changes
	Overflow Overflow // what a full queue does

	Workers   int           // concurrent writes, >= 1
	BatchSize int           // the most items a write, >= 1; a larger one than Capacity counts as Capacity
	BatchWait time.Duration // the longest that an item waits for its batch to fill; 0 does not wait

	Retry        Retry
	Breaker      Breaker
	WriteTimeout time.Duration // the longest that one write may take, > 0

	// DrainTimeout is how long Run goes on writing after its context ended, >= 0.
	// What is left then goes to the dead letters.
	DrainTimeout time.Duration
}

// DefaultConfig returns the settings that a queue has where nothing else is
// said.
func DefaultConfig(coordinatorID string) Config {
	return Config{
		CoordinatorID: coordinatorID,
		Capacity:      10_000,
		Marks: Marks{
			SoftEnter: pressure.Mark{Value: 50, Percent: true},
			HardEnter: pressure.Mark{Value: 80, Percent: true},
		},
		Overflow:     Block,
		Workers:      4,
		BatchSize:    500,
		BatchWait:    250 * time.Millisecond,
		Retry:        Retry{Attempts: 5, Initial: 50 * time.Millisecond, Max: 2 * time.Second},
		Breaker:      Breaker{Failures: 5, Timeout: 60 * time.Second},
		WriteTimeout: 30 * time.Second,
		DrainTimeout: 30 * time.Second,
	}
}

const (
	wantOverflow  = "block, refuse or drop_oldest"
	wantPositive  = "a duration > 0"
	wantCount     = "a whole number >= 1"
	mostCapacity  = 100_000_000
	mostWorkers   = 10_000
	mostBatchSize = 1_000_000
)

// Validate reports every setting that is out of its range, joined.
func (c Config) Validate() error {
	var errs []error
	refuse := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, invalid.New(field, got, want))
		}
	}
	within := func(field string, got, most int) {
		refuse(got < 1 || got > most, field, got, fmt.Sprintf("a whole number in [1, %d]", most))
	}
	refuse(c.CoordinatorID == "", "coordinator_id", c.CoordinatorID, "a name")
	within("capacity", c.Capacity, mostCapacity)
	if c.Capacity >= 1 {
		errs = append(errs, c.Marks.Thresholds(c.Capacity).Validate())
	}
	refuse(c.Overflow.UnmarshalText([]byte(c.Overflow)) != nil, "overflow", string(c.Overflow), wantOverflow)
	within("workers", c.Workers, mostWorkers)
	within("batch_size", c.BatchSize, mostBatchSize)
	refuse(c.BatchWait < 0, "batch_wait", c.BatchWait, "a duration >= 0")
	refuse(c.Retry.Attempts < 1, "retry_attempts", c.Retry.Attempts, wantCount)
	refuse(c.Retry.Initial <= 0, "retry_initial", c.Retry.Initial, wantPositive)
	refuse(c.Retry.Max < c.Retry.Initial, "retry_max", c.Retry.Max,
		fmt.Sprintf("a duration >= retry_initial, which is %v", c.Retry.Initial))
	refuse(c.Breaker.Failures < 1, "breaker_failures", c.Breaker.Failures, wantCount)
	refuse(c.Breaker.Timeout <= 0, "breaker_timeout", c.Breaker.Timeout, wantPositive)
	refuse(c.WriteTimeout <= 0, "write_timeout", c.WriteTimeout, wantPositive)
	refuse(c.DrainTimeout < 0, "drain_timeout", c.DrainTimeout, "a duration >= 0")
	return errors.Join(errs...)
}
