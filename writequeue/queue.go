// Package writequeue is Headgate's write coordinator: a bounded queue between
// many producers and one store.
//
// Producers Put items; workers take them out in batches and write them to a
// Sink, with retries, a circuit breaker and dead letters for what cannot be
// written. The depth of the queue is held against marks, and each crossing is
// published as a pressure.Event, which is what slows the producers down.
//
// Nothing is lost without being counted. At every moment
//
//	accepted = written + waiting + dropped + dead-lettered
//
// where items in a worker's hands count as waiting.
package writequeue

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue/internal/levels"
	"github.com/headgate/headgate/writequeue/internal/series"
)

// Why accepted items were dropped.
const (
	DroppedOverflow    = "overflow"             // to make room for newer ones
	DroppedDeadLetters = "dead_letters_failing" // on stop, when the dead letters could not be kept either
)

// Why offered items were refused.
const (
	RefusedFull      = "full"      // no room, and the setting is to refuse
	RefusedClosed    = "closed"    // the queue is stopping
	RefusedCancelled = "cancelled" // the producer gave up waiting
	RefusedTooLarge  = "too_large" // the durable queue takes no item of that size
)

// Why events are published.
const (
	ReasonHighWatermark = levels.ReasonHighWatermark // the level rose
	ReasonLowWatermark  = levels.ReasonLowWatermark  // the level fell
	ReasonStoreReady    = levels.ReasonStoreReady    // the store took its first write
)

// Queue is a bounded queue with the workers that empty it into a sink. Its
// methods may be called by several goroutines at once. It is a
// prometheus.Collector for its own series.
//
// One mutex guards the queue and its counters. It is taken once for a Put that
// finds room and twice for a batch that is written at once, whatever their
// sizes, and nothing that may wait is called under it. It is held so shortly that
// those who find it locked look again before they sleep; see lock.
type Queue struct {
	cfg       Config
	batchSize int // of cfg, no larger than the capacity
	log       *slog.Logger
	writer    *Writer
	series    *series.Of
	waits     *series.Waits
	started   time.Time // what the ring's times count from

	waiters sync.Pool // of *waiter that nobody uses

	mu       sync.Mutex
	ring     ring       // items that no worker has taken
	inFlight int        // items in the workers' hands
	blocked  *list.List // of *waiter: the producers that wait for room, oldest first
	idle     []*worker  // workers that wait for items, the latest last
	watching int        // of the idle ones: those that wait for a batch's time too
	called   int        // workers that were called and have not looked yet
	running  bool       // Run was called
	closed   bool       // no more intake; workers take what is left and end
	stopped  bool       // Run has ended
	count    counters
	judge    *levels.Judge
	outbox   levels.Outbox
}

// counters are the numbers that Stats and the series show. They only rise.
type counters struct {
	accepted, written, deadLettered uint64
	droppedOverflow                 uint64
	droppedDeadLetters              uint64
	refusedFull, refusedClosed      uint64
	refusedCancelled                uint64
	maxDepth                        int
}

// waiter is a producer that waits for room. Whoever makes room moves its items
// into the ring for it. It is used again by the next one who waits.
type waiter struct {
	copied   []Item        // what it came with
	items    []Item        // of these, what is not yet accepted
	accepted int           // of its items
	err      error         // why it was woken before all were accepted
	receipt  *Receipt      // nil where nobody asks
	done     chan struct{} // of size one: sent to when it needs to wait no longer
}

// New returns a queue that nobody empties until Run is called. Events are
// handed to publish one at a time, in order, outside of any lock; it may be
// nil. The error joins an *invalid.Value for each wrong setting.
func New(cfg Config, sink Sink, dead DeadLetters, publish func(pressure.Event), log *slog.Logger) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("write queue: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("coordinator_id", cfg.CoordinatorID)
	writer, err := NewWriter(cfg, sink, dead, BuryRest, log)
	if err != nil {
		return nil, fmt.Errorf("write queue: %w", err)
	}
	batchSize := min(cfg.BatchSize, cfg.Capacity)
	return &Queue{
		cfg:       cfg,
		batchSize: batchSize,
		log:       log,
		writer:    writer,
		series:    series.New(cfg.CoordinatorID, false),
		waits:     series.NewWaits(cfg.CoordinatorID),
		started:   time.Now(),
		ring:      ring{size: batchSize},
		blocked:   list.New(),
		outbox:    levels.NewOutbox(publish, log),
		judge:     levels.New(cfg.CoordinatorID, cfg.Marks.Thresholds(cfg.Capacity)),
	}, nil
}

