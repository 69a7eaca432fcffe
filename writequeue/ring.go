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
// grows. Items go in and out by whole runs. It grows by doubling up to its limit
// and never shrinks.
type ring struct {
	items circle[Item]
	runs  circle[run]
	limit int // the most items that it will be asked to hold
}

// n is how many items it holds.
func (r *ring) n() int { return r.items.n }

// push appends the items, of which there is at least one. The caller has made
// sure that they fit in the limit.
func (r *ring) push(items []Item, accepted time.Duration, receipt *Receipt) {
	r.items.reserve(len(items), r.limit)
	r.items.push(items)
	if r.runs.n > 0 {
		if newest := r.runs.last(); accepted-newest.accepted < runSpan && newest.receipt == receipt {
			newest.n += len(items)
			return
		}
	}
	r.runs.reserve(1, r.limit)
	r.runs.push([]run{{len(items), accepted, receipt}})
}

// pop moves the oldest items, as many as b.items is long or there are, into b
// with their runs, and returns b with these alone.
func (r *ring) pop(b batch) batch {
	b.items = b.items[:r.items.pop(b.items)]
	b.runs = b.runs[:0]
	for left := len(b.items); left > 0; {
		oldest := r.takeRun(left)
		b.runs = append(b.runs, oldest)
		left -= oldest.n
	}
	return b
}

// drop forgets the n oldest items, and settles them. There are at least that many.
func (r *ring) drop(n int) {
	r.items.drop(n)
	for n > 0 {
		dropped := r.takeRun(n)
		dropped.receipt.Settled(dropped.n, Lost)
		n -= dropped.n
	}
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
	r.runs.drop(1)
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

const smallestCircle = 256

// reserve makes room for more, of at most limit in all.
func (c *circle[T]) reserve(more, limit int) {
	if c.n+more <= len(c.slots) {
		return
	}
	size := max(len(c.slots), smallestCircle)
	for size < c.n+more {
		size *= 2
	}
	grown := make([]T, min(size, limit))
	n := c.pop(grown)
	c.slots, c.head, c.n = grown, 0, n
}

// push appends values for which there is room.
func (c *circle[T]) push(values []T) {
	tail := c.head + c.n
	if tail >= len(c.slots) {
		tail -= len(c.slots)
	}
	k := copy(c.slots[tail:], values)
	copy(c.slots, values[k:])
	c.n += len(values)
}

// pop moves the oldest values, as many as into holds or there are, and returns
// how many.
func (c *circle[T]) pop(into []T) int {
	n := min(len(into), c.n)
	k := copy(into[:n], c.slots[c.head:])
	copy(into[k:n], c.slots)
	c.drop(n)
	return n
}

// drop forgets the n oldest values, and lets go of what they held.
func (c *circle[T]) drop(n int) {
	end := min(c.head+n, len(c.slots))
	clear(c.slots[c.head:end])
	rest := c.head + n - end
	clear(c.slots[:rest])
	c.head += n
	if c.head >= len(c.slots) {
		c.head -= len(c.slots)
	}
	c.n -= n
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
