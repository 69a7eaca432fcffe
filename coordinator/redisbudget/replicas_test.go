package redisbudget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/coordinator"
)

const (
	budget = 1000 // tokens per second, of all replicas
	burst  = 100  // tokens
	most   = 5    // replicas
)

// world is a server in a test's own time, and the replicas that share its budget.
type world struct {
	t *testing.T

	mu        sync.Mutex
	random    *rand.Rand
	model     *model
	down      bool
	restarted time.Time
	hung      chan struct{}   // closed when it goes on; nil while it does not hang
	cut       map[string]bool // replicas that cannot reach it
	rests     map[string]bool // replicas whose feeds have nothing
	grants    []coordinator.Grant
	byWhom    map[string]int // tokens that each replica gave away
	working   map[string]*worker
}

// worker is a replica at work.
type worker struct {
	*coordinator.Coordinator
	stop func()
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), model: newModel(), cut: map[string]bool{}, rests: map[string]bool{},
		byWhom: map[string]int{}, working: map[string]*worker{},
	}
}

// wire is a replica's connection to the server.
type wire struct {
	*world
	name string
}

// travel is how long a message takes.
func (w wire) travel() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.random.Int64N(int64(3 * time.Millisecond)))
}

// serve has the server do something, if it can be reached. What was sent to it is
// done also where nobody waits for it any more.
func (w wire) serve(ctx context.Context, do func(clock int64) answer) (answer, error) {
	there, back := w.travel(), w.travel()
	result := make(chan answer, 1)
	w.mu.Lock()
	hung, cut, down, model := w.hung, w.cut[w.name], w.down, w.model
	w.mu.Unlock()
	if down {
		return answer{}, errors.New("nobody listens")
	}
	if !cut {
		go func() {
			time.Sleep(there)
			if hung != nil {
				<-hung
			}
			w.mu.Lock()
			alive := w.model == model // or it was killed meanwhile
			var a answer
			if alive {
				a = do(time.Now().UnixMicro())
			}
			w.mu.Unlock()
			time.Sleep(back)
			if alive {
				result <- a
			}
		}()
	}
	select {
	case a := <-result:
		w.mu.Lock()
		cut = w.cut[w.name]
		w.mu.Unlock()
		if !cut {
			return a, nil
		}
		<-ctx.Done()
	case <-ctx.Done():
	}
	return answer{}, ctx.Err()
}

func (w wire) time(ctx context.Context) (int64, error) {
	a, err := w.serve(ctx, func(clock int64) answer { return answer{Clock: clock} })
	return a.Clock, err
}

func (w wire) draw(ctx context.Context, c call) (answer, error) {
	return w.serve(ctx, func(clock int64) answer { return w.model.draw(clock, c) })
}

// join starts a replica with two feeds that always have more.
func (w *world) join(name string, share float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working[name] != nil {
		return
	}
	c := coordinator.New(coordinator.WithGrantObserver(func(g coordinator.Grant) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.grants = append(w.grants, g)
		w.byWhom[name] += g.N
	}))
	if err := c.Register(coordinator.Provider{
		Name: "ibkr", BasePerSecond: budget, Burst: burst, InitialShare: share,
		Shared: newBudget(wire{w, name}, nil, budget, burst),
	}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var feeds sync.WaitGroup
	for i := range 2 {
		n := 1 + 9*i
		feeds.Go(func() {
			for ctx.Err() == nil {
				if w.resting(name) {
					time.Sleep(10 * time.Millisecond)
				} else {
					_ = c.Acquire(ctx, "ibkr", n)
				}
			}
		})
	}
	w.working[name] = &worker{c, func() { cancel(); feeds.Wait(); c.Close() }}
}

func (w *world) resting(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rests[name]
}

// leave stops a replica.
func (w *world) leave(name string) {
	w.mu.Lock()
	r := w.working[name]
	delete(w.working, name)
	w.mu.Unlock()
	if r != nil {
		r.stop()
	}
}

// end stops all.
func (w *world) end() {
	w.goOn()
	for i := range most {
		w.leave(fmt.Sprint(i))
	}
	synctest.Wait()
	time.Sleep(time.Second) // for what is still on its way
}

func (w *world) goOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hung != nil {
		close(w.hung)
		w.hung = nil
	}
}

// over is by how many tokens more than budget*T + burst were given away in the
// worst span of time.
func (w *world) over() float64 {
	sum, least, worst := 0.0, math.Inf(1), math.Inf(-1)
	for _, g := range w.grants {
		due := budget * g.At.Sub(w.grants[0].At).Seconds()
		least = min(least, sum-due)
		sum += float64(g.N)
		worst = max(worst, sum-due-least)
	}
	return worst - burst
}

