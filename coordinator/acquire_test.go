package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
)

// bars is a provider that scales park.
func bars(basePerSecond float64, burst int) Provider {
	return Provider{Name: "bars", BasePerSecond: basePerSecond, Burst: burst, SafeScale: 0.5}
}

// TestAProviderDoesWhatTheObviousBucketDoes runs random programs of calls that
// wait, that do not and that give up, of changes of the scale and of time, on a
// coordinator with real goroutines and on the obvious model.
func TestAProviderDoesWhatTheObviousBucketDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		burst := rapid.Int64Range(1, 20).Draw(rt, "burst")
		watched := rapid.Bool().Draw(rt, "with an observer of grants")
		program := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				kind: rapid.SampledFrom([]kind{wait, advance, scale, giveUp, try}).Draw(t, "kind"),
				n:    rapid.Int64Range(1, burst).Draw(t, "tokens"),
				d:    time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "time")),
				rate: rapid.SampledFrom([]int64{0, 0, 1, 125, 500, 1000}).Draw(t, "rate"),
				i:    rapid.IntRange(0, 100).Draw(t, "place in line"),
			}
		}), 1, 40).Draw(rt, "program")
		var failed string
		synctest.Test(t, func(*testing.T) {
			failed = runProgram(program, burst, watched)
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// step is one of a program. What its kind has no use for is not looked at.
type step struct {
	kind kind
	n    int64
	d    time.Duration
	rate int64
	i    int
}

type kind uint8

const (
	wait    kind = iota // for n tokens
	advance             // by d
	scale               // to a rate
	giveUp              // the one at place i in line
	try                 // to take n tokens
)

func runProgram(program []step, burst int64, watched bool) (failed string) {
	const base = 1000
	slow := newSlowBucket(base, burst)
	var options []Option
	if watched {
		options = append(options, WithGrantObserver(func(Grant) {}))
	}
	c := New(options...)
	defer c.Close()
	if err := c.Register(bars(base, int(burst))); err != nil {
		return err.Error()
	}
	begin := time.Now()
	var mu sync.Mutex
	var granted []slowGrant
	note := func(id int) {
		mu.Lock()
		defer mu.Unlock()
		granted = append(granted, slowGrant{id, time.Since(begin)})
	}
	giveUps := map[int]context.CancelFunc{}
	defer func() {
		for _, cancel := range giveUps {
			cancel()
		}
	}()
	pass := func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
		slow.advance(time.Since(begin))
	}
	for id, step := range program {
		n := int(step.n)
		switch step.kind {
		case wait:
			ctx, cancel := context.WithCancel(context.Background())
			giveUps[id] = cancel
			slow.ask(id, step.n)
			go func() {
				if c.Acquire(ctx, "bars", n) == nil {
					note(id)
				}
			}()
		case advance:
			pass(step.d)
		case scale:
			slow.setRate(step.rate)
			c.SetScale("bars", float64(step.rate)/base)
		case giveUp:
			if len(slow.line) > 0 {
				i := step.i % len(slow.line)
				giveUps[slow.line[i].id]()
				slow.cancel(i)
			}
		case try:
			want := slow.try(id, step.n)
			got := c.TryAcquire("bars", n) == nil
			switch {
			case want && !got:
				pass(near)
				got = c.TryAcquire("bars", n) == nil
			case got && !want:
				pass(near)
				want = slow.try(id, step.n)
			}
			if want != got {
				return fmt.Sprintf("at %v: a call that does not wait is granted: %v, want %v", time.Since(begin), got, want)
			}
			if want {
				note(id)
			}
		}
		synctest.Wait()
		state, _ := c.State("bars")
		for try := 0; state.Waiters != len(slow.line) && try < 3; try++ {
			pass(near)
			state, _ = c.State("bars")
		}
		// Those who are served in one moment return in any order.
		byID := func(a, b slowGrant) int { return a.id - b.id }
		mu.Lock()
		got, want := slices.SortedFunc(slices.Values(granted), byID), slices.SortedFunc(slices.Values(slow.granted), byID)
		mu.Unlock()
		same := func(a, b slowGrant) bool { return a.id == b.id && (a.at-b.at).Abs() <= near }
		if !slices.EqualFunc(got, want, same) || state.Waiters != len(slow.line) {
			return fmt.Sprintf("at %v: granted %v with %d in line, want %v with %d",
				time.Since(begin), got, state.Waiters, want, len(slow.line))
		}
	}
	for _, cancel := range giveUps {
		cancel()
	}
	synctest.Wait()
	if state, _ := c.State("bars"); state.Waiters != 0 {
		return fmt.Sprintf("%d wait in line after all gave up", state.Waiters)
	}
	return ""
}

// TestManyAtOnceGetExactlyWhatIsThere lets goroutines race for the tokens of
// moments at which time stands still, while the scale, the line, the breaker and
// cool-downs come and go.
func TestManyAtOnceGetExactlyWhatIsThere(t *testing.T) {
	for name, disturb := range map[string]func(c *Coordinator, got *atomic.Int64){
		"undisturbed": func(*Coordinator, *atomic.Int64) {},
		"while the scale changes": func(c *Coordinator, _ *atomic.Int64) {
			for i := range 200 {
				c.SetScale("bars", float64(i%10+1)/10)
			}
			c.SetScale("bars", 1)
		},
		"while others wait and give up": func(c *Coordinator, got *atomic.Int64) {
			for range 50 {
				ctx, cancel := context.WithCancel(context.Background())
				var all sync.WaitGroup
				all.Go(func() {
					if c.Acquire(ctx, "bars", 700) == nil {
						got.Add(700)
					}
				})
				cancel()
				all.Wait()
			}
		},
		"while the breaker opens": func(c *Coordinator, _ *atomic.Int64) {
			for range DefaultBreakerFailures {
				c.RecordFailure("bars")
			}
		},
		"while it cools down": func(c *Coordinator, _ *atomic.Int64) {
			c.CoolDown("bars", GlobalScope, time.Nanosecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := bars(500, 1000)
				p.BreakerTimeout = time.Nanosecond
				c := started(t, p)
				want := int64(1000) // what is there at first
				var got atomic.Int64
				for range 5 {
					var all sync.WaitGroup
					for i := range 8 {
						all.Go(func() {
							for misses := 0; misses < 300; {
								if c.TryAcquire("bars", i+1) == nil {
									got.Add(int64(i + 1))
								} else {
									misses++
								}
							}
						})
					}
					all.Go(func() { disturb(c, &got) })
					all.Wait()
					time.Sleep(time.Nanosecond) // the breaker's and the cool-down's time is over
					for c.TryAcquire("bars", 1) == nil {
						got.Add(1)
					}
					if got.Load() != want {
						t.Fatalf("%d tokens were given away, want %d", got.Load(), want)
					}
					time.Sleep(time.Second)
					want += 500
				}
				if counted := tokensGranted(t, c); counted != want-500 {
					t.Errorf("the series counts %d tokens, want %d", counted, want-500)
				}
			})
		})
	}
}

