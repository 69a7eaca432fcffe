package writequeue

import "time"

// run is a number of items that were accepted within runSpan, with one receipt.
type run struct {
	n        int
	accepted time.Duration // the first of them, since the queue was made
	receipt  *Receipt      // nil where nobody asks
}

// runSpan bounds by how much an item's wait may seem longer than it is, so that
// items which come one by one need not be timed one by one.
const runSpan = 100 * time.Microsecond

// batch is items with the runs that they came in, both in order.
type batch struct {
	items []Item
	runs  []run // their numbers add up to the items'
}

// next takes the runs of the next n items out of the batch.
func (b *batch) next(n int) []run {
	i, left := 0, n
	for left > 0 && b.runs[i].n <= left {
		left -= b.runs[i].n
		i++
	}
	taken := b.runs[:i:i]
	b.runs = b.runs[i:]
	if left > 0 {
		taken = append(taken, run{left, b.runs[0].accepted, b.runs[0].receipt})
		b.runs[0].n -= left
	}
	return taken
}

// ring is a first-in-first-out store of items that allocates only while it
// grows, and never shrinks. Its items lie in chunks as long as a batch may be.
// Whoever takes a batch takes the oldest chunk itself, so that it takes no longer
// than to take one item, and brings it back empty with the next one.
type ring struct {
	size    int            // of a chunk, in items
	chunks  circle[[]Item] // with items; all but the newest are full
	dropped int            // of the oldest chunk's items, the first so many are gone
	held    int            // items that are not gone
	spare   [][]Item       // empty chunks
	runs    circle[run]
}

// n is how many items it holds.
func (r *ring) n() int { return r.held }

// push appends the items, of which there is at least one.
func (r *ring) push(items []Item, accepted time.Duration, receipt *Receipt) {
	n := len(items)
	r.held += n
	for len(items) > 0 {
		if r.chunks.n == 0 || len(*r.chunks.last()) == r.size {
			r.chunks.push(r.empty())
		}
		newest := r.chunks.last()
		k := min(len(items), r.size-len(*newest))
		*newest = append(*newest, items[:k]...)
		items = items[k:]
	}
	if r.runs.n > 0 {
		if newest := r.runs.last(); accepted-newest.accepted < runSpan && newest.receipt == receipt {
			newest.n += n
			return
		}
	}
	r.runs.push(run{n, accepted, receipt})
}

// empty returns a chunk without items.
func (r *ring) empty() []Item {
	last := len(r.spare) - 1
	if last < 0 {
		return make([]Item, 0, r.size)
	}
	chunk := r.spare[last]
	r.spare = r.spare[:last]
	return chunk
}

// pop returns the oldest items, as many as a chunk is long or there are, with
// their runs. For them it is given a batch that it returned before and whose items
// are cleared, or a zero one.
func (r *ring) pop(b batch) batch {
	if b.items != nil {
		r.spare = append(r.spare, b.items[:0])
	}
	b = batch{runs: b.runs[:0]}
	if r.held == 0 {
		return b
	}
	b.items = *r.chunks.first()
	r.chunks.drop()
	if r.dropped > 0 {
		b.items = r.fill(b.items)
	}
	r.held -= len(b.items)
	for left := len(b.items); left > 0; {
		oldest := r.takeRun(left)
		b.runs = append(b.runs, oldest)
		left -= oldest.n
	}
	return b
}

// fill moves the items of what was the oldest chunk into the place of those that
// were dropped, and the oldest of the next chunk behind them.
func (r *ring) fill(chunk []Item) []Item {
	n := copy(chunk, chunk[r.dropped:])
	clear(chunk[n:])
	chunk = chunk[:n]
	r.dropped = 0
	if r.chunks.n > 0 {
		next := *r.chunks.first()
		k := min(len(next), r.size-n)
		chunk = append(chunk, next[:k]...)
		r.forget(k)
	}
	return chunk
}

// drop forgets the n oldest items, and settles them. There are at least that many.
func (r *ring) drop(n int) {
	r.held -= n
	for left := n; left > 0; {
		left -= r.forget(left)
	}
	for n > 0 {
		dropped := r.takeRun(n)
		dropped.receipt.Settled(dropped.n, Lost)
		n -= dropped.n
	}
}

// forget lets go of the n oldest items, or of those in the oldest chunk where
// these are fewer, and returns how many.
func (r *ring) forget(n int) int {
	chunk := *r.chunks.first()
	n = min(n, len(chunk)-r.dropped)
	clear(chunk[r.dropped : r.dropped+n])
	r.dropped += n
	if r.dropped == len(chunk) {
		r.dropped = 0
		r.chunks.drop()
		r.spare = append(r.spare, chunk[:0])
	}
	return n
}

// takeRun takes the oldest run, or its first n items.
func (r *ring) takeRun(n int) run {
	oldest := r.runs.first()
	taken := *oldest
	if taken.n > n {
		oldest.n -= n
		taken.n = n
		return taken
	}
	r.runs.drop()
	return taken
}

// oldest is when the oldest item was accepted. There is at least one.
func (r *ring) oldest() time.Duration { return r.runs.first().accepted }

// circle is a first-in-first-out store in a slice whose end is joined to its
// beginning.
type circle[T any] struct {
	slots []T
	head  int // index of the oldest
	n     int // held
}

const smallestCircle = 64

// push appends a value.
func (c *circle[T]) push(value T) {
	if c.n == len(c.slots) {
		grown := make([]T, max(2*c.n, smallestCircle))
		k := copy(grown, c.slots[c.head:])
		copy(grown[k:], c.slots[:c.head])
		c.slots, c.head = grown, 0
	}
	c.n++
	*c.last() = value
}

// drop lets go of the oldest value. There is at least one.
func (c *circle[T]) drop() {
	var none T
	*c.first() = none
	c.n--
	if c.head++; c.head == len(c.slots) {
		c.head = 0
	}
}

// first is the oldest value. There is at least one.
func (c *circle[T]) first() *T { return &c.slots[c.head] }

// last is the newest value. There is at least one.
func (c *circle[T]) last() *T {
	i := c.head + c.n - 1
	if i >= len(c.slots) {
		i -= len(c.slots)
	}
	return &c.slots[i]
}
