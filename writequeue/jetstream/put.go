package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate/headgate/writequeue"
)

const (
	// mostPublished is how many items may be on their way to the servers at once,
	// of all producers of the process.
	mostPublished = 1 << 16

	// window is how many of one producer's are.
	window = 1000

	// A producer that waits for room looks for it this often, the longer the more
	// seldom.
	roomAfter, roomAtLatest = 5 * time.Millisecond, 50 * time.Millisecond
)

// Put offers items and returns how many of them the stream has; these are always
// the first ones. It waits for the servers' word for each, and offers again what
// they did not answer for, until ctx ends.
//
// When there is no room for all of them, the Overflow setting decides:
//
//   - Block: Put waits, after those of this process that wait already, and its
//     items go in as room comes. It returns early with ctx's error or with
//     ErrClosed.
//   - Refuse: as many as fit are accepted, and the error is ErrFull.
//
// The room is that of the whole queue. Where it comes and goes while items are on
// their way, the stream may have some beyond the first that it refused, or that
// ctx's end left without an answer. Offered again, under their keys and within
// DuplicatesWithin, these make no second item.
//
// An item that is larger than the servers take ends Put with ErrTooLarge. After
// Run's context has ended the error is ErrClosed. If any item has no key, nothing
// is accepted and the error is ErrNoKey.
func (q *Queue) Put(ctx context.Context, items ...writequeue.Item) (accepted int, err error) {
	for i := range items {
		if items[i].Key == "" {
			return 0, fmt.Errorf("put item %d of %d: %w", i+1, len(items), writequeue.ErrNoKey)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.closing, cancel)()
	o := &offer{queue: q, items: items}
	err = o.put(ctx)
	if err != nil && ctx.Err() != nil && q.closing.Err() != nil {
		err = writequeue.ErrClosed
	}
	q.refused(len(items)-o.in, err)
	return o.in, err
}

// refused counts items that were not accepted, by the error that is why.
func (q *Queue) refused(n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case n == 0:
	case errors.Is(err, writequeue.ErrFull):
		q.count.refusedFull += uint64(n)
	case errors.Is(err, writequeue.ErrClosed):
		q.count.refusedClosed += uint64(n)
	case errors.Is(err, writequeue.ErrTooLarge):
		q.count.refusedLarge += uint64(n)
	default:
		q.count.refusedCancelled += uint64(n)
	}
}

// offer is the items of one Put.
type offer struct {
	queue  *Queue
	items  []writequeue.Item
	in     int          // of them, from the first on, the stream has
	beyond map[int]bool // whom of the others it has too
	unsure map[int]bool // of whom nobody knows: they were sent, and not answered for
}

// put brings all items in, or tells why not.
func (o *offer) put(ctx context.Context) error {
	if o.queue.cfg.Queue.Overflow == writequeue.Block && o.queue.someWait() {
		return o.putInLine(ctx) // nobody is overtaken
	}
	err := o.send(ctx)
	if !errors.Is(err, writequeue.ErrFull) {
		return err
	}
	if o.queue.cfg.Queue.Overflow == writequeue.Block {
		return o.putInLine(ctx)
	}
	// What was seen of the room may be older than the refusal.
	for range 3 {
		if lookErr := o.queue.look(ctx); lookErr != nil || o.queue.room() == 0 {
			break
		}
		if err = o.send(ctx); !errors.Is(err, writequeue.ErrFull) {
			break
		}
	}
	return err
}

// putInLine brings the items in as room comes, after those that wait already.
func (o *offer) putInLine(ctx context.Context) error {
	q := o.queue
	q.addBlocked(1)
	defer q.addBlocked(-1)
	select {
	case q.line <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-q.line }()
	wait := &backoff.ExponentialBackOff{InitialInterval: roomAfter, MaxInterval: roomAtLatest, Multiplier: 2}
	for {
		err := o.send(ctx)
		if !errors.Is(err, writequeue.ErrFull) {
			return err
		}
		for wait.Reset(); ; {
			if err := q.look(ctx); err == nil && q.room() > 0 {
				break
			}
			if err := pause(ctx, wait.NextBackOff()); err != nil {
				return err
			}
		}
	}
}

func (q *Queue) someWait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.blocked > 0
}

func (q *Queue) addBlocked(n int) {
	q.mu.Lock()
	q.blocked += n
	q.mu.Unlock()
}

// room is how many more items fit, by what was seen and what this process did
// since.
func (q *Queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.roomNow()
}

// roomNow is room with q.mu held.
func (q *Queue) roomNow() int {
	full := q.seen.waiting + q.since + q.sending
	return int(q.seen.capacity - min(full, q.seen.capacity))
}

// reserve takes the room for at most n items that are about to be sent, and at
// least for one: whether there is room is the servers' to say.
func (q *Queue) reserve(n int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, max(1, q.roomNow()))
	q.sending += uint64(n)
	return n
}

