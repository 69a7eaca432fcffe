package writequeue

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Item is one thing to write. The queue looks at the key alone.
type Item struct {
	// Key names the item for ever: a store keeps one row a key, so that an
	// item may be written more than once. Never empty.
	Key string

	Time    time.Time // when it happened, by the source's clock
	Payload []byte    // opaque, JSON by habit; not changed after it was put
}

// Sink is a store. Write writes the whole batch or none of it, and must take
// an item that it has already, or that stands in the batch twice, without an
// error and without a second row. It is called by several workers at once, must
// return soon after ctx ends, and must not keep the batch.
//
// An error that no retry can mend is marked by Permanent; any other one is
// taken to pass.
type Sink interface {
	Write(ctx context.Context, batch []Item) error
}

// DeadLetters keeps what could not be written. Append returns nil only when
// all of the letters are safe; it may be called by several workers at once and
// must not keep the slice.
type DeadLetters interface {
	Append(ctx context.Context, letters []Letter) error
}

// Letter is an item that could not be written, with what is needed to see why
// and to write it later.
type Letter struct {
	Item          Item
	CoordinatorID string    // whose queue it came from
	Error         string    // what the store said last, or why it was not asked
	Attempts      int       // writes that were tried with it, >= 0
	At            time.Time // when it was given up
}

var (
	// ErrFull says that the queue has no room for the rest of the items.
	ErrFull = errors.New("write queue is full")

	// ErrClosed says that the queue is stopping and takes no more items.
	ErrClosed = errors.New("write queue is closed")

	// ErrTooLarge says that an item is larger than the queue can hold.
	ErrTooLarge = errors.New("item is too large for the write queue")

	// ErrNoKey says that an item has an empty key; nothing was accepted.
	ErrNoKey = errors.New("item has no key")
)

// Permanent marks an error that no retry can mend, such as a row that breaks a
// constraint. Permanent(nil) is nil.
func Permanent(err error) error { return backoff.Permanent(err) }

// IsPermanent reports whether err, or one that it wraps, was marked by
// Permanent.
func IsPermanent(err error) bool {
	var permanent *backoff.PermanentError
	return errors.As(err, &permanent)
}
