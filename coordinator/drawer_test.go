package coordinator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// pot is a shared budget that has all the tokens that are asked for, as long as it
// can be reached.
type pot struct {
	mu      sync.Mutex
	down    bool
	wait    time.Duration // what it answers
	empty   bool          // it has none now
	late    time.Duration // before it answers
	hangs   bool
	draws   []Draw
	granted int
}

var terms = SharedTerms{Hold: 20 * time.Millisecond, Every: 300 * time.Millisecond, Timeout: 200 * time.Millisecond, Lost: 1500 * time.Millisecond}

func (*pot) Terms() SharedTerms { return terms }

// with changes the pot.
func (p *pot) with(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// asked are the draws until now, what was given back by them, and what they got.
func (p *pot) asked() (draws []Draw, back float64, granted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.draws {
		back += d.Unused
	}
	return slices.Clone(p.draws), back, p.granted
}

func (p *pot) Reach(ctx context.Context) error {
	var hangs, down bool
	var late time.Duration
	p.with(func() { hangs, down, late = p.hangs, p.down, p.late })
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errors.New("nobody listens")
	}
	time.Sleep(late)
	return nil
}

func (p *pot) Draw(ctx context.Context, d Draw) (Drawn, error) {
	if err := p.Reach(ctx); err != nil {
		return Drawn{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draws = append(p.draws, d)
	if d.Need == 0 || p.empty {
		return Drawn{Wait: p.wait}, nil
	}
	p.granted += d.Want
	return Drawn{Tokens: d.Want, Wait: p.wait}, nil
}

// sharing is a provider of 100 tokens per second that draws them from a pot.
func sharing(p *pot) Provider {
	return Provider{Name: "ibkr", BasePerSecond: 100, Burst: 100, InitialShare: 0.25, SafeScale: 0.5, Shared: p}
}

// passed is how many calls for one token are let through within a time.
func passedIn(t *testing.T, c *Coordinator, d time.Duration) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for c.Acquire(ctx, "ibkr", 1) == nil {
		n++
	}
	return n
}

func TestTokensAreDrawnAheadAndTheRestIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		time.Sleep(time.Second) // the bucket fills
		for range 16 {
			if err := c.Acquire(t.Context(), "ibkr", 1); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var wants []int
		draws, _, _ := p.asked()
		for _, d := range draws {
			if d.Need > 0 {
				wants = append(wants, d.Want)
			}
		}
		// Each time all was used, twice as much is drawn.
		if diff := cmp.Diff([]int{1, 2, 4, 8, 16}, wants); diff != "" {
			t.Errorf("draws (-want +got):\n%s", diff)
		}
		time.Sleep(terms.Hold)
		synctest.Wait()
		draws, _, _ = p.asked()
		if last := draws[len(draws)-1]; last.Unused != 15 || last.Need != 0 {
			t.Errorf("the last draw was %+v, want 15 tokens to be given back", last)
		}
	})
}

func TestTokensAreUsedInTheirTimeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		time.Sleep(time.Second)
		if err := c.Acquire(t.Context(), "ibkr", 2); err != nil {
			t.Fatal(err)
		}
		if err := c.Acquire(t.Context(), "ibkr", 2); err != nil { // 4 were drawn ahead
			t.Fatal(err)
		}
		time.Sleep(terms.Hold)
		p.with(func() { p.late = 2 * terms.Hold })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := c.Acquire(ctx, "ibkr", 1); err == nil {
			t.Error("a token was used after its time")
		}
	})
}

