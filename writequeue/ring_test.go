package writequeue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// timed is an item as the obvious model of a ring keeps it.
type timed struct {
	Key      string
	Accepted time.Duration
}

// each is a batch item by item.
func each(b batch) (all []timed) {
	rest := b.items
	for _, r := range b.runs {
		for _, item := range rest[:r.n] {
			all = append(all, timed{item.Key, r.accepted})
		}
		rest = rest[r.n:]
	}
	if len(rest) > 0 {
		panic("the runs are shorter than the items")
	}
	return all
}

// TestTheRingIsASlice runs random programs on a ring and on a slice.
func TestTheRingIsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 700).Draw(t, "limit")
		r := ring{size: rapid.IntRange(1, min(limit, 300)).Draw(t, "size")}
		var model []timed
		var hands batch
		var now, newest time.Duration
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				n := rapid.IntRange(0, limit-len(model)).Draw(t, "put")
				if n == 0 {
					break
				}
				now += time.Duration(rapid.IntRange(0, 200).Draw(t, "later")) * time.Microsecond
				if len(model) == 0 || now-newest >= runSpan {
					newest = now
				}
				items := make([]Item, n)
				for j := range items {
					items[j].Key = fmt.Sprint(i, "-", j)
					model = append(model, timed{items[j].Key, newest})
				}
				r.push(items, now, nil)
			case 1:
				hands = r.pop(hands)
				k := min(r.size, len(model))
				if diff := cmp.Diff(model[:k], each(hands), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("taken (-want +got):\n%s", diff)
				}
				clear(hands.items)
				model = slices.Clone(model[k:])
			case 2:
				n := rapid.IntRange(0, len(model)).Draw(t, "drop")
				r.drop(n)
				model = slices.Clone(model[n:])
			}
			if r.n() != len(model) {
				t.Fatalf("%d items, want %d", r.n(), len(model))
			}
			if len(model) > 0 && r.oldest() != model[0].Accepted {
				t.Fatalf("the oldest is of %v, want %v", r.oldest(), model[0].Accepted)
			}
			chunks := slices.Concat(r.chunks.slots, r.spare, [][]Item{hands.items})
			made, held := 0, 0
			for _, chunk := range chunks {
				if chunk != nil {
					made++
				}
				for _, item := range chunk[:cap(chunk)] {
					if item.Key != "" {
						held++
					}
				}
			}
			if held != len(model) {
				t.Fatalf("%d items are held on to, want %d", held, len(model))
			}
			// Of those with items two may be partly full, and one is in the hands.
			if most := limit/r.size + 3; made > most {
				t.Fatalf("%d chunks of %d were made for %d items, want at most %d", made, r.size, limit, most)
			}
		}
	})
}

func TestARingThatDoesNotGrowAllocatesNothing(t *testing.T) {
	r := ring{size: 10}
	items := make([]Item, 47)
	var hands batch
	turn := func() {
		r.push(items, 0, nil)
		r.drop(13)
		for r.n() > 0 {
			hands = r.pop(hands)
		}
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n > 0 {
		t.Errorf("%v allocations a turn, want none", n)
	}
}

func TestARunIsTakenFromABatchPartByPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b batch
		for i := range rapid.IntRange(1, 10).Draw(t, "runs") {
			n := rapid.IntRange(1, 5).Draw(t, "items")
			b.runs = append(b.runs, run{n, time.Duration(i), nil})
			b.items = append(b.items, make([]Item, n)...)
		}
		want := each(b)
		var got []timed
		for left := len(b.items); left > 0; {
			n := rapid.IntRange(0, left).Draw(t, "next")
			got = append(got, each(batch{items: make([]Item, n), runs: b.next(n)})...)
			left -= n
		}
		if diff := cmp.Diff(want, got); diff != "" || len(b.runs) > 0 {
			t.Fatalf("%d runs are left; all (-want +got):\n%s", len(b.runs), diff)
		}
	})
}
