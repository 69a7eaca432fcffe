// Package jetstream is a write queue that lives in NATS JetStream: durable, and
// shared by any number of processes. Some of them put items into one stream,
// others, or the same, take them out of it by one consumer and write them to a
// store. The bound on the items, their order of turn and their redelivery are the
// servers' work.
//
// An item that was accepted is in the stream until a process has written it and
// has told so, whatever becomes of the processes meanwhile. So it may be written
// more than once, and stores keep one row a key.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/internal/levels"
	"github.com/headgate/headgate/writequeue/internal/series"
)

// Queue is this process' part in a durable queue. Its methods may be called by
// several goroutines at once. It is a prometheus.Collector for its own series.
//
// The depth, the capacity and the level are those of the whole queue, as the
// servers tell them some times a second; what was accepted and written is what
// this process did.
type Queue struct {
	cfg     Config
	conn    *nats.Conn
	js      jetstream.JetStream
	subject string
	writer  *writequeue.Writer
	log     *slog.Logger
	series  *series.Of
	waits   *series.Waits
	cannot  atomic.Bool // the last item could not be put in, for another reason than the room

	closing context.Context // ends when the intake does
	close   context.CancelFunc

	line chan struct{} // of size one: held by the producer that has waited longest for room
	turn chan struct{} // of size one: held by the worker that fetches

	consumer jetstream.Consumer // guarded by turn once Run was called

	looking sync.Mutex // held while the servers are asked, so that no older answer comes after a newer one

	mu       sync.Mutex // guards all below
	running  bool
	stopped  bool
	seen     sight
	since    uint64 // items that this process put in since it was seen, or a moment before
	sending  uint64 // items of this process that are on their way
	maxDepth uint64
	ready    bool // the store took something: this process' write, or by what was seen
	count    counters
	blocked  int // producers that wait for room
	inFlight int // items in the workers' hands
	judge    *levels.Judge
	outbox   levels.Outbox
	workers  []*worker
}

// sight is the whole queue as the servers told it.
type sight struct {
	at       time.Time // zero before the first
	waiting  uint64
	stored   uint64 // ever
	capacity uint64
	failing  error // why it is not newer; nil where the last look was answered
}

// settled is how many items were written or dead-lettered.
func (s sight) settled() uint64 { return s.stored - min(s.waiting, s.stored) }

// staleAfter is how old a sight may be before the whole counts as unknown.
const staleAfter = 3 * time.Second

// counters are what this process did. They only rise.
type counters struct {
	accepted, repeated                       uint64
	taken, written, deadLettered, givenBack  uint64
	refusedFull, refusedClosed, refusedLarge uint64
	refusedCancelled                         uint64
}

// New returns this process' part in a queue, whose stream and consumer it makes
// where they are not there. Nothing is taken out of it until Run is called.
// Events are handed to publish one at a time, in order, outside of any lock; it
// may be nil. The connection stays the caller's. The sink and the dead letters
// may be nil where the process does not write. The error joins an *invalid.Value
// for each wrong setting.
func New(ctx context.Context, cfg Config, conn *nats.Conn, sink writequeue.Sink, dead writequeue.DeadLetters, publish func(pressure.Event), log *slog.Logger) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("coordinator_id", cfg.Queue.CoordinatorID)
	cfg.Queue.BatchSize = min(cfg.Queue.BatchSize, cfg.Queue.Capacity)
	q := &Queue{
		cfg: cfg, conn: conn, subject: "headgate.queue." + cfg.Stream, log: log,
		series: series.New(cfg.Queue.CoordinatorID, true), waits: series.NewWaits(cfg.Queue.CoordinatorID),
		line: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		judge:  levels.New(cfg.Queue.CoordinatorID, cfg.Queue.Marks.Thresholds(cfg.Queue.Capacity)),
		outbox: levels.NewOutbox(publish, log),
	}
	q.closing, q.close = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if cfg.Writes {
		if q.writer, err = writequeue.NewWriter(cfg.Queue, sink, dead, writequeue.GiveBackRest, log); err != nil {
			return nil, fmt.Errorf("durable write queue: %w", err)
		}
	}
	q.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(mostPublished), jetstream.WithPublishAsyncTimeout(answerWithin),
		jetstream.WithDefaultTimeout(answerWithin))
	if err != nil {
		return nil, fmt.Errorf("durable write queue: %w", err)
	}
	if err := q.prepare(ctx); err != nil {
		return nil, fmt.Errorf("durable write queue: %w", err)
	}
	if err := q.look(ctx); err != nil {
		return nil, fmt.Errorf("durable write queue: %w", err)
	}
	return q, nil
}

// answerWithin is how long the servers may take to answer.
const answerWithin = 5 * time.Second

// lookWithin is the same for a look at the whole queue. What was asked over a
// connection that is lost is never answered, and the next look may be.
const lookWithin = 2 * time.Second

