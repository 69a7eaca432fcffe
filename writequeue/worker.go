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

	timer    *time.Timer
	items    []Item
	accepted []time.Duration
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
		wake:     make(chan struct{}, 1),
		items:    make([]Item, q.batchSize),
		accepted: make([]time.Duration, q.batchSize),
		timer:    time.NewTimer(0),
	}
	defer w.timer.Stop()
	for {
		n := q.take(ctx, w)
		if n == 0 {
			return
		}
		q.series.batchItems.Observe(float64(n))
		q.deliver(ctx, w.items[:n], w.accepted[:n], 0)
		clear(w.items[:n])
	}
}

// take waits for a batch and moves it into the worker's hands. A batch is due
// when it is full, when its oldest item has waited for BatchWait, when the
// queue is full so that waiting for more is in vain, or when the queue is
// closing. It returns 0 when the queue is closed and empty, or ctx ended.
func (q *Queue) take(ctx context.Context, w *worker) int {
	for called := false; ; {
		now := time.Since(q.started)
		q.mu.Lock()
		if called {
			q.called--
		}
		due := q.due(now)
		if due == 0 && ctx.Err() == nil {
			n := q.ring.pop(w.items, w.accepted)
			q.inFlight += n
			q.callWorkers()
			q.mu.Unlock()
			return n
		}
		if q.closed {
			q.mu.Unlock()
			return 0
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
	case q.ring.n == 0:
		return -1
	case q.ring.n >= q.batchSize || q.room() <= 0 || q.closed:
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
	want := q.ring.n / q.batchSize
	if want == 0 && q.ring.n > 0 && (q.watching == 0 || q.room() <= 0 || q.closed) {
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

// deliver brings the items to the store or to the dead letters, whatever it
// takes, and returns when none of them is left. attempts is how many writes
// were tried with them before. When ctx ends, what is not written goes to the
// dead letters.
func (q *Queue) deliver(ctx context.Context, items []Item, accepted []time.Duration, attempts int) {
	again := q.newBackOff()
	stuck := false
	for {
		tried, err := q.write(ctx, items)
		attempts += tried
		if err == nil {
			q.written(accepted)
			break
		}
		if half := len(items) / 2; half > 0 && IsPermanent(err) {
			q.deliver(ctx, items[:half], accepted[:half], attempts)
			q.deliver(ctx, items[half:], accepted[half:], attempts)
			break
		}
		if q.bury(ctx, items, attempts, err) {
			break
		}
		if ctx.Err() != nil {
			q.lose(len(items))
			break
		}
		if !stuck {
			stuck = true
			q.addUnburied(1)
		}
		pause(ctx, again.NextBackOff())
	}
	if stuck {
		q.addUnburied(-1)
	}
}

// write tries to write the items as often as the settings allow. It returns
// how often it tried and the last error: the store's, or ctx's where the store
// was not asked.
func (q *Queue) write(ctx context.Context, items []Item) (tried int, err error) {
	var last error
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		if err := q.permit(ctx); err != nil {
			return struct{}{}, err
		}
		if tried > 0 {
			q.mu.Lock()
			q.count.retries++
			q.mu.Unlock()
		}
		tried++
		last = q.writeOnce(ctx, items)
		return struct{}{}, last
	}, backoff.WithBackOff(q.newBackOff()), backoff.WithMaxTries(uint(q.cfg.Retry.Attempts)), backoff.WithMaxElapsedTime(0))
	switch {
	case err == nil:
		return tried, nil
	case last != nil: // Retry takes the mark of a permanent error off
		return tried, last
	default:
		return tried, err
	}
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
func (q *Queue) written(accepted []time.Duration) {
	now := time.Now()
	q.observeWaits(accepted, now)
	q.mu.Lock()
	q.count.written += uint64(len(accepted))
	q.settle(len(accepted), now)
	if !q.announced {
		level, _ := q.tracker.Level()
		q.note(level, ReasonStoreReady, now)
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
	q.settle(len(items), time.Now())
	q.unlockAndPublish()
	q.log.Warn("items went to the dead letters", "items", len(items), "attempts", attempts, "cause", cause)
	return true
}

// lose counts items that neither the store nor the dead letters took before
// the end.
func (q *Queue) lose(n int) {
	q.mu.Lock()
	q.count.droppedDeadLetters += uint64(n)
	q.settle(n, time.Now())
	q.unlockAndPublish()
}

// buryRest gives what no worker took before the drain limit to the dead
// letters.
func (q *Queue) buryRest(ctx context.Context) {
	items := make([]Item, q.batchSize)
	accepted := make([]time.Duration, q.batchSize)
	for {
		q.mu.Lock()
		n := q.ring.pop(items, accepted)
		q.inFlight += n
		q.mu.Unlock()
		if n == 0 {
			return
		}
		if !q.bury(ctx, items[:n], 0, errDrainLimit) {
			q.lose(n)
		}
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

// observeWaits puts the time from acceptance to now into the histogram, item
// by item.
func (q *Queue) observeWaits(accepted []time.Duration, now time.Time) {
	since := now.Sub(q.started)
	for _, at := range accepted {
		q.series.wait.Observe((since - at).Seconds())
	}
}