func TestTheScaleTakesItsPartOfWhatIsDrawn(t *testing.T) {
	for _, test := range []struct {
		name         string
		scale, floor float64
		cost         float64 // of a token, in tokens at scale 1
		passes       int     // in ten seconds
	}{
		{"all of it at scale 1", 1, 0, 1, 1000},
		{"half", 0.5, 0, 2, 500},
		{"a hundredth", 0.01, 0, 100, 10},
		{"at the floor a token costs a token", 0.001, 1, 1, 10},
		{"none at 0", 0, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pot{}
				provider := sharing(p)
				provider.Burst, provider.FloorPerSecond = 1, test.floor
				c := started(t, provider)
				c.SetScale("ibkr", test.scale)
				time.Sleep(time.Second)
				n := passedIn(t, c, 10*time.Second)
				if n < test.passes-1 || n > test.passes+1 {
					t.Errorf("%d were let through, want %d", n, test.passes)
				}
				time.Sleep(time.Second)
				_, back, granted := p.asked()
				if used, want := float64(granted)-back, float64(n)*test.cost; used < want-0.01 || used > want+0.01+test.cost {
					t.Errorf("%d tokens cost %v of the budget, want %v", n, used, want)
				}
			})
		})
	}
}

func TestAHardLevelStopsWhatWasDrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		time.Sleep(time.Second)
		for range 2 { // then one more is drawn ahead
			if err := c.Acquire(t.Context(), "ibkr", 1); err != nil {
				t.Fatal(err)
			}
		}
		c.SetScale("ibkr", 0)
		if n := passedIn(t, c, time.Minute); n != 0 {
			t.Errorf("%d were let through at HARD", n)
		}
		if _, back, granted := p.asked(); back != float64(granted-2) {
			t.Errorf("%v of %d tokens that were left were given back", back, granted-2)
		}
	})
}

