package coordinator

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowBucket is what bucket must be like, in whole numbers and without a line
// that moves: it goes through time nanosecond by nanosecond as the rates were,
// in units of a token's billionth, so that a rate of whole tokens is exact.
type slowBucket struct {
	rate, burst, billionths int64
	now                     time.Duration
	line                    []slowWaiter
	granted                 []int // ids, in order
}

type slowWaiter struct {
	id int
	n  int64
}

const one = int64(1e9)

// advance goes to a time, serving the line at the first nanosecond at which
// there is enough for its head.
func (s *slowBucket) advance(to time.Duration) {
	for {
		s.serve()
		left := int64(to - s.now)
		if left <= 0 {
			return
		}
		step := left
		if len(s.line) > 0 && s.rate > 0 {
			missing := s.line[0].n*one - s.billionths
			step = min(step, max(1, (missing+s.rate-1)/s.rate))
		}
		s.billionths = min(s.burst*one, s.billionths+s.rate*step)
		s.now += time.Duration(step)
	}
}

func (s *slowBucket) serve() {
	for len(s.line) > 0 && s.rate > 0 && s.billionths >= s.line[0].n*one {
		s.billionths -= s.line[0].n * one
		s.granted = append(s.granted, s.line[0].id)
		s.line = s.line[1:]
	}
}

func (s *slowBucket) setRate(rate int64) {
	s.rate = rate
	if rate == 0 {
		s.billionths = min(s.billionths, 0)
	}
	s.serve()
}

func TestTheBucketDoesWhatTheObviousOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.Int64Range(1, 50).Draw(t, "burst")
		rate := rapid.Int64Range(0, 1000).Draw(t, "rate")
		slow := &slowBucket{rate: rate, burst: burst, billionths: burst * one}
		fast := newBucket(float64(rate), float64(burst), 0)
		now := time.Duration(0)
		var granted []int
		ids := map[*waiter]int{}
		serve := func() { fast.serve(now, func(w *waiter) { granted = append(granted, ids[w]) }) }
		// advance does what the gate's timer does.
		advance := func(to time.Duration) {
			for {
				at, some := fast.next()
				if !some || at > to {
					break
				}
				now = max(now, at)
				serve()
			}
			now = to
		}
		for id := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				n := rapid.Int64Range(1, burst).Draw(t, "n")
				slow.line = append(slow.line, slowWaiter{id, n})
				slow.serve()
				if fast.take(float64(n), now) {
					granted = append(granted, id)
					break
				}
				w := &waiter{n: float64(n)}
				ids[w] = id
				fast.waiting.PushBack(w)
				serve()
			case 1:
				// A microsecond more, for the rounding of the fast one's sums may
				// let it come some nanoseconds late, and rapid likes round times.
				to := now + time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "advance")) + time.Microsecond
				slow.advance(to)
				advance(to)
			case 2:
				rate := rapid.SampledFrom([]int64{0, 0, 1, 7, 100, 1000}).Draw(t, "new rate")
				slow.setRate(rate)
				fast.setRate(float64(rate), now)
				serve()
			case 3:
				if fast.waiting.Len() == 0 {
					break
				}
				i := rapid.IntRange(0, fast.waiting.Len()-1).Draw(t, "cancelled")
				place := fast.waiting.Front()
				for range i {
					place = place.Next()
				}
				slow.line = slices.Delete(slow.line, i, i+1)
				slow.serve()
				fast.waiting.Remove(place)
				serve()
			}
			if !slices.Equal(granted, slow.granted) {
				t.Fatalf("at %v: granted %v, want %v", now, granted, slow.granted)
			}
			if fast.waiting.Len() != len(slow.line) {
				t.Fatalf("at %v: %d wait, want %d", now, fast.waiting.Len(), len(slow.line))
			}
		}
	})
}

func TestNoWindowIsEverOverBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.Float64Range(1, 100).Draw(t, "burst")
		b := newBucket(rapid.Float64Range(0, 1e4).Draw(t, "rate"), burst, 0)
		type moment struct {
			at             time.Duration
			taken, allowed float64 // since the start
		}
		var now time.Duration
		var taken, allowed float64
		moments := []moment{{}}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			d := time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "advance"))
			now += d
			allowed += b.rate * d.Seconds()
			before := moment{now, taken, allowed}
			n := rapid.Float64Range(0, burst).Draw(t, "n")
			if b.take(n, now) {
				taken += n
			}
			if rapid.Bool().Draw(t, "change") {
				b.setRate(rapid.SampledFrom([]float64{0, 0.3, 1, 55.5, 1e4}).Draw(t, "new rate"), now)
			}
			moments = append(moments, before, moment{now, taken, allowed})
		}
		for i, from := range moments {
			for _, to := range moments[i:] {
				over := (to.taken - from.taken) - (to.allowed - from.allowed) - burst
				if over > 1e-3 {
					t.Fatalf("from %v to %v it gave %v tokens more than the burst and the rate allow", from.at, to.at, over)
				}
			}
		}
	})
}

func TestABucketCountsOnAfterALongSleep(t *testing.T) {
	b := newBucket(1e-3, 5, 0)
	if !b.take(5, 0) || b.take(1, time.Minute) {
		t.Fatal("want the burst granted, and no more after a minute of a token in 1,000 s")
	}
	b.waiting.PushBack(&waiter{n: 1})
	at, some := b.next()
	if want := 1000 * time.Second; !some || math.Abs((at-want).Seconds()) > 1e-6 {
		t.Errorf("the next is at %v, want %v", at, want)
	}
}
