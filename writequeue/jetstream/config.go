package jetstream

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
)

// Config are the settings of a durable queue. Begin with DefaultConfig.
type Config struct {
	// Queue are the settings that a queue in memory has too. The capacity bounds
	// the whole queue, whatever the number of processes. Overflow is Block or
	// Refuse. DrainTimeout bounds how long a write goes on that is under way when
	// Run's context ends; nothing goes to the dead letters for the end's sake.
	Queue writequeue.Config

	Stream         string // name of the stream that holds the items
	StreamReplicas int    // servers of a cluster that keep each item, in [1, 5]

	// DuplicatesWithin is how long the servers remember the keys of the items
	// that they took, so that an item which is sent again makes no second one;
	// >= 1 s. They keep the keys in memory.
	DuplicatesWithin time.Duration

	// RedeliverAfter is how long an item stays with a process that is not heard
	// of any more, before it is given to another; >= 1 s.
	RedeliverAfter time.Duration

	LookEvery time.Duration // from one look at the whole queue to the next, > 0

	Accepts bool // this process puts items in
	Writes  bool // this process writes them to the store
	Shared  bool // other processes may do either, too
}

// DefaultConfig returns the settings that a queue has where nothing else is
// said: those of a process that does both and shares the queue with others.
func DefaultConfig(coordinatorID string) Config {
	return Config{
		Queue:            writequeue.DefaultConfig(coordinatorID),
		Stream:           StreamName(coordinatorID),
		StreamReplicas:   1,
		DuplicatesWithin: 2 * time.Minute,
		RedeliverAfter:   30 * time.Second,
		LookEvery:        100 * time.Millisecond,
		Accepts:          true,
		Writes:           true,
		Shared:           true,
	}
}

// StreamName is the name of a coordinator's stream where the settings give none.
func StreamName(coordinatorID string) string {
	return "headgate-" + strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '_'
	}, coordinatorID)
}

// streamRule is what a stream may be called: it is a file's name and a part of a
// subject too.
var streamRule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// Validate reports every setting that is out of its range, joined.
func (c Config) Validate() error {
	errs := []error{c.Queue.Validate()}
	refuse := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, invalid.New(field, got, want))
		}
	}
	refuse(c.Queue.Overflow == writequeue.DropOldest, "overflow", string(c.Queue.Overflow),
		"block or refuse, for a durable queue cannot tell what it dropped")
	refuse(!streamRule.MatchString(c.Stream), "stream", c.Stream, "a name of 1 to 128 letters, digits, dashes and underscores")
	refuse(c.StreamReplicas < 1 || c.StreamReplicas > 5, "stream_replicas", c.StreamReplicas, "a whole number in [1, 5]")
	refuse(c.DuplicatesWithin < time.Second, "duplicates_within", c.DuplicatesWithin, "a duration >= 1s")
	refuse(c.RedeliverAfter < time.Second, "redeliver_after", c.RedeliverAfter, "a duration >= 1s")
	refuse(c.LookEvery <= 0, "look_every", c.LookEvery, "a duration > 0")
	refuse(!c.Accepts && !c.Writes, "part", "neither", "at least one of accepting and writing")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("durable write queue: %w", err)
	}
	return nil
}