// tokensGranted is what the series says of the one provider.
func tokensGranted(t *testing.T, c *Coordinator) (n int64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == metrics.TokensGranted {
			n += int64(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return n
}

// TestManyWaitersWakeAtTheRateAndInOrder parks a provider with very many in
// line, and opens it.
func TestManyWaitersWakeAtTheRateAndInOrder(t *testing.T) {
	const waiters, base, burst = 10_000, 5000, 100
	synctest.Test(t, func(t *testing.T) {
		c := started(t, bars(base, burst))
		c.SetScale("bars", 0)
		served := make(chan time.Duration, waiters)
		var begin time.Time
		for range waiters {
			go func() {
				if err := c.Acquire(context.Background(), "bars", 1); err != nil {
					t.Error(err)
				}
				served <- time.Since(begin)
			}()
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		begin = time.Now()
		c.SetScale("bars", 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(served) != waiters {
			t.Fatalf("%d of %d came through", len(served), waiters)
		}
		for i := range waiters {
			want := time.Duration(i+1) * time.Second / base
			if got := <-served; got < want || got > want+near {
				t.Fatalf("number %d came through after %v, want %v", i+1, got, want)
			}
		}
	})
}

func TestACallThatDoesNotWaitTakesWhatIsThereOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr()) // 10 at once
		for _, step := range []struct {
			n    int
			want error
		}{{4, nil}, {7, ErrNoTokens}, {6, nil}, {1, ErrNoTokens}, {11, ErrAboveBurst}} {
			if err := c.TryAcquire("ibkr", step.n); !errors.Is(err, step.want) {
				t.Errorf("TryAcquire(%d) = %v, want %v", step.n, err, step.want)
			}
		}
		if err := c.TryAcquire("nobody", 1); !errors.Is(err, ErrUnknownProvider) {
			t.Errorf("got %v, want ErrUnknownProvider", err)
		}
		if values := invalid.All(c.TryAcquire("ibkr", 0)); len(values) != 1 || values[0].Field != "tokens" {
			t.Errorf("no token at all: got %v, want an error that names tokens", values)
		}
		go func() { _ = c.Acquire(context.Background(), "ibkr", 10) }()
		synctest.Wait()
		time.Sleep(50 * time.Millisecond) // 5 tokens, for the one in line
		if err := c.TryAcquire("ibkr", 1); !errors.Is(err, ErrNoTokens) {
			t.Errorf("while somebody waits: got %v, want ErrNoTokens", err)
		}
		time.Sleep(time.Second)
		c.CoolDown("ibkr", GlobalScope, 0)
		if err := c.TryAcquire("ibkr", 1); !errors.Is(err, ErrCoolingDown) {
			t.Errorf("got %v, want ErrCoolingDown", err)
		}
		want := map[Refusal]float64{RefusedBurst: 1, RefusedCoolDown: 1}
		got := map[Refusal]float64{}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(c)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				if v := m.GetCounter().GetValue(); family.GetName() == metrics.AcquireRefused && v > 0 {
					got[Refusal(m.GetLabel()[1].GetValue())] = v
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("refusals (-want +got):\n%s", diff)
		}
	})
}

