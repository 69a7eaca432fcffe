package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
)

const base = 1000 // tokens per second, of the budget

// house is a provider's replicas, which are real coordinators, and the way to
// them.
type house struct {
	t  *testing.T
	mu sync.Mutex

	replicas map[string]*replica
	find     error // instead of the addresses
	initial  float64
	order    []string // what was asked for, with whom
}

// replica is one of them as a gate.
type replica struct {
	*coordinator.Coordinator
	house   *house
	address string
	hangs   bool // it works, and nobody hears of it
	gone    bool // nobody listens there
	hidden  bool // it is not found
}

func newHouse(t *testing.T, addresses ...string) *house {
	h := &house{t: t, replicas: map[string]*replica{}, initial: 0.01}
	for _, address := range addresses {
		h.join(address)
	}
	return h
}

func (h *house) join(address string) *replica {
	c := coordinator.New()
	err := c.Register(coordinator.Provider{
		Name: "ibkr", BasePerSecond: base, Burst: 10, FloorPerSecond: 0, SafeScale: 0.5,
		InitialShare: h.initial, StartInFailMode: true,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &replica{Coordinator: c, house: h, address: address}
	h.replicas[address] = r
	return r
}

func (h *house) leave(address string) {
	h.replicas[address].gone, h.replicas[address].hidden = true, true
}

// Find implements Finder.
func (h *house) Find(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for address, r := range h.replicas {
		if !r.hidden {
			all = append(all, address)
		}
	}
	return all, h.find
}

// given is what all replicas at work let through that a controller gave more than
// they came up with, in tokens per second; the rest lets its initial share
// through, whatever anybody does.
func (h *house) given() float64 {
	sum := 0.0
	for _, r := range h.replicas {
		if s, _ := r.Coordinator.State("ibkr"); !r.gone && shareOf(s) > h.initial {
			sum += s.EffectivePerSecond
		}
	}
	return sum
}

// shares are those of the replicas at work.
func (h *house) shares() map[string]float64 {
	all := map[string]float64{}
	for address, r := range h.replicas {
		if s, _ := r.Coordinator.State("ibkr"); !r.gone {
			all[address] = math.Round(1000*s.Share) / 1000
		}
	}
	return all
}

func (r *replica) enter(ctx context.Context, what string) error {
	r.house.mu.Lock()
	r.house.order = append(r.house.order, what+" "+r.address)
	r.house.mu.Unlock()
	switch {
	case r.gone:
		return fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	case r.hangs:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (r *replica) Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	if err := r.enter(ctx, "apply"); err != nil {
		return coordinator.State{}, err
	}
	r.house.mu.Lock()
	defer r.house.mu.Unlock()
	s, err := r.Coordinator.Apply(provider, lease)
	if sum := r.house.given(); sum > base+1 {
		r.house.t.Errorf("%v per second may pass of a budget of %v, after %s got %v", sum, base, r.address, lease.Share)
	}
	return s, err
}

func (r *replica) State(ctx context.Context, provider string) (coordinator.State, error) {
	if err := r.enter(ctx, "state"); err != nil {
		return coordinator.State{}, err
	}
	return r.Coordinator.State(provider)
}

// way leads to whoever is at an address.
type way struct {
	house   *house
	address string
}

func (w *way) to() *replica {
	w.house.mu.Lock()
	defer w.house.mu.Unlock()
	return w.house.replicas[w.address]
}

func (w *way) Apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	return w.to().Apply(ctx, provider, lease)
}

func (w *way) State(ctx context.Context, provider string) (coordinator.State, error) {
	return w.to().State(ctx, provider)
}

func (w *way) Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error) {
	if err := w.to().enter(ctx, "override"); err != nil {
		return coordinator.State{}, err
	}
	return w.to().Coordinator.Apply(provider, coordinator.ScaleRequest{
		Owner: coordinator.OwnerOperator, Holder: who, Scale: scale, Reason: reason, TTL: ttl,
	})
}

func (w *way) ClearOverride(ctx context.Context, provider, who, reason string) (coordinator.State, error) {
	if err := w.to().enter(ctx, "clear"); err != nil {
		return coordinator.State{}, err
	}
	return w.to().Coordinator.ClearOverride(provider, who, reason)
}

// fleet is a new fleet over the house.
func (h *house) fleet(sharing Sharing) *Fleet {
	return New(Config{Find: h, Sharing: sharing, Open: func(address string) (Replica, error) {
		return &way{h, address}, nil
	}}, slog.New(slog.DiscardHandler))
}

// tick is one call of Apply, and then the time until the next.
func tick(t *testing.T, f *Fleet, holder string) (coordinator.State, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	s, err := f.Apply(ctx, "ibkr", coordinator.ScaleRequest{
		Owner: coordinator.OwnerController, Holder: holder, Sequence: uint64(time.Now().UnixMicro()),
		Scale: 1, Reason: "test", TTL: 15 * time.Second,
	})
	time.Sleep(5*time.Second - time.Since(began))
	return s, err
}

// must is a tick at which nothing fails.
func must(t *testing.T, f *Fleet) coordinator.State {
	t.Helper()
	s, err := tick(t, f, "a")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *house) want(shares map[string]float64) {
	h.t.Helper()
	if diff := cmp.Diff(shares, h.shares()); diff != "" {
		h.t.Errorf("shares: %s", diff)
	}
}

func bubble(t *testing.T, f func(*testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestAllThatAnswerShareTheBudgetFromTheFirstTickOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		s := must(t, h.fleet(ShareEqually))
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
		if s.EffectivePerSecond != base || s.BasePerSecond != base || s.Scale != 1 || math.Abs(s.Share-1) > 1e-9 || s.Burst != 20 {
			t.Errorf("together they are at %+v, want the whole budget", s)
		}
	})
}

