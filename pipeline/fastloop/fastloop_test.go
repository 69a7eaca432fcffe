package fastloop_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pipeline/fastloop"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	base     = 1500.0
	capacity = 3000
)

var marks = writequeue.DefaultConfig("bars").Marks

// plant is a queue between a gate and a store, in fractions of items.
type plant struct {
	mu                       sync.Mutex
	scale                    float64
	depth, accepted, written float64
	applied                  []coordinator.ScaleRequest
}

func (p *plant) State(string) (coordinator.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return coordinator.State{BasePerSecond: base, FloorPerSecond: 1, Share: 1, Scale: p.scale}, nil
}

func (p *plant) Apply(_ string, r coordinator.ScaleRequest) (coordinator.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scale = r.Scale
	p.applied = append(p.applied, r)
	return coordinator.State{}, nil
}

func (p *plant) Stats() writequeue.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := writequeue.Stats{
		CoordinatorID: "bars", Capacity: capacity,
		Accepted: uint64(p.accepted), Written: uint64(p.written), Waiting: uint64(p.depth),
	}
	switch share := p.depth / capacity; {
	case share >= 0.8:
		s.Level = pressure.Hard
	case share > 0.5:
		s.Level = pressure.Soft
	}
	return s
}

// flow lets time go by with a provider that always sends.
func (p *plant) flow(length time.Duration, takes float64) (deepest float64) {
	const step = 5 * time.Millisecond
	for at := time.Duration(0); at < length; at += step {
		time.Sleep(step)
		p.mu.Lock()
		in := max(1, base*p.scale) * step.Seconds()
		out := min(takes*step.Seconds(), p.depth+in)
		p.depth += in - out
		p.accepted += in
		p.written += out
		deepest = max(deepest, p.depth)
		p.mu.Unlock()
	}
	return deepest
}

func config() fastloop.Config {
	return fastloop.Config{Provider: "ibkr", Every: 20 * time.Millisecond, Window: time.Second}
}

// run runs a loop over the plant until the test ends; call it in a bubble.
func run(t *testing.T, p *plant, sources ...fastloop.Source) (stop func()) {
	t.Helper()
	l, err := fastloop.New(p, config(), sources...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

// Each law keeps a store that slows down to a quarter from overflowing the
// queue, and lets it work at its best afterwards.
func TestEveryLawThrottlesByTheQueueOfItsOwnProcess(t *testing.T) {
	deepest := map[string]float64{policy.LinearName: 0.8 * capacity, policy.ExponentialName: 0.9 * capacity, policy.PIDName: 0.6 * capacity, policy.DrainName: 0.35 * capacity}
	for name, most := range deepest {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				law, err := policy.New(name, policy.Settings{
					OK: 1, Soft: 0.5, Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning(),
				})
				if err != nil {
					t.Fatal(err)
				}
				p := &plant{scale: 1}
				stop := run(t, p, fastloop.Source{Queue: p, Marks: marks, Law: law})
				defer stop()
				p.flow(10*time.Second, 1600)
				if got := p.flow(time.Minute, 400); got > most {
					t.Errorf("the queue rose to %.0f, above %.0f", got, most)
				}
				if p.depth == 0 {
					t.Error("the slow store waits for work")
				}
				p.flow(2*time.Minute, 1200) // exponential opens by a hundredth in a second
				before := p.written
				p.flow(time.Minute, 1200)
				if share := (p.written - before) / (60 * 1200); share < 0.95 {
					t.Errorf("the store that recovered took %.0f %% of what it could", 100*share)
				}
			})
		})
	}
}

func TestTheLowestOfSeveralQueuesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		linear := func() policy.Law {
			law, err := policy.NewLinear(1, 0)
			if err != nil {
				t.Fatal(err)
			}
			return law
		}
		gate, other := &plant{scale: 1, depth: 100}, &plant{depth: 0.65 * capacity}
		stop := run(t, gate, fastloop.Source{Queue: gate, Marks: marks, Law: linear()}, fastloop.Source{Queue: other, Marks: marks, Law: linear()})
		time.Sleep(time.Second)
		stop()
		if len(gate.applied) != 1 {
			t.Fatalf("%d scales were applied for depths that stay: %v", len(gate.applied), gate.applied)
		}
		got := gate.applied[0]
		if got.Scale != 0.5 || got.Level != pressure.Soft || got.Owner != coordinator.OwnerFastLoop || got.Reason != "SOFT: 1950 of 3000 items at bars" {
			t.Errorf("applied %+v", got)
		}
	})
}

// gone is a gate that no longer knows the provider.
type gone struct{ plant }

func (*gone) State(string) (coordinator.State, error) {
	return coordinator.State{}, coordinator.ErrUnknownProvider
}

func TestALoopWithoutItsProviderEnds(t *testing.T) {
	l, err := fastloop.New(&gone{}, config(), fastloop.Source{Queue: &plant{}, Marks: marks, Law: policy.NewDrain()})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); !errors.Is(err, coordinator.ErrUnknownProvider) {
		t.Errorf("Run returned %v", err)
	}
}

func TestAWrongConfigIsRefusedAllAtOnce(t *testing.T) {
	_, err := fastloop.New(&plant{}, fastloop.Config{Window: -1})
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if want := "[every window sources]"; fmt.Sprint(fields) != want {
		t.Errorf("the fields %v are refused, want %v", fields, want)
	}
}

// whole is a queue that others empty, shared by processes of which this one only
// puts items in.
type whole struct {
	begun           time.Time
	arrives, leaves float64 // items per second, of all processes
}

func (w whole) Stats() writequeue.Stats {
	seconds := time.Since(w.begun).Seconds()
	return writequeue.Stats{
		Capacity: 10_000, Waiting: uint64(1000 + (w.arrives-w.leaves)*seconds),
		Durable: &writequeue.Durable{Stored: uint64(5000 + w.arrives*seconds)},
	}
}

// recorder is a law that keeps what it was asked.
type recorder struct{ last policy.Input }

func (r *recorder) Decide(in policy.Input) policy.Output {
	r.last = in
	return policy.Output{Scale: 1}
}

func TestOfAQueueThatIsSharedTheWholeIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		law := &recorder{}
		p := &plant{}
		stop := run(t, p, fastloop.Source{Queue: whole{time.Now(), 700, 500}, Law: law})
		time.Sleep(5 * time.Second)
		stop()
		if in := law.last; math.Abs(in.ArrivalsPerSecond-700) > 2 || math.Abs(in.DrainPerSecond-500) > 2 {
			t.Errorf("arrivals %v/s, drain %v/s; want those of the whole queue, 700 and 500", in.ArrivalsPerSecond, in.DrainPerSecond)
		}
	})
}