func TestAClosedCoordinatorGivesNothingAway(t *testing.T) {
	c := started(t, ibkr())
	c.Close()
	if err := c.TryAcquire("ibkr", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("TryAcquire = %v, want ErrClosed", err)
	}
	if err := c.Acquire(context.Background(), "ibkr", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Acquire = %v, want ErrClosed", err)
	}
}

// TestProvidersThatWereParkedDoNotReturnTogether wakes many at once.
func TestProvidersThatWereParkedDoNotReturnTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const providers, jitter = 50, 100 * time.Millisecond
		c := New()
		defer c.Close()
		first := make(chan time.Duration, providers)
		var begin time.Time
		for i := range providers {
			p := bars(1000, 10)
			p.Name, p.ResumeJitter = fmt.Sprint("provider-", i), jitter
			if err := c.Register(p); err != nil {
				t.Fatal(err)
			}
			c.SetScale(p.Name, 0)
			go func() {
				_ = c.Acquire(context.Background(), p.Name, 1)
				first <- time.Since(begin)
			}()
		}
		synctest.Wait()
		begin = time.Now()
		for i := range providers {
			c.SetScale(fmt.Sprint("provider-", i), 0.1)
			c.SetScale(fmt.Sprint("provider-", i), 1) // ends no rest
		}
		time.Sleep(time.Second)
		distinct := map[time.Duration]bool{}
		for range providers {
			at := <-first
			distinct[at] = true
			if at < time.Millisecond || at > jitter+time.Millisecond+near {
				t.Errorf("one woke after %v, want from 1ms, which its first token takes, to %v later", at, jitter)
			}
		}
		if len(distinct) < providers*9/10 {
			t.Errorf("%d providers woke at %d different times", providers, len(distinct))
		}
		if err := c.TryAcquire("provider-0", 10); err != nil {
			t.Errorf("a second later: got %v, want a full bucket", err)
		}
	})
}

func TestTheGrantingPathAllocatesNothing(t *testing.T) {
	c := started(t, Provider{Name: "plenty", BasePerSecond: 1e9, Burst: 1 << 30},
		Provider{Name: "other", BasePerSecond: 1e9, Burst: 1 << 30},
		Provider{Name: "few", BasePerSecond: 1e-9, Burst: 1})
	if err := c.TryAcquire("few", 1); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for name, do := range map[string]func(){
		"granted":                       func() { _ = c.Acquire(ctx, "plenty", 1) },
		"granted by one of several":     func() { _ = c.Acquire(ctx, "other", 1) },
		"granted in bulk":               func() { _ = c.Acquire(ctx, "plenty", 1000) },
		"granted without a wait":        func() { _ = c.TryAcquire("plenty", 1) },
		"refused by one that waits not": func() { _ = c.TryAcquire("few", 1) },
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