func TestWhereTheBudgetIsLostTheOwnShareIsUsedInTime(t *testing.T) {
	for name, lose := range map[string]func(*pot){
		"down":  func(p *pot) { p.down = true },
		"hangs": func(p *pot) { p.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pot{}
				var log strings.Builder
				c := New(WithLogger(logTo(&log)))
				t.Cleanup(c.Close)
				if err := c.Register(sharing(p)); err != nil {
					t.Fatal(err)
				}
				apply(t, c, shared("a", 1, 1, 0.2))
				time.Sleep(time.Second)
				p.with(func() { lose(p) })
				begin := time.Now()
				changes := state(t, c, "ibkr").Version
				n := passedIn(t, c, terms.Lost-time.Millisecond)
				if n != 0 {
					t.Errorf("%d were let through while the others may count on the share", n)
				}
				for state(t, c, "ibkr").Shared.State != SharedOwnShare {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(begin); took > terms.Lost+terms.Every {
					t.Errorf("it took %v, want at most %v", took, terms.Lost+terms.Every)
				}
				if n := passedIn(t, c, 5*time.Second); n < 99 || n > 101 {
					t.Errorf("%d were let through in 5 s, want 100 by the share of a fifth", n)
				}
				time.Sleep(20 * time.Second) // the bucket fills, and the lease runs out
				if n := passedIn(t, c, time.Second); n < 29 || n > 31 {
					t.Errorf("%d were let through at once and in a second, want a fifth of the burst, and of the base at half the scale", n)
				}
				p.with(func() { p.down, p.hangs = false, false })
				time.Sleep(5 * time.Second)
				s := state(t, c, "ibkr")
				if s.Shared.State != SharedConnected || s.Shared.Error != "" || s.Version < changes+3 {
					t.Errorf("after its return: %+v, version %d after %d", s.Shared, s.Version, changes)
				}
				if n := passedIn(t, c, time.Second); n < 100 {
					t.Errorf("%d were let through in a second, want the whole budget", n)
				}
				if lost, found := strings.Count(log.String(), "cannot be reached"), strings.Count(log.String(), "reached again"); lost != 1 || found != 1 {
					t.Errorf("%d lines of the loss and %d of the return, want one of each:\n%s", lost, found, log.String())
				}
				if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP rate_coordinator_shared_budget_losses_total Times that the shared budget could no longer be reached.
# TYPE rate_coordinator_shared_budget_losses_total counter
rate_coordinator_shared_budget_losses_total{provider="ibkr"} 1
`), "rate_coordinator_shared_budget_losses_total"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAReplicaThatNeverReachedTheBudgetUsesItsInitialShareInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, sharing(&pot{down: true}))
		time.Sleep(terms.Lost - time.Millisecond)
		if s := state(t, c, "ibkr"); s.Shared.State != SharedLost || s.EffectivePerSecond != 0 {
			t.Errorf("it is %s at %v per second while others may use what they drew before", s.Shared.State, s.EffectivePerSecond)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if s := state(t, c, "ibkr"); s.Shared.State != SharedOwnShare || s.EffectivePerSecond != 25 {
			t.Errorf("it is %s at %v per second, want a quarter by itself", s.Shared.State, s.EffectivePerSecond)
		}
	})
}

func TestACallForMoreThanTheOwnShareOfTheBurstIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{empty: true, wait: time.Hour}
		c := started(t, sharing(p))
		time.Sleep(time.Second)
		done := make(chan error, 2)
		go func() { done <- c.Acquire(t.Context(), "ibkr", 80) }() // when it is lost
		time.Sleep(time.Millisecond)
		p.with(func() { p.down = true })
		time.Sleep(2 * time.Second)
		go func() { done <- c.Acquire(t.Context(), "ibkr", 90) }() // afterwards
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(done) != 2 {
			t.Errorf("%d of 2 calls were served", len(done))
		}
	})
}

func TestABudgetWhoseAnswersComeTooLateIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{late: 2 * terms.Hold}
		c := started(t, sharing(p))
		time.Sleep(time.Second)
		if n := passedIn(t, c, 10*time.Second); n < 100 {
			t.Errorf("%d were let through in 10 s, want about 200 by the own share", n)
		}
		if s := state(t, c, "ibkr").Shared; s.State != SharedOwnShare || !strings.Contains(s.Error, "later") {
			t.Errorf("got %+v, want the own share, and why", s)
		}
	})
}

func TestABudgetWhoseFewAnswersComeTooLateIsLeftAloneSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{late: 2 * terms.Hold, wait: 400 * time.Millisecond}
		c := started(t, sharing(p))
		if n := passedIn(t, c, 5*time.Second); n == 0 {
			t.Error("nothing was let through in 5 s")
		}
	})
}

func TestCloseLeavesTheBudgetAndGivesBackWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		time.Sleep(time.Second)
		for range 4 {
			if err := c.Acquire(t.Context(), "ibkr", 1); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		draws, _, _ := p.asked()
		if last := draws[len(draws)-1]; last.Share != 0 || last.Unused != 3 {
			t.Errorf("the last draw was %+v, want it to leave and to give 3 tokens back", last)
		}
	})
}

func TestAShareThatChangedIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		time.Sleep(10 * time.Millisecond)
		apply(t, c, shared("a", 1, 1, 0.4))
		synctest.Wait()
		draws, _, _ := p.asked()
		if last := draws[len(draws)-1]; last.Share != 0.4 {
			t.Errorf("the last draw told a share of %v, want 0.4", last.Share)
		}
	})
}

func TestAControllerThatKnowsOfNoSharesLeavesTheOneToFallBackTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pot{}
		c := started(t, sharing(p))
		synctest.Wait()
		for sequence := range uint64(3) {
			if s := apply(t, c, lease("a", sequence+1, 1)); s.Share != 0.25 || s.EffectivePerSecond != 100 {
				t.Errorf("lease %d: %v per second with a share of %v, want what is drawn and the initial quarter", sequence+1, s.EffectivePerSecond, s.Share)
			}
		}
		if s := apply(t, c, shared("a", 4, 1, 0.5)); s.Share != 0.5 {
			t.Errorf("a share that was given is %v, want 0.5", s.Share)
		}
		if s := apply(t, c, lease("a", 5, 1)); s.Share != 0.5 {
			t.Errorf("after it, without one, it is %v, want 0.5", s.Share)
		}
	})
}

func TestATryDrawsForTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, sharing(&pot{}))
		time.Sleep(time.Second)
		if err := c.TryAcquire("ibkr", 5); !errors.Is(err, ErrNoTokens) {
			t.Errorf("got %v, want no tokens before any were drawn", err)
		}
		synctest.Wait()
		if err := c.TryAcquire("ibkr", 5); err != nil {
			t.Error(err)
		}
	})
}
