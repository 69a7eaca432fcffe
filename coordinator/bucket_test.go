package coordinator

import (
	"math"
	"math/big"
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
	granted                 []slowGrant // in order
}

type slowWaiter struct {
	id int
	n  int64
}

type slowGrant struct {
	id int
	at time.Duration
}

const one = int64(1e9)

func newSlowBucket(rate, burst int64) *slowBucket {
	s := &slowBucket{rate: rate, burst: burst, billionths: burst * one}
	if rate == 0 {
		s.billionths = 0
	}
	return s
}

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
		s.granted = append(s.granted, slowGrant{s.line[0].id, s.now})
		s.line = s.line[1:]
	}
}

// ask takes n tokens, or waits for them.
func (s *slowBucket) ask(id int, n int64) {
	s.line = append(s.line, slowWaiter{id, n})
	s.serve()
}

// try takes n tokens or does not.
func (s *slowBucket) try(id int, n int64) (granted bool) {
	if len(s.line) > 0 {
		return false
	}
	s.ask(id, n)
	granted = len(s.line) == 0
	s.line = nil
	return granted
}

func (s *slowBucket) cancel(i int) {
	s.line = slices.Delete(s.line, i, i+1)
	s.serve()
}

func (s *slowBucket) setRate(rate int64) {
	s.rate = rate
	if rate == 0 {
		s.billionths = 0
	}
	s.serve()
}

// near is how far the bucket may be from the obvious one: the unit in which it
// counts may lie on either side of the clock's tick.
const near = 10 * time.Nanosecond

// TestTheBucketDoesWhatTheObviousOneDoes runs random programs on both and
// compares who got tokens and when.
func TestTheBucketDoesWhatTheObviousOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.Int64Range(1, 50).Draw(t, "burst")
		rate := rapid.Int64Range(0, 1000).Draw(t, "rate")
		slow := newSlowBucket(rate, burst)
		var fast bucket
		fast.start(float64(rate), int(burst), 0)
		fast.open()
		now := time.Duration(0)
		var granted []slowGrant
		ids := map[*waiter]int{}
		// settle does what the gate does when something changed.
		settle := func() {
			serve(&fast, now, func(w *waiter) { granted = append(granted, slowGrant{ids[w], now}) })
			if fast.line.n == 0 {
				fast.open()
			}
		}
		// advance does what the gate's timer does.
		advance := func(to time.Duration) {
			slow.advance(to)
			for {
				at, some := fast.next()
				if !some || at > to {
					break
				}
				now = max(now, at)
				settle()
			}
			now = to
		}
		compare := func() {
			for try := 0; fast.line.n != len(slow.line) && try < 3; try++ {
				advance(now + near)
			}
			if len(granted) != len(slow.granted) || fast.line.n != len(slow.line) {
				t.Fatalf("at %v: granted %v with %d in line, want %v with %d", now, granted, fast.line.n, slow.granted, len(slow.line))
			}
			for i, g := range granted {
				if want := slow.granted[i]; g.id != want.id || (g.at-want.at).Abs() > near {
					t.Fatalf("at %v: granted %v, want %v", now, granted, slow.granted)
				}
			}
		}
		for id := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				n := rapid.Int64Range(1, burst).Draw(t, "n")
				slow.ask(id, n)
				if fast.pass(int(n), now) == passed {
					granted = append(granted, slowGrant{id, now})
					break
				}
				fast.shut()
				w := &waiter{n: int(n)}
				ids[w] = id
				fast.line.join(w)
				settle()
			case 1:
				advance(now + time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "advance")))
			case 2:
				rate := rapid.SampledFrom([]int64{0, 0, 1, 7, 100, 1000}).Draw(t, "new rate")
				slow.setRate(rate)
				fast.setRate(float64(rate), now, 0)
				settle()
			case 3:
				if fast.line.n == 0 {
					break
				}
				i := rapid.IntRange(0, fast.line.n-1).Draw(t, "cancelled")
				w := fast.line.head
				for range i {
					w = w.behind
				}
				slow.cancel(i)
				fast.line.leave(w)
				settle()
			case 4:
				n := rapid.Int64Range(1, burst).Draw(t, "n")
				want := slow.try(id, n)
				got := fast.pass(int(n), now)
				if want && got == tooFew {
					advance(now + near)
					got = fast.pass(int(n), now)
				} else if !want && got == passed {
					advance(now + near)
					want = slow.try(id, n)
				}
				if want != (got == passed) {
					t.Fatalf("at %v: one grants %d to a call that does not wait, the other does not", now, n)
				}
				if want {
					granted = append(granted, slowGrant{id, slow.granted[len(slow.granted)-1].at})
				}
			}
			compare()
		}
	})
}

