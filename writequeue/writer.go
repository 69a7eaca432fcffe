package writequeue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/writequeue/internal/series"
)

// Outcome is what became of items that a Writer was given.
type Outcome int

const (
	Written      Outcome = iota // the store has them
	DeadLettered                // the dead letters have them
	GivenBack                   // nobody has them: they are for others to write
	Lost                        // neither the store nor the dead letters took them before the end
)

// Settler is told what became of a batch. It is told of the items in their
// order, of the next n each time, until all are settled.
type Settler interface {
	Settle(n int, what Outcome)
}

// Rest says what a Writer does with items that are not written when its context
// ends.
type Rest int

const (
	BuryRest     Rest = iota // they go to the dead letters
	GiveBackRest             // they are given back
)

// Writer brings batches to a store: it tries again what may pass, leaves a store
// alone that fails, parts a batch with an item that no retry can mend until that
// item is alone, and keeps what cannot be written as dead letters. Its methods
// may be called by several goroutines at once, which then share the breaker. It
// is a prometheus.Collector for its own series.
type Writer struct {
	cfg     Config
	sink    Sink
	dead    DeadLetters
	rest    Rest
	log     *slog.Logger
	breaker circuitbreaker.CircuitBreaker[any]

	// breakerChanged is closed and replaced at each change of the breaker's
	// state.
	breakerMu      sync.Mutex
	breakerChanged chan struct{}

	failing                                    atomic.Bool  // the last write failed in a way that may pass
	unburied                                   atomic.Int64 // batches whose dead letters could not be kept, tried again now
	retries, deadLetterFailures, breakerOpened atomic.Uint64

	vectors                                 []*prometheus.HistogramVec
	counters                                map[string]*prometheus.Desc // made from the counters above, by name
	batchItems                              prometheus.Observer
	writeOK, writeRetryable, writePermanent prometheus.Observer
}

// NewWriter returns a writer to a store. Of the settings it looks at those of
// the retries, of the breaker and of one write, which the caller has validated.
func NewWriter(cfg Config, sink Sink, dead DeadLetters, rest Rest, log *slog.Logger) (*Writer, error) {
	if sink == nil || dead == nil {
		return nil, invalid.Missing("sink and dead letters", "both")
	}
	batch := metrics.NewHistogram(metrics.WriteBatchItems)
	write := metrics.NewHistogram(metrics.WriteDuration)
	w := &Writer{
		cfg: cfg, sink: sink, dead: dead, rest: rest, log: log,
		breakerChanged: make(chan struct{}),
		vectors:        []*prometheus.HistogramVec{batch, write},
		counters:       map[string]*prometheus.Desc{},
		batchItems:     batch.WithLabelValues(cfg.CoordinatorID),
		writeOK:        write.WithLabelValues(cfg.CoordinatorID, "ok"),
		writeRetryable: write.WithLabelValues(cfg.CoordinatorID, "retryable"),
		writePermanent: write.WithLabelValues(cfg.CoordinatorID, "permanent"),
	}
	for _, name := range []string{
		metrics.WriteRetries, metrics.DeadLetterFailures, metrics.StoreBreakerState, metrics.StoreBreakerOpened,
	} {
		w.counters[name] = metrics.Desc(name)
	}
	w.breaker = w.newBreaker()
	return w, nil
}

// Deliver brings a batch to the store or to the dead letters, whatever it takes,
// and returns when all of its items are settled. When ctx ends no further write
// begins, and what is not written is for the rest. A write that is under way goes
// on until writing ends, which may be ctx too.
func (w *Writer) Deliver(ctx, writing context.Context, items []Item, to Settler) {
	w.batchItems.Observe(float64(len(items)))
	w.deliver(ctx, writing, items, 0, to)
}

// deliver goes on with items with which so many writes were tried.
func (w *Writer) deliver(ctx, writing context.Context, items []Item, attempts int, to Settler) {
	var again *backoff.ExponentialBackOff // while neither the store nor the dead letters take it
	for {
		tried, err := w.write(ctx, writing, items)
		attempts += tried
		if err == nil {
			to.Settle(len(items), Written)
			break
		}
		if w.rest == GiveBackRest && ctx.Err() != nil {
			to.Settle(len(items), GivenBack)
			break
		}
		if half := len(items) / 2; half > 0 && IsPermanent(err) {
			w.deliver(ctx, writing, items[:half], attempts, to)
			w.deliver(ctx, writing, items[half:], attempts, to)
			break
		}
		if w.bury(ctx, items, attempts, err, to) {
			break
		}
		if ctx.Err() != nil {
			w.abandon(len(items), to)
			break
		}
		if again == nil {
			again = w.newBackOff()
			w.unburied.Add(1)
		}
		pause(ctx, again.NextBackOff())
	}
	if again != nil {
		w.unburied.Add(-1)
	}
}

// abandon settles items that the dead letters did not take before the end.
func (w *Writer) abandon(n int, to Settler) {
	if w.rest == GiveBackRest {
		to.Settle(n, GivenBack)
		return
	}
	to.Settle(n, Lost)
}

// Bury settles items without a write: they go to the dead letters, for the cause.
func (w *Writer) Bury(ctx context.Context, items []Item, cause error, to Settler) {
	if !w.bury(ctx, items, 0, cause, to) {
		w.abandon(len(items), to)
	}
}