// Run looks at the whole queue and, where this process writes, takes items out
// and writes them, until ctx ends. Then nothing is taken any more; a write that
// is under way goes on for the DrainTimeout at the longest, and what is not
// written is given back at once, for others to take. Run may be called once.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	again := q.running
	q.running = true
	q.mu.Unlock()
	if again {
		return errRunTwice
	}

	// What serves the workers ends after them.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var servants sync.WaitGroup
	servants.Go(func() { q.watch(serving) })
	writing, stopWriting := context.WithCancelCause(serving)
	var workers sync.WaitGroup
	if q.cfg.Writes {
		servants.Go(func() { q.keep(serving) })
		for range q.cfg.Queue.Workers {
			w := &worker{queue: q}
			q.mu.Lock()
			q.workers = append(q.workers, w)
			q.mu.Unlock()
			workers.Go(func() { w.work(ctx, writing) })
		}
	}

	<-ctx.Done()
	q.close()
	limit := time.AfterFunc(q.cfg.Queue.DrainTimeout, func() { stopWriting(errDrainLimit) })
	workers.Wait()
	limit.Stop()
	stopWriting(nil)
	stopServing()
	servants.Wait()
	// What was given back is on its way before the connection may be closed.
	_ = q.conn.FlushTimeout(answerWithin) // where it fails, it is redelivered later
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	_ = q.look(last) // for the last figures; q.seen tells where it failed

	q.mu.Lock()
	q.stopped = true
	s := q.stats()
	q.mu.Unlock()
	q.log.Info("write queue stopped", "accepted", s.Accepted, "written", s.Written,
		"dead_lettered", s.DeadLettered, "given_back", s.Durable.GivenBack, "waiting", s.Waiting)
	return nil
}

var (
	errRunTwice   = errors.New("durable write queue was run before")
	errDrainLimit = errors.New("the time limit for draining the write queue passed")
)

// Empty asks the servers whether nothing waits in the whole queue. Who does not
// write leaves it to others to empty it, and is told that it is.
func (q *Queue) Empty(ctx context.Context) (bool, error) {
	if !q.cfg.Writes {
		return true, nil
	}
	if err := q.look(ctx); err != nil {
		return false, err
	}
	return q.Stats().Waiting == 0, nil
}

// Stats returns the counters as they are now.
func (q *Queue) Stats() writequeue.Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats()
}

func (q *Queue) stats() writequeue.Stats {
	c := &q.count
	return writequeue.Stats{
		CoordinatorID: q.cfg.Queue.CoordinatorID,
		Accepted:      c.accepted,
		Written:       c.written,
		Waiting:       q.seen.waiting,
		DeadLettered:  c.deadLettered,
		Refused:       c.refusedFull + c.refusedClosed + c.refusedCancelled + c.refusedLarge,
		InFlight:      uint64(q.inFlight),
		MaxDepth:      q.maxDepth,
		Capacity:      q.seen.capacity,
		BlockedPuts:   q.blocked,
		Level:         q.judge.Level(),
		Durable:       &writequeue.Durable{Taken: c.taken, GivenBack: c.givenBack, Repeated: c.repeated, Stored: q.seen.stored},
	}
}

// Health returns how the queue is now.
func (q *Queue) Health() writequeue.Health {
	var reasons []string
	if q.writer != nil {
		reasons = q.writer.Faults()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, fault := range []struct {
		is     bool
		reason string
	}{
		{q.seen.failing != nil || q.cannot.Load(), writequeue.HealthQueueUnreachable},
		{q.seen.waiting >= q.seen.capacity, writequeue.HealthFull},
		{q.closing.Err() != nil, writequeue.HealthDraining},
	} {
		if fault.is {
			reasons = append(reasons, fault.reason)
		}
	}
	return writequeue.NewHealth(q.stopped, reasons)
}

// Describe implements prometheus.Collector.
func (q *Queue) Describe(ch chan<- *prometheus.Desc) {
	q.series.Describe(ch)
	if q.writer != nil {
		q.writer.Describe(ch)
		ch <- q.waits.Desc()
	}
}

// Collect implements prometheus.Collector. A whole that is not known is left
// out, for a depth of a while ago would be taken for that of now.
func (q *Queue) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	s, c, seen := q.stats(), q.count, q.seen
	events := q.outbox.Counts()
	q.mu.Unlock()
	f := series.Figures{Shared: q.cfg.Shared, Events: events}
	if time.Since(seen.at) < staleAfter {
		f.Whole = &series.Whole{Depth: s.Waiting, Capacity: s.Capacity, MaxDepth: s.MaxDepth, Level: s.Level}
	}
	if q.cfg.Accepts {
		f.Intake = &series.Intake{
			Accepted: c.accepted, BlockedPuts: s.BlockedPuts, Repeated: c.repeated,
			Refused: []series.Reason{
				{Name: writequeue.RefusedFull, Items: c.refusedFull}, {Name: writequeue.RefusedClosed, Items: c.refusedClosed},
				{Name: writequeue.RefusedCancelled, Items: c.refusedCancelled}, {Name: writequeue.RefusedTooLarge, Items: c.refusedLarge},
			},
		}
	}
	if q.cfg.Writes {
		f.Drain = &series.Drain{
			Written: c.written, DeadLettered: c.deadLettered, InFlight: int(s.InFlight), GivenBack: c.givenBack,
		}
	}
	q.series.Collect(ch, f)
	if q.writer != nil {
		q.writer.Collect(ch)
		ch <- q.waits
	}
}