// TestNoWindowIsEverOverBudget takes what it gets at random times and rates, of
// all sizes, and holds every window against the burst and what the rates bring,
// in exact arithmetic.
func TestNoWindowIsEverOverBudget(t *testing.T) {
	rates := []float64{0, 1e-3, 0.3, 1, 55.5, math.Pi * 1e4, 1e9 / 7, 1e12}
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, 1e9)).Draw(t, "burst")
		var b bucket
		b.start(rapid.SampledFrom(rates).Draw(t, "rate"), burst, 0)
		b.open()
		var now time.Duration
		// over is what was given away beyond what came in, since the start. A
		// window is over its budget when it rises in it by more than the burst.
		over, least := new(big.Rat), new(big.Rat)
		whole := new(big.Rat).SetInt64(int64(burst))
		slack := big.NewRat(1, 1e6) // of a token: the unit in which the bucket counts
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			d := time.Duration(rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, int64(3*time.Second)),
				rapid.Int64Range(0, int64(100*24*time.Hour))).Draw(t, "advance"))
			now += d
			brought := new(big.Rat).SetFloat64(b.rate)
			over.Sub(over, brought.Mul(brought, big.NewRat(int64(d), 1e9)))
			if over.Cmp(least) < 0 {
				least.Set(over)
			}
			for range rapid.IntRange(0, 3).Draw(t, "calls") {
				n := rapid.IntRange(1, burst).Draw(t, "n")
				switch b.pass(n, now) {
				case passed:
				case needsLock: // after a long time
					b.shut()
					granted := b.take(n, now)
					b.open()
					if !granted {
						continue
					}
				default:
					continue
				}
				over.Add(over, new(big.Rat).SetInt64(int64(n)))
				rise := new(big.Rat).Sub(over, least)
				if rise.Sub(rise, slack).Cmp(whole) > 0 {
					t.Fatalf("at %v a window gave %v tokens, more than the burst of %d, beyond its rate", now, rise.FloatString(12), burst)
				}
			}
			if rapid.Bool().Draw(t, "change") {
				b.setRate(rapid.SampledFrom(rates).Draw(t, "new rate"), now, 0)
				b.open()
			}
		}
	})
}

// TestNoTokenIsLostToRounding changes the rate very often, to odd rates, and
// counts what came in in the end.
func TestNoTokenIsLostToRounding(t *testing.T) {
	const changes = 10_000
	for _, rates := range [][]float64{{1, 1}, {1, 1e9}, {0.001, math.Pi}, {1e9 / 7, 3}} {
		var b bucket
		b.start(rates[0], 1<<40, 0)
		b.spent = 0 // empty
		want := new(big.Rat)
		now := time.Duration(0)
		for i := range changes {
			d := time.Duration(1_000_003 + i)
			brought := new(big.Rat).SetFloat64(b.rate)
			want.Add(want, brought.Mul(brought, big.NewRat(int64(d), 1e9)))
			now += d
			b.setRate(rates[i%2], now, 0)
		}
		e := b.epoch.Load()
		got := new(big.Rat).SetFrac(new(big.Int).SetUint64(e.fraction), new(big.Int).Lsh(big.NewInt(1), 64))
		got.Add(got, new(big.Rat).SetInt64(-b.spent))
		got.Quo(got, new(big.Rat).SetInt64(1<<e.unit))
		missing, _ := got.Sub(want, got).Float64()
		if math.Abs(missing) > 1e-9 {
			t.Errorf("after %d changes between %v/s %v tokens are missing", changes, rates, missing)
		}
	}
}

func TestWhenIsTheFirstNanosecondAtWhichThereIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1e-3, 1e12).Draw(t, "rate")
		in := newInflow(rate, rapid.IntRange(1, 1e9).Draw(t, "burst"), time.Second)
		in.fraction = rapid.Uint64().Draw(t, "fraction")
		units := rapid.Int64Range(0, 1<<60).Draw(t, "units")
		at, ok := in.when(units)
		if !ok {
			if have, _ := in.at(in.longest); have >= units {
				t.Fatalf("never, but there are %d of %d in time", have, units)
			}
			return
		}
		elapsed := uint64(at - in.since)
		if elapsed > in.longest {
			return // it would be asked again before
		}
		if have, _ := in.at(elapsed); have < units {
			t.Fatalf("after %d ns there are %d, want %d", elapsed, have, units)
		}
		if elapsed == 0 {
			return
		}
		if have, _ := in.at(elapsed - 1); have >= units {
			t.Fatalf("there were %d a nanosecond before %d already", units, elapsed)
		}
	})
}

func TestABucketCountsOnAfterALongSleep(t *testing.T) {
	var b bucket
	b.start(1e-3, 5, 0)
	if !b.take(5, 0) || b.take(1, time.Minute) {
		t.Fatal("want the burst granted, and no more after a minute of a token in 1,000 s")
	}
	b.line.join(&waiter{n: 1})
	if at, some := b.next(); !some || at != 1000*time.Second {
		t.Errorf("the next is at %v, want 1000 s", at)
	}
	years := 100 * 365 * 24 * time.Hour
	served := 0
	serve(&b, years, func(*waiter) { served++ })
	if served != 1 || !b.take(4, years) || b.take(1, years) {
		t.Error("after a century: want a full bucket, of which one token is for the one in line")
	}
}

func TestABucketHoldsBurstsOfAnySize(t *testing.T) {
	for _, burst := range []int{1, 2, 3, 1 << 20, 1<<40 - 1, 1 << 60, math.MaxInt} {
		var b bucket
		b.start(1e12, burst, 0)
		b.open()
		granted := b.pass(burst, 0) == passed
		b.shut()
		if !granted && burst > mostBurst {
			granted = b.take(burst, 0)
		}
		if !granted {
			t.Errorf("a burst of %d: not granted at once", burst)
		}
		if b.take(1, 0) {
			t.Errorf("a burst of %d: one more was granted", burst)
		}
	}
}

// serve serves all for whom there is enough.
func serve(b *bucket, now time.Duration, granted func(*waiter)) {
	for w := b.serveFirst(now); w != nil; w = b.serveFirst(now) {
		granted(w)
	}
}
