package writequeue

import "time"

// slot is an item with the time at which it was accepted.
type slot struct {
	item     Item
	accepted time.Duration // since the queue was made
}

// ring is a first-in-first-out store of items that allocates only while it
// grows. It grows by doubling up to its limit and never shrinks.
type ring struct {
	slots []slot
	head  int // index of the oldest item
	n     int // items held
	limit int // the most that it will be asked to hold
}

const smallestRing = 256

// push appends the items. The caller has made sure that they fit in the limit.
func (r *ring) push(items []Item, accepted time.Duration) {
	r.reserve(r.n + len(items))
	at := r.head + r.n
	for i := range items {
		if at >= len(r.slots) {
			at -= len(r.slots)
		}
		r.slots[at] = slot{items[i], accepted}
		at++
	}
	r.n += len(items)
}

// pop moves the oldest items, at most len(items) of them, into items and their
// times of acceptance into accepted, and returns how many.
func (r *ring) pop(items []Item, accepted []time.Duration) int {
	n := min(len(items), r.n)
	for i := range n {
		s := &r.slots[r.head]
		items[i], accepted[i] = s.item, s.accepted
		*s = slot{}
		r.advance()
	}
	return n
}

// drop forgets the n oldest items. There are at least that many.
func (r *ring) drop(n int) {
	for range n {
		r.slots[r.head] = slot{}
		r.advance()
	}
}

// oldest is when the oldest item was accepted. There is at least one.
func (r *ring) oldest() time.Duration { return r.slots[r.head].accepted }

func (r *ring) advance() {
	r.head++
	if r.head == len(r.slots) {
		r.head = 0
	}
	r.n--
}

// reserve makes room for n items in all.
func (r *ring) reserve(n int) {
	if n <= len(r.slots) {
		return
	}
	size := max(len(r.slots), smallestRing)
	for size < n {
		size *= 2
	}
	grown := make([]slot, min(size, r.limit))
	first := copy(grown, r.slots[r.head:min(r.head+r.n, len(r.slots))])
	copy(grown[first:], r.slots[:r.n-first])
	r.slots, r.head = grown, 0
}
