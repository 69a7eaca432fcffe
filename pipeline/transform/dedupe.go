package transform

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/headgate/headgate/writequeue"
)

// Dedupe removes items whose field has a value that an accepted item had
// lately. An item without the field goes on.
//
// A value is remembered only when its item was accepted further on: one that
// was refused and is offered again is no repetition. So of two equal items that
// are on their way at the same moment both may go on; nothing is ever lost.
//
// Memory is bounded: 16 bytes of a value's hash and a time for each of the
// values remembered, the oldest of which is forgotten first.
type Dedupe struct {
	field  string
	within time.Duration
	most   int // values remembered

	mu   sync.Mutex
	seen map[digest]int // place in the ring
	ring []memory       // grows up to most; then the oldest one makes room
	next int            // place of the oldest one, once the ring is full
}

// digest stands for a value. Two values share one by chance of 2^-128.
type digest [16]byte

type memory struct {
	value digest
	at    time.Time
}

// NewDedupe returns a Dedupe by the field at that path, or by the item's key
// where it is empty, that remembers so many values (>= 1), each for so long at
// most (0 is as long as there is room).
func NewDedupe(field string, remember int, within time.Duration) *Dedupe {
	return &Dedupe{
		field: field, within: within, most: remember, seen: map[digest]int{},
	}
}

// Apply removes repetitions of what was accepted, and within the batch.
func (d *Dedupe) Apply(items []writequeue.Item) (kept []writequeue.Item, from []int) {
	now := time.Now()
	inBatch := map[digest]bool{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, item := range items {
		value, found := d.value(item)
		if found {
			if inBatch[value] || d.remembers(value, now) {
				continue
			}
			inBatch[value] = true
		}
		kept, from = append(kept, item), append(from, i)
	}
	return kept, from
}

// Taken remembers the values of items that were accepted.
func (d *Dedupe) Taken(items []writequeue.Item) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, item := range items {
		if value, found := d.value(item); found {
			d.remember(value, now)
		}
	}
}

func (d *Dedupe) value(item writequeue.Item) (digest, bool) {
	value := []byte(item.Key)
	if d.field != "" {
		raw, found := lookUp(item.Payload, d.field)
		if !found || string(raw) == "null" {
			return digest{}, false
		}
		value = raw
	}
	sum := sha256.Sum256(value)
	return digest(sum[:16]), true
}

func (d *Dedupe) remembers(value digest, now time.Time) bool {
	place, found := d.seen[value]
	return found && (d.within == 0 || now.Sub(d.ring[place].at) < d.within)
}

func (d *Dedupe) remember(value digest, now time.Time) {
	place := len(d.ring)
	if place < d.most {
		d.ring = append(d.ring, memory{})
	} else {
		place = d.next
		d.next = (d.next + 1) % d.most
		if old := d.ring[place].value; d.seen[old] == place {
			delete(d.seen, old)
		}
	}
	d.ring[place] = memory{value, now}
	d.seen[value] = place
}