// given is how many tokens were given away from one time to another.
func (w *world) given(from, to time.Time) (n int) {
	for _, g := range w.grants {
		if !g.At.Before(from) && g.At.Before(to) {
			n += g.N
		}
	}
	return n
}

// tiny is what the rounding to microseconds may add, in tokens.
const tiny = 0.1

type event struct {
	after   time.Duration
	what    string
	replica int
	scale   float64
}

func TestNeverMoreThanTheBudgetWhateverBecomesOfServerAndReplicas(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		seed := rapid.Uint64().Draw(r, "seed")
		var events []event
		for range rapid.IntRange(1, 25).Draw(r, "events") {
			events = append(events, event{
				after: time.Duration(rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, 6000)).Draw(r, "milliseconds")) * time.Millisecond,
				what: rapid.SampledFrom([]string{
					"join", "join", "leave", "kill", "restart", "stop", "continue", "cut", "mend", "scale", "rest", "rest", "work", "work",
				}).Draw(r, "what"),
				replica: rapid.IntRange(0, most-1).Draw(r, "replica"),
				scale:   rapid.SampledFrom([]float64{0, 0.1, 0.5, 1}).Draw(r, "scale"),
			})
		}
		fault := ""
		synctest.Test(t, func(t *testing.T) { fault = live(t, seed, events) })
		if fault != "" {
			r.Fatalf("%s, after %+v", fault, events)
		}
	})
}

// live lets events happen, and says what was wrong.
func live(t *testing.T, seed uint64, events []event) string {
	w := newWorld(t, seed)
	w.join("0", 1.0/most)
	time.Sleep(time.Second)
	for _, e := range events {
		time.Sleep(e.after)
		name := fmt.Sprint(e.replica)
		w.mu.Lock()
		at := w.working[name]
		w.mu.Unlock()
		switch e.what {
		case "join":
			w.mu.Lock()
			reachable := !w.cut[name]
			w.mu.Unlock()
			if reachable {
				w.join(name, 1.0/most)
			}
		case "leave":
			w.leave(name)
		case "scale":
			if at != nil {
				at.SetScale("ibkr", e.scale)
			}
		case "continue":
			w.goOn()
		default:
			w.mu.Lock()
			switch e.what {
			case "kill":
				// It forgets who is cut off, which then has to come back soon.
				w.down, w.model, w.cut = true, newModel(), map[string]bool{}
			case "restart":
				w.down, w.restarted = false, time.Now()
			case "stop":
				if w.hung == nil {
					w.hung = make(chan struct{})
				}
			case "cut":
				// One that the server does not know cannot be reckoned with.
				w.cut[name] = at != nil && at.connected() && !w.down && time.Since(w.restarted) > 5*time.Second
			case "mend":
				w.cut[name] = false
			case "rest", "work":
				w.rests[name] = e.what == "rest"
			}
			w.mu.Unlock()
		}
	}
	time.Sleep(3 * time.Second)
	w.end()
	if over := w.over(); over > tiny {
		return fmt.Sprintf("%.2f tokens more than the budget and the burst", over)
	}
	return ""
}

func (r *worker) connected() bool {
	s, err := r.State("ibkr")
	return err == nil && s.Shared.State == coordinator.SharedConnected
}

func TestReplicasThatComeAndGoUseTheWholeBudgetEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		measure := func(replicas int) {
			t.Helper()
			time.Sleep(6 * time.Second)
			before := map[string]int{}
			w.mu.Lock()
			for name, n := range w.byWhom {
				before[name] = n
			}
			w.mu.Unlock()
			from := time.Now()
			time.Sleep(time.Minute)
			w.mu.Lock()
			defer w.mu.Unlock()
			if used := float64(w.given(from, time.Now())) / (60 * budget); used < 0.999 {
				t.Errorf("%d replicas used %.4f of the budget", replicas, used)
			}
			even := 60.0 * budget / float64(replicas)
			for name := range w.working {
				if got := float64(w.byWhom[name] - before[name]); math.Abs(got/even-1) > 0.05 {
					t.Errorf("replica %s of %d used %.3f of an even share", name, replicas, got/even)
				}
			}
		}
		w.join("0", 1.0/most)
		measure(1)
		for i := range most {
			w.join(fmt.Sprint(i), 1.0/most)
		}
		measure(most)
		for i := 2; i < most; i++ {
			w.leave(fmt.Sprint(i))
		}
		measure(2)
		w.end()
		if over := w.over(); over > tiny {
			t.Errorf("%.2f tokens more than the budget and the burst", over)
		}
	})
}