// sent counts items that were answered for, of so many that were sent.
func (q *Queue) sent(n int, stored, repeated uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sending -= uint64(n)
	q.since += stored
	q.count.accepted += stored
	q.count.repeated += repeated
}

// send brings items in until all are, or one finds no room: then the error is
// ErrFull. What the servers do not answer for is sent again, until ctx ends.
func (o *offer) send(ctx context.Context) error {
	var again *backoff.ExponentialBackOff // while the servers do not answer
	for o.in < len(o.items) {
		if err := ctx.Err(); err != nil {
			return err
		}
		// No more are on their way than there is room for, so that none passes one
		// that was refused.
		err := o.sendSome(ctx, o.queue.reserve(min(len(o.items)-o.in, window)))
		switch {
		case err == nil:
			again = nil
			o.queue.answers(nil)
		case errors.Is(err, writequeue.ErrFull), errors.Is(err, writequeue.ErrTooLarge):
			o.queue.answers(nil)
			return err
		case ctx.Err() != nil:
			return ctx.Err() // which says nothing of the servers
		default:
			o.queue.answers(err)
			if again == nil {
				again = &backoff.ExponentialBackOff{
					InitialInterval: o.queue.cfg.Queue.Retry.Initial, MaxInterval: o.queue.cfg.Queue.Retry.Max,
					Multiplier: 2, RandomizationFactor: 0.5,
				}
			}
			if err := pause(ctx, again.NextBackOff()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendSome sends the next n items that are not in and waits for the word on each,
// until ctx ends.
// The error is that of the first which did not get in.
func (o *offer) sendSome(ctx context.Context, n int) error {
	answers := make([]jetstream.PubAckFuture, n)
	var first error
	for i := range answers {
		if o.beyond[o.in+i] {
			continue
		}
		var err error
		if answers[i], err = o.queue.js.PublishMsgAsync(message(o.queue.subject, o.items[o.in+i])); err != nil {
			if errors.Is(err, nats.ErrMaxPayload) {
				err = fmt.Errorf("item %q of %d bytes: %w", o.items[o.in+i].Key, len(o.items[o.in+i].Payload), writequeue.ErrTooLarge)
			}
			first, answers = err, answers[:i]
			break
		}
	}
	begin, accepted, repeated := o.in, uint64(0), uint64(0)
	for i, answer := range answers {
		at := begin + i
		if answer != nil {
			stored, err := o.await(ctx, at, answer)
			if err != nil {
				first = earlier(first, err, at == o.in)
				continue
			}
			if stored {
				accepted++
			} else {
				repeated++
			}
		}
		if at == o.in {
			o.in++
			delete(o.beyond, at)
		} else {
			if o.beyond == nil {
				o.beyond = map[int]bool{}
			}
			o.beyond[at] = true
		}
	}
	o.queue.sent(n, accepted, repeated)
	return first
}

// earlier is the error to tell of two, of which the second may be that of the
// first item that did not get in.
func earlier(first, err error, leads bool) error {
	if leads || first == nil {
		return err
	}
	return first
}

// await waits for the word on one item, until ctx ends. It reports whether the
// stream has it for the first time.
func (o *offer) await(ctx context.Context, at int, answer jetstream.PubAckFuture) (stored bool, err error) {
	select {
	case ack := <-answer.Ok():
		// One that was sent before and not answered for is this one.
		stored = !ack.Duplicate || o.unsure[at]
		delete(o.unsure, at)
		return stored, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case err := <-answer.Err():
		var said *jetstream.APIError
		switch {
		case !errors.As(err, &said):
			if o.unsure == nil {
				o.unsure = map[int]bool{}
			}
			o.unsure[at] = true
		case said.ErrorCode == codeStoreFailed && full(said.Description):
			return false, writequeue.ErrFull
		case said.ErrorCode == codeTooLarge:
			return false, fmt.Errorf("item %q: %w: %w", o.items[at].Key, writequeue.ErrTooLarge, err)
		}
		return false, err
	}
}

// What the servers' error codes mean that the client library has no names for.
const (
	codeStoreFailed = 10077
	codeTooLarge    = 10054
)

// full reports whether a stream did not store an item because it has as many, or
// as much, as it may.
func full(description string) bool {
	return description == "maximum messages exceeded" || description == "maximum bytes exceeded"
}

// answers notes whether the servers answer for what is put in, and logs when that
// changed.
func (q *Queue) answers(err error) {
	changed := q.cannot.Swap(err != nil) != (err != nil)
	switch {
	case changed && err != nil:
		q.log.Warn("items cannot be put into the durable queue, and are offered again", "error", err)
	case changed:
		q.log.Info("items can be put into the durable queue again")
	}
}

// pause waits for d, or until ctx ends, whose error it returns then.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