func TestANewReplicaGetsItsShareOnceTheOthersGaveItUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a")
		f := h.fleet(ShareEqually)
		must(t, f)
		h.join("b")
		h.order = nil
		must(t, f)
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
		if diff := cmp.Diff([]string{"state b", "apply a", "apply b"}, h.order); diff != "" {
			t.Error(diff)
		}
		h.order = nil
		must(t, f)
		slices.Sort(h.order)
		if diff := cmp.Diff([]string{"apply a", "apply b"}, h.order); diff != "" {
			t.Errorf("in the steady state each replica is asked once: %s", diff)
		}
	})
}

func TestANewReplicaGetsNothingWhileThereIsNoRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a")
		f := h.fleet(ShareEqually)
		must(t, f)
		h.replicas["a"].hangs = true
		h.join("b")
		_, err := tick(t, f, "a")
		var partial *controller.PartialError
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || !strings.Contains(err.Error(), "1 of 2 replicas: replica a: context deadline exceeded") {
			t.Errorf("got %v, want to be told that a failed", err)
		}
		h.want(map[string]float64{"a": 1, "b": 0})
		for range 4 { // until the lease of a has run out, and its fail mode leaves it half
			tick(t, f, "a")
		}
		h.want(map[string]float64{"a": 1, "b": 0.5})
		h.leave("a")
		must(t, f)
		h.want(map[string]float64{"b": 1})
	})
}

func TestAReplicaThatLeftKeepsItsShareUntilItsLeaseHasRunOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b", "c", "d", "e")
		f := h.fleet(ShareEqually)
		must(t, f)
		h.leave("c")
		h.leave("d")
		h.leave("e")
		must(t, f)
		h.want(map[string]float64{"a": 0.2, "b": 0.2})
		must(t, f)
		must(t, f)
		must(t, f)
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
	})
}

func TestOneThatHangsDoesNotStopTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b", "c")
		f := h.fleet(ShareEqually)
		must(t, f)
		h.replicas["b"].hangs = true
		for range 6 {
			s, err := tick(t, f, "a")
			if err == nil || s.EffectivePerSecond < 600 {
				t.Errorf("got %v at %v per second, want what two of three have", err, s.EffectivePerSecond)
			}
		}
		h.want(map[string]float64{"a": 0.417, "b": 0.333, "c": 0.417}) // b is at half of its share
		h.replicas["b"].hangs = false
		must(t, f)
		h.want(map[string]float64{"a": 0.333, "b": 0.333, "c": 0.333})
	})
}