// Put offers items and returns how many of them were accepted; these are always
// the first ones. The items are copied, their payloads are not.
//
// When there is no room for all of them, the Overflow setting decides:
//
//   - Block: Put waits, after those that wait already, and its items go in as
//     room comes. It returns early with ctx's error or with ErrClosed.
//   - Refuse: as many as fit are accepted, and the error is ErrFull.
//   - DropOldest: all are accepted, and the oldest ones that no worker has
//     taken yet are dropped; those may be the first of items themselves.
//
// So more items than the capacity may be given at once in each of the cases.
// ctx is looked at only while Put waits, and for a receipt; see WithReceipt. After Run's context has ended the error
// is ErrClosed. If any item has no key, nothing is accepted and the error is
// ErrNoKey.
func (q *Queue) Put(ctx context.Context, items ...Item) (accepted int, err error) {
	for i := range items {
		if items[i].Key == "" {
			return 0, fmt.Errorf("put item %d of %d: %w", i+1, len(items), ErrNoKey)
		}
	}
	receipt := ReceiptOf(ctx)
	now := q.now()
	q.lock()
	if q.closed {
		q.count.refusedClosed += uint64(len(items))
		q.mu.Unlock()
		return 0, ErrClosed
	}
	if q.cfg.Overflow == DropOldest {
		q.admitDropping(items, now, receipt)
		q.observe(now)
		q.unlockAndPublish()
		return len(items), nil
	}
	// Where producers wait there is no room, so nobody is overtaken.
	accepted = min(len(items), q.room())
	q.admit(items[:accepted], now, receipt)
	q.observe(now)
	rest := items[accepted:]
	if len(rest) == 0 {
		q.unlockAndPublish()
		return accepted, nil
	}
	if q.cfg.Overflow == Refuse {
		q.count.refusedFull += uint64(len(rest))
		q.unlockAndPublish()
		return accepted, ErrFull
	}
	w := q.newWaiter(rest, receipt)
	place := q.blocked.PushBack(w)
	q.unlockAndPublish()

	select {
	case <-w.done:
	case <-ctx.Done():
		q.mu.Lock()
		if len(w.items) > 0 && w.err == nil {
			q.blocked.Remove(place)
			q.count.refusedCancelled += uint64(len(w.items))
			w.err = ctx.Err()
		} else {
			<-w.done
		}
		q.mu.Unlock()
	}
	accepted, err = accepted+w.accepted, w.err
	q.release(w)
	return accepted, err
}

// newWaiter returns a waiter for items. It copies them, for if they escaped that
// would cost an allocation even where nobody waits.
func (q *Queue) newWaiter(items []Item, receipt *Receipt) *waiter {
	w, used := q.waiters.Get().(*waiter)
	if !used {
		w = &waiter{done: make(chan struct{}, 1)}
	}
	w.copied = append(w.copied, items...)
	w.items, w.receipt = w.copied, receipt
	return w
}

// release gives a waiter back that nobody else knows any more.
func (q *Queue) release(w *waiter) {
	clear(w.copied)
	*w = waiter{copied: w.copied[:0], done: w.done}
	q.waiters.Put(w)
}

// How long one who finds the queue locked waits before it looks again, in turns of
// an empty loop, of which one takes about a cycle: twice as long each time.
const (
	firstPause = 1 << 9
	lastPause  = 1 << 14
)

// lock locks q.mu where items go in and out. A sync.Mutex puts one who finds it
// locked to sleep at once where other goroutines are ready to run, and to be woken
// costs many times what is done under the lock. While others pause, one core puts
// or takes several times without losing the queue's memory to another.
func (q *Queue) lock() {
	for pause := firstPause; pause <= lastPause; pause *= 2 {
		if q.mu.TryLock() {
			return
		}
		for range pause {
		}
	}
	q.mu.Lock()
}

// now is the queue's own clock, in which items are accepted. It is monotonic.
func (q *Queue) now() time.Duration { return time.Since(q.started) }

// depth is how many items wait. q.mu is held, as in all that follows up to
// unlockAndPublish.
func (q *Queue) depth() int { return q.ring.n() + q.inFlight }

// room is how many more items may wait.
func (q *Queue) room() int { return q.cfg.Capacity - q.depth() }

// admit accepts items for which there is room. The caller judges the depth
// when it has done all that it does at once.
func (q *Queue) admit(items []Item, now time.Duration, receipt *Receipt) {
	if len(items) == 0 {
		return
	}
	q.ring.push(items, now, receipt)
	receipt.Accepted(len(items))
	q.count.accepted += uint64(len(items))
	q.count.maxDepth = max(q.count.maxDepth, q.depth())
	q.callWorkers()
}

// admitDropping accepts all items, and drops the oldest ones that no worker
// has taken where there is no room for all.
func (q *Queue) admitDropping(items []Item, now time.Duration, receipt *Receipt) {
	over := len(items) - q.room()
	if over > 0 {
		old := min(over, q.ring.n())
		q.ring.drop(old)
		q.count.droppedOverflow += uint64(over)
		q.count.accepted += uint64(over - old)
		receipt.Accepted(over - old)
		receipt.Settled(over-old, Lost)
		items = items[over-old:]
	}
	q.admit(items, now, receipt)
}

