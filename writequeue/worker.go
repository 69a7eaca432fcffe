package writequeue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

var (
	errRunTwice   = errors.New("write queue was run before")
	errDrainLimit = errors.New("the time limit for draining the write queue passed")
)

// lastAppend is how long the dead letters may take for what is left after the
// drain limit.
const lastAppend = 10 * time.Second

// worker writes one batch at a time. What is not guarded belongs to its
// goroutine.
type worker struct {
	wake    chan struct{} // of size one: sent to when it is taken off the idle list
	watches bool          // idle until a batch's time comes; guarded by Queue.mu

	timer *time.Timer
	hands batch // what it took last
	taken batch // the same, with the runs only of what is not settled
	queue *Queue
}

// Run writes what is put until ctx ends. Then it takes no more, goes on
// writing for the DrainTimeout, gives what is left to the dead letters, and
// returns; nothing waits any more. The error tells how many items were lost
// because the dead letters could not be kept either, and is nil when none were.
// Run may be called once.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	again := q.running
	q.running = true
	q.mu.Unlock()
	if again {
		return errRunTwice
	}

	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var workers sync.WaitGroup
	for range q.cfg.Workers {
		workers.Go(func() { q.work(hard) })
	}

	<-ctx.Done()
	q.close()
	limit := time.AfterFunc(q.cfg.DrainTimeout, func() { cancel(errDrainLimit) })
	workers.Wait()
	limit.Stop()
	q.buryRest(hard)

	q.mu.Lock()
	q.stopped = true
	lost, stats := q.count.droppedDeadLetters, q.stats()
	q.mu.Unlock()
	q.log.Info("write queue stopped", "accepted", stats.Accepted, "written", stats.Written,
		"dropped", stats.Dropped, "dead_lettered", stats.DeadLettered)
	if lost > 0 {
		return fmt.Errorf("write queue lost %d items: neither the store nor the dead letters took them", lost)
	}
	return nil
}

// work takes batches and delivers them until there are no more to come, or ctx
// ends.
func (q *Queue) work(ctx context.Context) {
	w := q.newWorker()
	w.timer = time.NewTimer(0)
	defer w.timer.Stop()
	for {
		w.taken = q.take(ctx, w)
		if len(w.taken.items) == 0 {
			return
		}
		q.writer.Deliver(ctx, ctx, w.taken.items, w)
		clear(w.taken.items)
	}
}

func (q *Queue) newWorker() *worker {
	return &worker{wake: make(chan struct{}, 1), queue: q}
}

// take waits for a batch and moves it into the worker's hands. A batch is due
// when it is full, when its oldest item has waited for BatchWait, when the
// queue is full so that waiting for more is in vain, or when the queue is
// closing. It is empty when the queue is closed and empty, or ctx ended.
func (q *Queue) take(ctx context.Context, w *worker) batch {
	for called := false; ; {
		now := q.now()
		q.lock()
		if called {
			q.called--
		}
		due := q.due(now)
		if due == 0 && ctx.Err() == nil {
			w.hands = q.ring.pop(w.hands)
			q.inFlight += len(w.hands.items)
			q.callWorkers()
			q.mu.Unlock()
			return w.hands
		}
		if q.closed {
			q.mu.Unlock()
			return batch{}
		}
		w.watches = due > 0
		if w.watches {
			q.watching++
		}
		q.idle = append(q.idle, w)
		q.mu.Unlock()

		called = w.wait(due)
		if !called {
			called = q.leaveIdle(w)
		}
	}
}

// due is how long it takes until a batch is due, and negative if there are no
// items. q.mu is held.
func (q *Queue) due(now time.Duration) time.Duration {
	switch {
	case q.ring.n() == 0:
		return -1
	case q.ring.n() >= q.batchSize || q.room() <= 0 || q.closed:
		return 0
	}
	return max(0, q.ring.oldest()+q.cfg.BatchWait-now)
}

// wait reports whether the worker was called, for which it waits no longer
// than due, or for ever where that is negative. Whoever closes the queue calls.
func (w *worker) wait(due time.Duration) (called bool) {
	if due < 0 {
		<-w.wake
		return true
	}
	w.timer.Reset(due)
	select {
	case <-w.wake:
		w.timer.Stop()
		return true
	case <-w.timer.C:
		return false
	}
}

// leaveIdle takes a worker off the idle list. It reports whether the worker
// was called meanwhile and thus is off it already.
func (q *Queue) leaveIdle(w *worker) (called bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.idle, w)
	if i < 0 {
		<-w.wake
		return true
	}
	q.idle = slices.Delete(q.idle, i, i+1)
	q.watching--
	return false
}

// callWorkers calls as many idle workers as there are batches due. Where none
// is due but items wait, it sees to it that one worker watches the time. A
// worker that takes a batch calls others for what it leaves behind. q.mu is
// held.
func (q *Queue) callWorkers() {
	want := q.ring.n() / q.batchSize
	if want == 0 && q.ring.n() > 0 && (q.watching == 0 || q.room() <= 0 || q.closed) {
		want = 1
	}
	for q.called < want && len(q.idle) > 0 {
		q.callWorker()
	}
}

// callWorker wakes the worker that went idle last. q.mu is held, and there is
// one.
func (q *Queue) callWorker() {
	last := len(q.idle) - 1
	w := q.idle[last]
	q.idle = q.idle[:last]
	if w.watches {
		q.watching--
	}
	q.called++
	w.wake <- struct{}{}
}

// Settle counts what became of the next n items of the worker's hands.
func (w *worker) Settle(n int, what Outcome) {
	runs := w.taken.next(n)
	w.queue.settle(n, runs, what)
}

// settle takes n items out of the workers' hands, counts what became of them and
// lets those in that wait for their room.
func (q *Queue) settle(n int, runs []run, what Outcome) {
	now := q.now()
	if what == Written {
		q.waits.Observe(len(runs), func(i int) (int, time.Duration) { return runs[i].n, now - runs[i].accepted })
	}
	q.lock()
	switch what {
	case Written:
		q.count.written += uint64(n)
	case DeadLettered:
		q.count.deadLettered += uint64(n)
	case Lost:
		q.count.droppedDeadLetters += uint64(n)
	}
	q.leave(n, now)
	if what == Written && !q.judge.Announced() {
		q.note(ReasonStoreReady)
	}
	q.unlockAndPublish()
	for _, r := range runs {
		r.receipt.Settled(r.n, what)
	}
}

// buryRest gives what no worker took before the drain limit to the dead
// letters.
func (q *Queue) buryRest(ctx context.Context) {
	w := q.newWorker()
	for {
		q.mu.Lock()
		w.hands = q.ring.pop(w.hands)
		w.taken = w.hands
		q.inFlight += len(w.taken.items)
		q.mu.Unlock()
		if len(w.taken.items) == 0 {
			return
		}
		q.writer.Bury(ctx, w.taken.items, errDrainLimit, w)
		clear(w.taken.items)
	}
}