func TestOneWhereNobodyListensIsTakenForDeadOnceItsLeaseHasRunOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		f := h.fleet(ShareEqually)
		must(t, f)
		h.replicas["b"].gone = true
		for range 4 {
			tick(t, f, "a")
		}
		h.want(map[string]float64{"a": 1})
		h.join("b") // it is started anew
		must(t, f)
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
	})
}

func TestAControllerThatIsStartedAnewTakesNothingAwayAndGivesNothingTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b", "c")
		must(t, h.fleet(ShareEqually))
		must(t, h.fleet(ShareEqually))
		h.want(map[string]float64{"a": 0.333, "b": 0.333, "c": 0.333})

		h.replicas["c"].hangs = true // the next one has never heard of it
		f := h.fleet(ShareEqually)
		for range 6 {
			tick(t, f, "a")
		}
		h.want(map[string]float64{"a": 0.333, "b": 0.333, "c": 0.333})
		h.leave("c")
		must(t, f)
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
	})
}

func TestOneThatIsDeadFromTheBeginningDoesNotStopTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t)
		h.initial = 1
		h.join("a")
		h.join("b")
		h.join("c").hangs = true
		f := h.fleet(ShareEqually)
		for range 4 {
			tick(t, f, "a")
		}
		h.want(map[string]float64{"a": 0.333, "b": 0.333, "c": 1})
	})
}

func TestAnotherHolderOfAnyReplicaMeansToStandBy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		first, second := h.fleet(ShareEqually), h.fleet(ShareEqually)
		must(t, first)
		h.order = nil
		_, err := tick(t, second, "b")
		var conflict *coordinator.ConflictError
		if !errors.As(err, &conflict) || conflict.Holder != "a" || conflict.ExpiresIn != 10*time.Second {
			t.Errorf("got %v, want a conflict with a for another 10s", err)
		}
		slices.Sort(h.order)
		if diff := cmp.Diff([]string{"state a", "state b"}, h.order); diff != "" {
			t.Errorf("a standby only looks: %s", diff)
		}
		if s, err := second.State(t.Context(), "ibkr"); err != nil || s.EffectivePerSecond != base {
			t.Errorf("a standby reads %v and %v, want the whole budget", s.EffectivePerSecond, err)
		}
		time.Sleep(15 * time.Second) // the first one is gone
		if s, err := tick(t, second, "b"); err != nil || s.EffectivePerSecond != base {
			t.Errorf("after the leases: %v and %v, want the whole budget at once", s.EffectivePerSecond, err)
		}
		if _, err := tick(t, first, "a"); !errors.As(err, &conflict) {
			t.Errorf("the first one, back again: got %v, want a conflict", err)
		}
	})
}

func TestOfTwoHoldersThatComeAtOnceOneGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b", "c")
		var errs [2]error
		var both sync.WaitGroup
		for i, holder := range []string{"a", "b"} {
			f := h.fleet(ShareEqually)
			both.Go(func() { _, errs[i] = tick(t, f, holder) })
		}
		both.Wait()
		var conflict *coordinator.ConflictError
		if (errs[0] == nil) == (errs[1] == nil) || !errors.As(errors.Join(errs[:]...), &conflict) {
			t.Errorf("got %v and %v, want one conflict", errs[0], errs[1])
		}
	})
}

func TestAFailedLookUpKeepsTheReplicas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		f := h.fleet(ShareEqually)
		h.find = errors.New("no such host")
		if _, err := tick(t, f, "a"); err == nil || !strings.Contains(err.Error(), "find the replicas: no such host") {
			t.Errorf("before the first look: got %v", err)
		}
		h.find = nil
		must(t, f)
		h.find = errors.New("no such host")
		for range 4 {
			must(t, f)
		}
		h.want(map[string]float64{"a": 0.5, "b": 0.5})
	})
}

func TestSharesFollowTheDemand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "busy", "idle")
		f := h.fleet(ShareByDemand)
		must(t, f)
		h.want(map[string]float64{"busy": 0.5, "idle": 0.5})
		ctx, stop := context.WithCancel(t.Context())
		var working sync.WaitGroup
		working.Go(func() {
			for h.replicas["busy"].Acquire(ctx, "ibkr", 10) == nil {
			}
		})
		for range 3 {
			must(t, f)
		}
		h.want(map[string]float64{"busy": 0.95, "idle": 0.05})
		stop()
		working.Wait()
	})
}

