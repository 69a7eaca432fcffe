package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ibkr is a provider of 100 tokens per second, 10 at once, with the seed's
// floor.
func ibkr() Provider {
	return Provider{Name: "ibkr", BasePerSecond: 100, Burst: 10, FloorPerSecond: 1, SafeScale: 0.5}
}

// started is a coordinator with some providers, closed at the test's end.
func started(t *testing.T, providers ...Provider) *Coordinator {
	t.Helper()
	c := New()
	t.Cleanup(c.Close)
	for _, p := range providers {
		if err := c.Register(p); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func state(t *testing.T, c *Coordinator, provider string) State {
	t.Helper()
	s, err := c.State(provider)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// admitted acquires one by one for a time and counts what came through.
func admitted(c *Coordinator, provider string, d time.Duration) int {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	n := 0
	for c.Acquire(ctx, provider, 1) == nil {
		n++
	}
	return n
}

func TestTheScaleAdjustsTheRate(t *testing.T) {
	for _, test := range []struct {
		name  string
		scale float64
		rate  float64
	}{
		{"the whole budget", 1, 100},
		{"half of it", 0.5, 50},
		{"at HARD one token a second trickles through", 0, 1},
		{"a scale above 1 is clamped", 7, 100},
		{"a negative one too", -3, 1},
		{"NaN is the safe end", math.NaN(), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := started(t, ibkr())
				c.SetScale("ibkr", test.scale)
				s := state(t, c, "ibkr")
				if s.EffectivePerSecond != test.rate || s.Burst != 10 || s.BasePerSecond != 100 {
					t.Errorf("got rate %v, burst %v, base %v; want rate %v, and burst and base untouched",
						s.EffectivePerSecond, s.Burst, s.BasePerSecond, test.rate)
				}
				got := admitted(c, "ibkr", 10*time.Second)
				if want := 10 + int(test.rate*10); got < want-1 || got > want {
					t.Errorf("in 10 s %d tokens came through, want the burst and 10 s of %v/s", got, test.rate)
				}
			})
		})
	}
}

func TestTheBaseRateOutlivesManyChangesOfTheScale(t *testing.T) {
	c := started(t, ibkr())
	for i := range 1000 {
		c.SetScale("ibkr", float64(i%7)/7)
	}
	c.SetScale("ibkr", 1)
	if s := state(t, c, "ibkr"); s.BasePerSecond != 100 || s.EffectivePerSecond != 100 {
		t.Errorf("got base %v and rate %v, want 100 and 100", s.BasePerSecond, s.EffectivePerSecond)
	}
}

func TestProvidersAreIndependent(t *testing.T) {
	other := ibkr()
	other.Name = "loader"
	c := started(t, ibkr(), other)
	c.SetScale("ibkr", 0.25)
	c.SetPressure("ibkr", pressure.Hard)
	if s := state(t, c, "loader"); s.Scale != 1 || s.Level != pressure.OK {
		t.Errorf("loader is at %v and %v, want 1 and OK", s.Scale, s.Level)
	}
}

func TestAnUnknownProviderIsIgnoredOnSetAndAnErrorOnAcquire(t *testing.T) {
	var log strings.Builder
	c := New(WithLogger(logTo(&log)))
	defer c.Close()
	c.SetScale("nobody", 0.5)
	c.SetPressure("nobody", pressure.Hard)
	c.RecordFailure("nobody")
	c.CoolDown("nobody", GlobalScope, time.Second)
	if n := strings.Count(log.String(), "level=WARN"); n != 4 {
		t.Errorf("got %d warnings, want 4:\n%s", n, &log)
	}
	if err := c.Acquire(context.Background(), "nobody", 1); !errors.Is(err, ErrUnknownProvider) {
		t.Errorf("got %v, want ErrUnknownProvider", err)
	}
}

func TestLevelsAreHandled(t *testing.T) {
	for _, level := range []pressure.Level{pressure.OK, pressure.Soft, pressure.Hard} {
		c := started(t, ibkr())
		c.SetPressure("ibkr", level)
		if got := state(t, c, "ibkr").Level; got != level {
			t.Errorf("got %v, want %v", got, level)
		}
	}
	c := started(t, ibkr())
	c.SetPressure("ibkr", pressure.Hard)
	c.SetPressure("ibkr", pressure.Level(9))
	if got := state(t, c, "ibkr").Level; got != pressure.OK {
		t.Errorf("an unknown level gives %v, want OK", got)
	}
}