// leave takes n items out of the workers' hands and lets those in that wait
// for their room. The caller has counted where the items went.
func (q *Queue) leave(n int, now time.Duration) {
	q.inFlight -= n
	for place := q.blocked.Front(); place != nil && q.room() > 0; place = q.blocked.Front() {
		w := place.Value.(*waiter)
		k := min(len(w.items), q.room())
		q.admit(w.items[:k], now, w.receipt)
		w.items, w.accepted = w.items[k:], w.accepted+k
		if len(w.items) > 0 {
			break
		}
		q.blocked.Remove(place)
		w.done <- struct{}{}
	}
	q.observe(now)
}

// close ends the intake: producers that wait are sent home, and the workers are
// called to take what is left.
func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for place := q.blocked.Front(); place != nil; place = q.blocked.Front() {
		w := q.blocked.Remove(place).(*waiter)
		q.count.refusedClosed += uint64(len(w.items))
		w.err = ErrClosed
		w.done <- struct{}{}
	}
	for len(q.idle) > 0 {
		q.callWorker()
	}
}

// observe holds the depth against the marks and notes an event when it crossed
// one.
func (q *Queue) observe(now time.Duration) {
	if reason, crossed := q.judge.Observe(q.started.Add(now), q.depth()); crossed {
		q.note(reason)
	}
}

// note puts an event in the row of those to be published.
func (q *Queue) note(reason string) {
	q.outbox.Add(q.judge.Event(reason, q.depth(), q.cfg.Capacity))
}

// unlockAndPublish hands the noted events on and gives q.mu back.
func (q *Queue) unlockAndPublish() {
	if !q.outbox.Idle() {
		q.outbox.Publish(&q.mu)
	}
	q.mu.Unlock()
}

// Stats is one consistent cut through a queue's counters, in items where
// nothing else is said. Conserved holds in each of them.
//
// A durable queue may be shared by several processes. Then Waiting, Capacity,
// MaxDepth and Level are those of the whole, and all else is what this process
// did.
type Stats struct {
	CoordinatorID string         `json:"coordinator_id"`
	Accepted      uint64         `json:"accepted"`
	Written       uint64         `json:"written"`
	Waiting       uint64         `json:"waiting"` // with those in the workers' hands
	Dropped       uint64         `json:"dropped"` // for whatever reason
	DeadLettered  uint64         `json:"dead_lettered"`
	Refused       uint64         `json:"refused"`   // offered and not accepted
	InFlight      uint64         `json:"in_flight"` // in the workers' hands, a part of Waiting
	MaxDepth      uint64         `json:"max_depth"` // the most that waited at once
	Capacity      uint64         `json:"capacity"`
	BlockedPuts   int            `json:"blocked_puts"` // producers that wait for room
	Level         pressure.Level `json:"level"`

	Durable *Durable `json:"durable,omitempty"` // nil for a queue in memory
}

// Durable is what a durable queue counts besides.
type Durable struct {
	Taken     uint64 `json:"taken"`      // into this process' hands
	GivenBack uint64 `json:"given_back"` // of these, what was left for others to write
	Repeated  uint64 `json:"repeated"`   // offered again under a key that the queue had just taken

	// Stored is how many items the whole queue has taken since it was made. What
	// of these does not wait was written or dead-lettered by some process.
	Stored uint64 `json:"stored"`
}

// Conserved reports whether all items are accounted for. In memory, Accepted =
// Written + Waiting + Dropped + DeadLettered. Of a durable queue this process can
// only answer for what it took: Taken = Written + DeadLettered + GivenBack +
// InFlight.
func (s Stats) Conserved() bool {
	if d := s.Durable; d != nil {
		return d.Taken == s.Written+s.DeadLettered+d.GivenBack+s.InFlight
	}
	return s.Accepted == s.Written+s.Waiting+s.Dropped+s.DeadLettered
}

// Empty reports whether nothing waits. The error is always nil: a durable queue
// has to ask.
func (q *Queue) Empty(context.Context) (bool, error) { return q.Stats().Waiting == 0, nil }

// Stats returns the counters as they are now.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats()
}

func (q *Queue) stats() Stats {
	c := &q.count
	return Stats{
		CoordinatorID: q.cfg.CoordinatorID,
		Accepted:      c.accepted,
		Written:       c.written,
		Waiting:       uint64(q.depth()),
		Dropped:       c.droppedOverflow + c.droppedDeadLetters,
		DeadLettered:  c.deadLettered,
		Refused:       c.refusedFull + c.refusedClosed + c.refusedCancelled,
		InFlight:      uint64(q.inFlight),
		MaxDepth:      uint64(c.maxDepth),
		Capacity:      uint64(q.cfg.Capacity),
		BlockedPuts:   q.blocked.Len(),
		Level:         q.judge.Level(),
	}
}
