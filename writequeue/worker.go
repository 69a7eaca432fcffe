package writequeue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
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
	hands batch // as long as a batch may be
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
	w := &worker{
		wake:  make(chan struct{}, 1),
		hands: batch{items: make([]Item, q.batchSize)},
		timer: time.NewTimer(0),
	}
	defer w.timer.Stop()
	for {
		b := q.take(ctx, w)
		if len(b.items) == 0 {
			return
		}
		q.series.batchItems.Observe(float64(len(b.items)))
		q.deliver(ctx, b, 0)
		clear(b.items)
		w.hands.runs = b.runs // which may have grown
	}
}

// take waits for a batch and moves it into the worker's hands. A batch is due
// when it is full, when its oldest item has waited for BatchWait, when the
// queue is full so that waiting for more is in vain, or when the queue is
// closing. It is empty when the queue is closed and empty, or ctx ended.
func (q *Queue) take(ctx context.Context, w *worker) batch {
	for called := false; ; {
		now := q.now()
		q.mu.Lock()
		if called {
			q.called--
		}
		due := q.due(now)
		if due == 0 && ctx.Err() == nil {
			b := q.ring.pop(w.hands)
			q.inFlight += len(b.items)
			q.callWorkers()
			q.mu.Unlock()
			return b
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

// deliver brings a batch to the store or to the dead letters, whatever it takes, and returns when none of them is left. attempts is how many writes
// were tried with them before. When ctx ends, what is not written goes to the
// dead letters.
func (q *Queue) deliver(ctx context.Context, b batch, attempts int) {
	var again *backoff.ExponentialBackOff // while neither the store nor the dead letters take it
	for {
		tried, err := q.write(ctx, b.items)
		attempts += tried
		if err == nil {
			q.written(b)
			break
		}
		if half := len(b.items) / 2; half > 0 && IsPermanent(err) {
			first, second := b.split(half)
			q.deliver(ctx, first, attempts)
			q.deliver(ctx, second, attempts)
			break
		}
		if q.bury(ctx, b.items, attempts, err) {
			break
		}
		if ctx.Err() != nil {
			q.lose(len(b.items))
			break
		}
		if again == nil {
			again = q.newBackOff()
			q.addUnburied(1)
		}
		pause(ctx, again.NextBackOff())
	}
	if again != nil {
		q.addUnburied(-1)
	}
}

// write tries to write the items as often as the settings allow. It returns
// how often it tried and the last error: the store's, or ctx's where the store
// was not asked.
func (q *Queue) write(ctx context.Context, items []Item) (tried int, err error) {
	if err := q.permit(ctx); err != nil {
		return 0, err
	}
	err = q.writeOnce(ctx, items)
	if err != nil && !IsPermanent(err) {
		return q.writeAgain(ctx, items, err)
	}
	return 1, err
}

// writeAgain goes on after a first try that failed with last, which may pass.
func (q *Queue) writeAgain(ctx context.Context, items []Item, last error) (tried int, err error) {
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		if tried > 0 {
			if err := q.permit(ctx); err != nil {
				return struct{}{}, err
			}
			q.mu.Lock()
			q.count.retries++
			q.mu.Unlock()
			last = q.writeOnce(ctx, items)
		}
		tried++
		return struct{}{}, last
	}, backoff.WithBackOff(q.newBackOff()), backoff.WithMaxTries(uint(q.cfg.Retry.Attempts)), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return tried, nil
	}
	return tried, last // Retry takes the mark of a permanent error off
}

// writeOnce asks the store once, and tells the breaker and the series.
func (q *Queue) writeOnce(ctx context.Context, items []Item) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.WriteTimeout)
	defer cancel()
	begin := time.Now()
	err := q.sink.Write(ctx, items)
	took := time.Since(begin)

	// A store that refuses a row is well: it answered.
	switch {
	case err == nil:
		q.series.writeOK.Observe(took.Seconds())
		q.breaker.RecordSuccess()
	case IsPermanent(err):
		q.series.writePermanent.Observe(took.Seconds())
		q.breaker.RecordSuccess()
	default:
		q.series.writeRetryable.Observe(took.Seconds())
		q.breaker.RecordFailure()
	}
	q.storeFails(err)
	return err
}

// storeFails notes whether the store failed in a way that may pass, and logs
// when that changed.
func (q *Queue) storeFails(err error) {
	failing := err != nil && !IsPermanent(err)
	changed := q.failing.Swap(failing) != failing
	switch {
	case changed && failing:
		q.log.Warn("store fails, writes are tried again", "error", err)
	case changed:
		q.log.Info("store answers again")
	}
}

// written counts items that the store has.
func (q *Queue) written(b batch) {
	now := q.now()
	q.series.waits.observe(b.runs, now)
	q.mu.Lock()
	q.count.written += uint64(len(b.items))
	q.settle(len(b.items), now)
	if !q.announced {
		level, _ := q.tracker.Level()
		q.note(level, ReasonStoreReady)
	}
	q.unlockAndPublish()
}

// bury gives the items to the dead letters and reports whether they are safe
// there.
func (q *Queue) bury(ctx context.Context, items []Item, attempts int, cause error) bool {
	if ctx.Err() != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAppend)
		defer cancel()
		if ended := context.Cause(ctx); !errors.Is(cause, ended) {
			cause = fmt.Errorf("%w, after: %w", ended, cause)
		}
		ctx = limited
	}
	now := time.Now()
	letters := make([]Letter, len(items))
	for i, item := range items {
		letters[i] = Letter{
			Item: item, CoordinatorID: q.cfg.CoordinatorID,
			Error: cause.Error(), Attempts: attempts, At: now,
		}
	}
	err := q.dead.Append(ctx, letters)
	q.mu.Lock()
	if err != nil {
		q.count.deadLetterFailures++
		q.mu.Unlock()
		q.log.Error("dead letters cannot be kept", "items", len(items), "error", err, "cause", cause)
		return false
	}
	q.count.deadLettered += uint64(len(items))
	q.settle(len(items), q.now())
	q.unlockAndPublish()
	q.log.Warn("items went to the dead letters", "items", len(items), "attempts", attempts, "cause", cause)
	return true
}

// lose counts items that neither the store nor the dead letters took before
// the end.
func (q *Queue) lose(n int) {
	q.mu.Lock()
	q.count.droppedDeadLetters += uint64(n)
	q.settle(n, q.now())
	q.unlockAndPublish()
}

// buryRest gives what no worker took before the drain limit to the dead
// letters.
func (q *Queue) buryRest(ctx context.Context) {
	hands := batch{items: make([]Item, q.batchSize)}
	for {
		q.mu.Lock()
		b := q.ring.pop(hands)
		q.inFlight += len(b.items)
		q.mu.Unlock()
		if len(b.items) == 0 {
			return
		}
		if !q.bury(ctx, b.items, 0, errDrainLimit) {
			q.lose(len(b.items))
		}
		hands.runs = b.runs
	}
}

func (q *Queue) addUnburied(n int) {
	q.mu.Lock()
	q.unburied += n
	q.mu.Unlock()
}

// newBackOff returns the delays between two tries. The library draws evenly
// from 1-f to 1+f of its interval; three quarters of the nominal delay with a
// third each way is 50 to 100 % of it.
func (q *Queue) newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     q.cfg.Retry.Initial / 4 * 3,
		MaxInterval:         q.cfg.Retry.Max / 4 * 3,
		Multiplier:          2,
		RandomizationFactor: 1. / 3,
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