func TestStateAndSeriesAreTracked(t *testing.T) {
	c := started(t, ibkr())
	c.SetScale("ibkr", 0.5)
	c.SetPressure("ibkr", pressure.Soft)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP rate_coordinator_pressure_state Worst level that an owner tells: 0 for OK, 1 for SOFT, 2 for HARD.
# TYPE rate_coordinator_pressure_state gauge
rate_coordinator_pressure_state{provider="ibkr"} 1
# HELP rate_coordinator_scale_factor Scale in force, the lowest of all owners', in [0, 1].
# TYPE rate_coordinator_scale_factor gauge
rate_coordinator_scale_factor{provider="ibkr"} 0.5
`), metrics.ScaleFactor, metrics.PressureState)
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v and %v, want series named by the rules", problems, err)
	}
}

func TestAcquireRefusesAtOnceWhatCannotBe(t *testing.T) {
	c := started(t, ibkr())
	for _, test := range []struct {
		name string
		n    int
		want error
	}{
		{"more than the burst", 11, ErrAboveBurst},
		{"nothing", 0, nil},
		{"less than nothing", -1, nil},
	} {
		err := c.Acquire(context.Background(), "ibkr", test.n)
		values := invalid.All(err)
		if err == nil || (test.want != nil && !errors.Is(err, test.want)) || len(values) != 1 || values[0].Field != "tokens" {
			t.Errorf("%s: got %v, want an error that names tokens", test.name, err)
		}
	}
	if err := c.Acquire(context.Background(), "ibkr", 10); err != nil {
		t.Errorf("the whole burst at once: got %v, want it granted", err)
	}
}

func TestAChangeOfRateCountsForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ibkr()
		p.FloorPerSecond = 0
		c := started(t, p)
		c.SetScale("ibkr", 0) // parked: what was in the bucket is gone
		begin := time.Now()
		done := make(chan time.Duration, 5)
		for range 5 {
			go func() {
				if err := c.Acquire(context.Background(), "ibkr", 1); err != nil {
					t.Error(err)
				}
				done <- time.Since(begin)
			}()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := state(t, c, "ibkr"); s.Waiters != 5 || len(done) != 0 {
			t.Fatalf("%d wait and %d came through, want all 5 to wait while the provider is parked", s.Waiters, len(done))
		}
		c.SetScale("ibkr", 0.1) // 10 tokens per second
		for i := range 5 {
			want := time.Hour + time.Duration(i+1)*100*time.Millisecond
			if got := <-done; got < want || got > want+time.Microsecond {
				t.Errorf("number %d came through after %v, want %v", i+1, got, want)
			}
		}
	})
}

func TestObserversSeeGrantsAndRatesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		begin := time.Now()
		c := New(
			WithGrantObserver(func(g Grant) {
				seen = append(seen, fmt.Sprintf("%v: %d at %v/s", g.At.Sub(begin), g.N, g.RatePerSecond))
			}),
			WithRateObserver(func(r Rate) {
				seen = append(seen, fmt.Sprintf("%v: %v/s", r.At.Sub(begin), r.PerSecond))
			}),
		)
		defer c.Close()
		if err := c.Register(ibkr()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := c.Acquire(context.Background(), "ibkr", 10); err != nil {
				t.Fatal(err)
			}
		}
		c.SetScale("ibkr", 0.5)
		c.SetScale("ibkr", 0.5)
		want := []string{"0s: 100/s", "0s: 10 at 100/s", "100ms: 10 at 100/s", "100ms: 50/s"}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Error(diff)
		}
	})
}

func TestACancelledCallLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		if err := c.Acquire(context.Background(), "ibkr", 10); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		first, second := make(chan error, 1), make(chan time.Time, 1)
		go func() { first <- c.Acquire(ctx, "ibkr", 10) }()
		synctest.Wait()
		begin := time.Now()
		go func() {
			if err := c.Acquire(context.Background(), "ibkr", 1); err != nil {
				t.Error(err)
			}
			second <- time.Now()
		}()
		synctest.Wait()
		time.Sleep(50 * time.Millisecond) // 5 tokens are there, for the first in line
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		if got := (<-second).Sub(begin); got != 50*time.Millisecond {
			t.Errorf("the one behind came through after %v, want at once when the first gave up", got)
		}
		if s := state(t, c, "ibkr"); s.Waiters != 0 {
			t.Errorf("%d wait, want none", s.Waiters)
		}
	})
}

func TestTheBreakerOpensAfterFailuresAndLetsOneTryLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		acquire := func() error { return c.Acquire(context.Background(), "ibkr", 1) }
		if err := c.Acquire(context.Background(), "ibkr", 10); err != nil {
			t.Fatal(err)
		}
		c.SetScale("ibkr", 0)
		waiting := make(chan error, 1)
		go func() { waiting <- c.Acquire(context.Background(), "ibkr", 10) }()
		synctest.Wait()
		for range 4 {
			c.RecordFailure("ibkr")
		}
		c.RecordSuccess("ibkr")
		for range 4 {
			c.RecordFailure("ibkr")
		}
		if got := state(t, c, "ibkr").Breaker.State; got != "closed" {
			t.Fatalf("after failures that were not in a row the breaker is %s", got)
		}
		c.RecordFailure("ibkr")
		if err := <-waiting; !errors.Is(err, ErrBreakerOpen) {
			t.Errorf("the one in line got %v, want ErrBreakerOpen", err)
		}
		var unavailable *UnavailableError
		if err := acquire(); !errors.As(err, &unavailable) || unavailable.RetryAfter != 60*time.Second {
			t.Errorf("got %v, want an open breaker for another minute", err)
		}
		time.Sleep(60 * time.Second)
		if err := acquire(); err != nil {
			t.Errorf("after its time: got %v, want a try let through", err)
		}
		c.RecordFailure("ibkr")
		if err := acquire(); !errors.Is(err, ErrBreakerOpen) {
			t.Errorf("after the try failed: got %v, want it open again", err)
		}
		time.Sleep(60 * time.Second)
		c.RecordSuccess("ibkr")
		if got := state(t, c, "ibkr").Breaker.State; got != "closed" {
			t.Errorf("after a success the breaker is %s, want closed", got)
		}
	})
}

func TestACoolDownOfTheGlobalScopeStopsTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		c.CoolDown("ibkr", "historical", 5*time.Second)
		if err := c.Acquire(context.Background(), "ibkr", 1); err != nil {
			t.Errorf("another scope cools down: got %v, want it let through", err)
		}
		c.CoolDown("ibkr", GlobalScope, 0)
		var unavailable *UnavailableError
		err := c.Acquire(context.Background(), "ibkr", 1)
		if !errors.As(err, &unavailable) || !errors.Is(err, ErrCoolingDown) || unavailable.RetryAfter != DefaultCoolDown {
			t.Errorf("got %v, want a cool-down of 600 s", err)
		}
		want := []CoolDown{{GlobalScope, 600}, {"historical", 5}}
		if diff := cmp.Diff(want, state(t, c, "ibkr").CoolDowns); diff != "" {
			t.Error(diff)
		}
		time.Sleep(DefaultCoolDown)
		if err := c.Acquire(context.Background(), "ibkr", 1); err != nil {
			t.Errorf("after its time: got %v", err)
		}
	})
}

func TestRegisterReportsEverythingThatIsWrong(t *testing.T) {
	c := started(t, ibkr())
	err := c.Register(Provider{BasePerSecond: math.NaN(), FailMode: "sometimes", SafeScale: 2})
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"provider", "base_per_second", "burst", "floor_per_second", "fail_mode", "safe_scale"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
	if err := c.Register(ibkr()); err == nil {
		t.Error("a provider was registered twice")
	}
}

func TestCloseSendsEverybodyHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ibkr()
		p.FloorPerSecond = 0
		c := started(t, p)
		c.SetScale("ibkr", 0)
		waiting := make(chan error, 1)
		go func() { waiting <- c.Acquire(context.Background(), "ibkr", 1) }()
		watched := make(chan struct{})
		go func() {
			for range c.Watch(context.Background()) {
			}
			close(watched)
		}()
		synctest.Wait()
		c.Close()
		<-watched
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if err := c.Acquire(context.Background(), "ibkr", 1); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func TestWatchTellsEveryChangeAndNeverBlocksTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		ctx, cancel := context.WithCancel(context.Background())
		seen := make(chan State) // nobody reads it for a while
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for s := range c.Watch(ctx) {
				seen <- s
			}
		}()
		if s := <-seen; s.Scale != 1 {
			t.Errorf("the first is %v, want the state as it is", s.Scale)
		}
		for i := range 100 {
			c.SetScale("ibkr", float64(100-i)/100)
		}
		var last State
		for last.Scale != 0.01 {
			last = <-seen
		}
		c.SetScale("ibkr", 0.01) // is no change
		synctest.Wait()
		select {
		case s := <-seen:
			t.Errorf("told of a change that was none: %v", s)
		default:
		}
		cancel()
		<-ended
	})
}
