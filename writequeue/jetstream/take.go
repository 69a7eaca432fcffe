package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate/headgate/writequeue"
)

// worker takes and writes one batch at a time. What is not guarded belongs to its
// goroutine.
type worker struct {
	queue *Queue
	items []writequeue.Item
	first time.Time // when the first of them came

	mu   sync.Mutex
	held []held // in its hands, in order; those of items which are not settled
}

// held is what is known of a message in a worker's hands beside its item.
type held struct {
	reply  string    // where its fate is told
	stored time.Time // by the servers' clock
}

// What the servers are told of a message.
var (
	ackIt  = []byte("+ACK") // it is done with
	giveIt = []byte("-NAK") // it is for others
	keepIt = []byte("+WPI") // it is still worked on
)

// longest is how long one request for items waits for them. A queue that stops
// waits for its last request.
const longest = 500 * time.Millisecond

// work takes batches and delivers them until ctx ends.
func (w *worker) work(ctx, writing context.Context) {
	q := w.queue
	for ctx.Err() == nil {
		if err := q.writer.Await(ctx); err != nil {
			return
		}
		w.take(ctx)
		if len(w.items) > 0 {
			q.writer.Deliver(ctx, writing, w.items, w)
		}
		clear(w.items)
		w.items = w.items[:0]
	}
}

// take waits for a batch and takes it into the worker's hands. A batch is due
// when it is full, or when its first item has waited for BatchWait here. One
// worker at a time waits, so that items that come one by one become one batch
// rather than one for each. It may be empty.
func (w *worker) take(ctx context.Context) {
	q := w.queue
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return
	}
	err := w.fetch(func(c jetstream.Consumer) (jetstream.MessageBatch, error) {
		return c.FetchNoWait(q.cfg.Queue.BatchSize)
	})
	// A request is waited for to its end, even when ctx ends: the servers may
	// have answered it already.
	for err == nil && len(w.items) == 0 && ctx.Err() == nil {
		err = w.fetch(func(c jetstream.Consumer) (jetstream.MessageBatch, error) {
			return c.Fetch(1, jetstream.FetchMaxWait(longest))
		})
	}
	for err == nil && ctx.Err() == nil && len(w.items) > 0 && len(w.items) < q.cfg.Queue.BatchSize {
		left := q.cfg.Queue.BatchWait - time.Since(w.first)
		if left <= 0 {
			break
		}
		err = w.fetch(func(c jetstream.Consumer) (jetstream.MessageBatch, error) {
			return c.Fetch(q.cfg.Queue.BatchSize-len(w.items), jetstream.FetchMaxWait(max(time.Millisecond, min(left, longest))))
		})
	}
	if err != nil && ctx.Err() == nil {
		q.log.Warn("items cannot be taken out of the durable queue", "error", err)
		if pause(ctx, time.Second) == nil {
			if err := q.prepare(ctx); err != nil { // somebody may have removed it
				q.log.Warn("durable queue cannot be prepared", "error", err)
			}
		}
	}
}

// fetch adds what one request brings to the batch.
func (w *worker) fetch(request func(jetstream.Consumer) (jetstream.MessageBatch, error)) error {
	q := w.queue
	batch, err := request(q.consumer)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for m := range batch.Messages() {
		w.add(m)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}

// add takes a message into the worker's hands.
func (w *worker) add(m jetstream.Msg) {
	about, err := m.Metadata()
	if err != nil {
		w.queue.log.Warn("message without the servers' word on it is left", "error", err)
		return
	}
	if len(w.items) == 0 {
		w.first = time.Now()
	}
	w.items = append(w.items, item(w.queue.cfg.Stream, m, about))
	w.mu.Lock()
	w.held = append(w.held, held{reply: m.Reply(), stored: about.Timestamp})
	w.mu.Unlock()
	w.queue.mu.Lock()
	w.queue.count.taken++
	w.queue.inFlight++
	w.queue.mu.Unlock()
}

// Settle tells the servers what became of the next n items, and counts them. What
// the servers do not confirm counts as given back: it comes again, and is written
// again.
func (w *worker) Settle(n int, what writequeue.Outcome) {
	q := w.queue
	w.mu.Lock()
	done := w.held[:n]
	w.held = w.held[n:]
	w.mu.Unlock()

	if what == writequeue.GivenBack {
		for _, h := range done {
			_ = q.conn.Publish(h.reply, giveIt) // where it fails, it comes again later
		}
		if err := q.conn.FlushTimeout(answerWithin); err != nil {
			q.log.Warn("items could not be given back and come again later", "items", n, "after", q.cfg.RedeliverAfter, "error", err)
		}
	} else if err := q.confirm(done); err != nil {
		q.log.Warn("durable queue did not confirm that items are done with, so they come again", "items", n, "error", err)
		what = writequeue.GivenBack
	}

	now := time.Now()
	if what == writequeue.Written {
		q.waits.Observe(n, func(i int) (int, time.Duration) { return 1, now.Sub(done[i].stored) })
	}
	q.mu.Lock()
	switch what {
	case writequeue.Written:
		q.count.written += uint64(n)
		q.ready = true
	case writequeue.DeadLettered:
		q.count.deadLettered += uint64(n)
	default:
		q.count.givenBack += uint64(n)
	}
	q.inFlight -= n
	q.announce()
	q.unlockAndPublish()
}

// confirms is how often the servers are asked to confirm.
const confirms = 3

// confirm tells the servers that messages are done with, and waits for their
// word. They hear of the messages of one connection in order, so that their word
// on the last one is on all.
func (q *Queue) confirm(done []held) error {
	var err error
	for range confirms {
		if err = q.confirmOnce(done); err == nil {
			return nil
		}
	}
	return err
}

func (q *Queue) confirmOnce(done []held) error {
	last := len(done) - 1
	for _, h := range done[:last] {
		if err := q.conn.Publish(h.reply, ackIt); err != nil {
			return err
		}
	}
	_, err := q.conn.Request(done[last].reply, ackIt, answerWithin)
	return err
}

// keep tells the servers of what the workers hold, for as long as they hold it,
// so that it is not given to others.
func (q *Queue) keep(ctx context.Context) {
	ticker := time.NewTicker(q.cfg.RedeliverAfter / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		q.mu.Lock()
		workers := q.workers
		q.mu.Unlock()
		for _, w := range workers {
			w.mu.Lock()
			for _, h := range w.held {
				_ = q.conn.Publish(h.reply, keepIt) // told again soon
			}
			w.mu.Unlock()
		}
	}
}
