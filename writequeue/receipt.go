package writequeue

import (
	"context"
	"sync"
)

// Receipt tells what became of the items that were put with its context. Its
// methods may be called by several goroutines at once.
type Receipt struct {
	changed chan struct{} // of size one: sent to when nothing is open any more

	mu   sync.Mutex
	open int // items that were accepted, and of which it is not known
	fate Fate
}

// Fate is what became of items that were accepted.
type Fate struct {
	Written, DeadLettered int
	Dropped               int // for whatever reason
}

type receiptKey struct{}

// WithReceipt returns a context by which a queue in memory keeps a receipt of the
// items that are put with it. Several queues and several Puts may share one: what
// each of them accepts has to be settled. A durable queue keeps none.
func WithReceipt(ctx context.Context) (context.Context, *Receipt) {
	r := &Receipt{changed: make(chan struct{}, 1)}
	return context.WithValue(ctx, receiptKey{}, r), r
}

// ReceiptOf is the receipt of a context, or nil, of which all methods but Wait do
// nothing.
func ReceiptOf(ctx context.Context) *Receipt {
	r, _ := ctx.Value(receiptKey{}).(*Receipt)
	return r
}

// Wait waits until it is known what became of all items that were put before, and
// tells it; what is known so far when ctx ends before.
func (r *Receipt) Wait(ctx context.Context) (Fate, error) {
	for {
		fate, done := r.known()
		if done {
			return fate, nil
		}
		select {
		case <-r.changed:
		case <-ctx.Done():
			fate, _ = r.known()
			return fate, ctx.Err()
		}
	}
}

func (r *Receipt) known() (fate Fate, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fate, r.open == 0
}

// Accepted notes n items of which it will be told what became.
func (r *Receipt) Accepted(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open += n
}

// Settled notes what became of n of them.
func (r *Receipt) Settled(n int, what Outcome) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open -= n
	switch what {
	case Written:
		r.fate.Written += n
	case DeadLettered:
		r.fate.DeadLettered += n
	default:
		r.fate.Dropped += n
	}
	if r.open == 0 {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}