// write tries to write the items as often as the settings allow. It returns
// how often it tried and the last error: the store's, or ctx's where the store
// was not asked.
func (w *Writer) write(ctx, writing context.Context, items []Item) (tried int, err error) {
	if err := w.permit(ctx); err != nil {
		return 0, err
	}
	err = w.writeOnce(writing, items)
	if err != nil && !IsPermanent(err) {
		return w.writeAgain(ctx, writing, items, err)
	}
	return 1, err
}

// writeAgain goes on after a first try that failed with last, which may pass.
func (w *Writer) writeAgain(ctx, writing context.Context, items []Item, last error) (tried int, err error) {
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		if tried > 0 {
			if err := w.permit(ctx); err != nil {
				return struct{}{}, err
			}
			w.retries.Add(1)
			last = w.writeOnce(writing, items)
		}
		tried++
		return struct{}{}, last
	}, backoff.WithBackOff(w.newBackOff()), backoff.WithMaxTries(uint(w.cfg.Retry.Attempts)), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return tried, nil
	}
	return tried, last // Retry takes the mark of a permanent error off
}

// writeOnce asks the store once, and tells the breaker and the series.
func (w *Writer) writeOnce(ctx context.Context, items []Item) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.WriteTimeout)
	defer cancel()
	begin := time.Now()
	err := w.sink.Write(ctx, items)
	took := time.Since(begin)

	// A store that refuses a row is well: it answered.
	switch {
	case err == nil:
		w.writeOK.Observe(took.Seconds())
		w.breaker.RecordSuccess()
	case IsPermanent(err):
		w.writePermanent.Observe(took.Seconds())
		w.breaker.RecordSuccess()
	default:
		w.writeRetryable.Observe(took.Seconds())
		w.breaker.RecordFailure()
	}
	w.storeFails(err)
	return err
}

// storeFails notes whether the store failed in a way that may pass, and logs
// when that changed.
func (w *Writer) storeFails(err error) {
	failing := err != nil && !IsPermanent(err)
	changed := w.failing.Swap(failing) != failing
	switch {
	case changed && failing:
		w.log.Warn("store fails, writes are tried again", "error", err)
	case changed:
		w.log.Info("store answers again")
	}
}

// bury gives the items to the dead letters and reports whether they are safe
// there.
func (w *Writer) bury(ctx context.Context, items []Item, attempts int, cause error, to Settler) bool {
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
			Item: item, CoordinatorID: w.cfg.CoordinatorID,
			Error: cause.Error(), Attempts: attempts, At: now,
		}
	}
	if err := w.dead.Append(ctx, letters); err != nil {
		w.deadLetterFailures.Add(1)
		w.log.Error("dead letters cannot be kept", "items", len(items), "error", err, "cause", cause)
		return false
	}
	to.Settle(len(items), DeadLettered)
	w.log.Warn("items went to the dead letters", "items", len(items), "attempts", attempts, "cause", cause)
	return true
}

// Faults are what is wrong with the store or the dead letters now, of the
// reasons that a queue's health has.
func (w *Writer) Faults() (reasons []string) {
	if w.failing.Load() {
		reasons = append(reasons, HealthStoreFailing)
	}
	if w.breaker.State() != circuitbreaker.ClosedState {
		reasons = append(reasons, HealthBreakerOpen)
	}
	if w.unburied.Load() > 0 {
		reasons = append(reasons, HealthDeadLettersFailing)
	}
	return reasons
}

// Describe implements prometheus.Collector.
func (w *Writer) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range w.counters {
		ch <- desc
	}
	for _, v := range w.vectors {
		v.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (w *Writer) Collect(ch chan<- prometheus.Metric) {
	send := func(name string, kind prometheus.ValueType, value float64, label ...string) {
		ch <- prometheus.MustNewConstMetric(w.counters[name], kind, value, append([]string{w.cfg.CoordinatorID}, label...)...)
	}
	state := w.breaker.State()
	send(metrics.StoreBreakerState, prometheus.GaugeValue, series.OneIf(state == circuitbreaker.ClosedState), "closed")
	send(metrics.StoreBreakerState, prometheus.GaugeValue, series.OneIf(state == circuitbreaker.HalfOpenState), "half_open")
	send(metrics.StoreBreakerState, prometheus.GaugeValue, series.OneIf(state == circuitbreaker.OpenState), "open")
	send(metrics.StoreBreakerOpened, prometheus.CounterValue, float64(w.breakerOpened.Load()))
	send(metrics.WriteRetries, prometheus.CounterValue, float64(w.retries.Load()))
	send(metrics.DeadLetterFailures, prometheus.CounterValue, float64(w.deadLetterFailures.Load()))
	for _, v := range w.vectors {
		v.Collect(ch)
	}
}

// newBackOff returns the delays between two tries. The library draws evenly
// from 1-f to 1+f of its interval; three quarters of the nominal delay with a
// third each way is 50 to 100 % of it.
func (w *Writer) newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     w.cfg.Retry.Initial / 4 * 3,
		MaxInterval:         w.cfg.Retry.Max / 4 * 3,
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