func TestEveryReplicaGetsTheScaleAndTheLevel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		s, err := h.fleet(ShareEqually).Apply(t.Context(), "ibkr", coordinator.ScaleRequest{
			Owner: coordinator.OwnerController, Holder: "a", Sequence: 7, Scale: 0.3, Level: 1, Reason: "test", TTL: time.Minute,
		})
		if err != nil || s.Scale != 0.3 || s.Level != 1 || math.Abs(s.EffectivePerSecond-0.3*base) > 1e-6 {
			t.Errorf("got %+v and %v", s, err)
		}
		h.replicas["b"].SetScale("ibkr", 0.1)
		s, err = h.fleet(ShareEqually).State(t.Context(), "ibkr")
		if err != nil || math.Abs(s.Scale-0.2) > 1e-9 || len(s.Scales) != 2 {
			t.Errorf("got %+v and %v, want the mean of both", s, err)
		}
	})
}

func TestAClockThatWentBackIsMadeGoodAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		for _, r := range h.replicas {
			_, err := r.Coordinator.Apply("ibkr", coordinator.ScaleRequest{
				Owner: coordinator.OwnerController, Holder: "a", Sequence: math.MaxUint32 << 24, Scale: 1, Share: 0.5, TTL: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		must(t, h.fleet(ShareEqually))
	})
}

func TestAnOverrideIsOnAllReplicasAlsoOnThoseThatComeLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, "a", "b")
		f := h.fleet(ShareEqually)
		must(t, f)
		if s, err := f.Override(t.Context(), "ibkr", 0.1, "ann", "maintenance", time.Minute); err != nil || math.Abs(s.EffectivePerSecond-0.1*base) > 1e-6 {
			t.Errorf("got %v per second and %v, want a tenth", s.EffectivePerSecond, err)
		}
		h.join("c")
		if s := must(t, f); math.Abs(s.EffectivePerSecond-0.1*base) > 1e-6 || s.Scale != 0.1 {
			t.Errorf("with a new replica: got %v per second at %v, want a tenth", s.EffectivePerSecond, s.Scale)
		}
		if s, err := f.ClearOverride(t.Context(), "ibkr", "ann", "done"); err != nil || s.EffectivePerSecond < base-1e-6 {
			t.Errorf("cleared: got %v per second and %v, want the whole budget", s.EffectivePerSecond, err)
		}
		if s := must(t, f); s.EffectivePerSecond < base-1e-6 {
			t.Errorf("after that: got %v per second, want the whole budget", s.EffectivePerSecond)
		}
		if _, err := f.Override(t.Context(), "ibkr", 0.1, "ann", "maintenance", 7*time.Second); err != nil {
			t.Fatal(err)
		}
		must(t, f)
		must(t, f)
		h.join("d")
		if s := must(t, f); s.EffectivePerSecond < base-1e-6 {
			t.Errorf("after its time: got %v per second, want the whole budget", s.EffectivePerSecond)
		}
	})
}

// The same as of the ledger alone, with real coordinators: whatever happens to
// the replicas and the controllers, no more than the budget may pass of what a
// controller gave.
func TestNoMoreThanTheBudgetPassesInAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		program := rapid.SliceOfN(rapid.IntRange(0, 999), 1, 40).Draw(rt, "program")
		bubble(t, func(t *testing.T) {
			h := newHouse(t, "r0")
			f := h.fleet(ShareEqually)
			for _, step := range program {
				n := len(h.replicas)
				r := h.replicas[fmt.Sprint("r", step/10%n)]
				switch step % 10 {
				case 0:
					h.join(fmt.Sprint("r", n))
				case 1:
					h.leave(r.address)
				case 2:
					r.hangs = !r.hangs
				case 3: // dies, or comes back anew
					if r.gone = !r.gone; !r.gone {
						h.join(r.address)
					}
				case 4:
					f = h.fleet(ShareByDemand)
				case 5:
					time.Sleep(15 * time.Second)
				default:
					tick(t, f, "a")
				}
			}
		})
	})
}
