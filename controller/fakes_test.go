package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// skew is how far Prometheus' clock is off the controller's in every test:
// nothing may depend on it.
const skew = 37 * time.Minute

// fakePrometheus is a Reader whose answers a test sets.
type fakePrometheus struct {
	mu      sync.Mutex
	depth   map[string]float64       // by coordinator
	age     map[string]time.Duration // of the depth; 0 where there is none
	level   pressure.Level
	without []string // names of series that are absent
	rate    metrics.Rate
	err     error
	slow    time.Duration
	reads   int
}

func newPrometheus() *fakePrometheus {
	return &fakePrometheus{depth: map[string]float64{"bars": 100}, age: map[string]time.Duration{}}
}

func (p *fakePrometheus) set(change func(*fakePrometheus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *fakePrometheus) Read(ctx context.Context) (metrics.Snapshot, error) {
	p.mu.Lock()
	p.reads++
	slow := p.slow
	p.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return metrics.Snapshot{}, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return metrics.Snapshot{}, p.err
	}
	now := time.Now().Add(skew)
	s := metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{}}
	for id, depth := range p.depth {
		at := now.Add(-p.age[id])
		o := metrics.Observation{
			CoordinatorID: id, Depth: depth, Capacity: 1000, Level: p.level, HasLevel: true,
			Arrivals: p.rate, Drain: p.rate, At: at, Newest: at, Missing: p.without,
		}
		for _, name := range p.without {
			if name == metrics.QueueCapacity {
				o.Capacity = math.NaN()
			}
		}
		s.Coordinators[id] = o
	}
	return s, nil
}

// gate is a coordinator with the rules of leases, in memory.
type gate struct {
	mu        sync.Mutex
	lease     coordinator.ScaleRequest
	expires   time.Time
	applied   []coordinator.ScaleRequest
	appliedAt []time.Time
	base      float64
	slow      time.Duration
	err       error
	inFlight  int
	most      int    // in flight at once
	override  string // who has one in force, for a minute at any time
}

func newGate() *gate { return &gate{base: 100} }

func (g *gate) set(change func(*gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	g.inFlight++
	g.most = max(g.most, g.inFlight)
	slow, err := g.slow, g.err
	g.mu.Unlock()
	defer g.set(func(g *gate) { g.inFlight-- })
	if slow == 0 {
		return err
	}
	select {
	case <-time.After(slow):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) Apply(ctx context.Context, _ string, l coordinator.ScaleRequest) (coordinator.State, error) {
	if err := g.enter(ctx); err != nil {
		return coordinator.State{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	left := time.Until(g.expires)
	if g.lease.Holder == l.Holder && l.Sequence <= g.lease.Sequence || g.lease.Holder != l.Holder && left > 0 {
		return coordinator.State{}, &coordinator.ConflictError{
			Holder: g.lease.Holder, Sequence: g.lease.Sequence, ExpiresIn: left, Stale: g.lease.Holder == l.Holder,
		}
	}
	g.lease, g.expires = l, time.Now().Add(l.TTL)
	g.applied, g.appliedAt = append(g.applied, l), append(g.appliedAt, time.Now())
	return g.state(), nil
}

func (g *gate) State(ctx context.Context, _ string) (coordinator.State, error) {
	if err := g.enter(ctx); err != nil {
		return coordinator.State{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state(), nil
}

func (g *gate) state() coordinator.State {
	s := coordinator.State{Scale: g.lease.Scale, BasePerSecond: g.base, FloorPerSecond: 1, EffectivePerSecond: max(1, g.base*g.lease.Scale)}
	if g.override != "" {
		left := 60.0
		s.Scales = append(s.Scales, coordinator.Scale{Owner: coordinator.OwnerOperator, Holder: g.override, Scale: 1, Reason: "maintenance", ExpiresInSeconds: &left})
	}
	return s
}

// last is the newest lease, and whether it is in force.
func (g *gate) last() (coordinator.ScaleRequest, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease, time.Now().Before(g.expires)
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.applied)
}

const interval = 5 * time.Second

func config() Config {
	return Config{Interval: interval, QueryTimeout: 4 * time.Second, ApplyTimeout: 2 * time.Second, Holder: "a", Decisions: 100}
}

// target is the product's default: step, percent marks, 30 s until stale.
func target(t testing.TB, name string, g Gate, change ...func(*Target)) Target {
	law, err := policy.NewStep(1, 0.5, 0)
	if err != nil {
		t.Fatal(err)
	}
	mark := func(percent float64) pressure.Mark { return pressure.Mark{Value: percent, Percent: true} }
	target := Target{
		Name: name, CoordinatorIDs: []string{"bars"}, Names: metrics.DefaultNames(), Combine: CombineWorst,
		Providers: []Provider{{Name: "ibkr", URL: "http://" + name, Gate: g, LawName: policy.StepName, Law: law}},
		SoftEnter: mark(50), SoftExit: mark(40), HardEnter: mark(80), HardExit: mark(70), CoolDown: 10 * time.Second,
		Lease: 15 * time.Second, StaleAfter: 30 * time.Second, FailMode: coordinator.FailSafe, SafeScale: 0.5,
	}
	for _, c := range change {
		c(&target)
	}
	return target
}

// start runs a controller until the test ends; call it in a synctest bubble.
func start(t *testing.T, cfg Config, reader Reader, log io.Writer, targets ...Target) (c *Controller, stop func()) {
	t.Helper()
	if log == nil {
		log = io.Discard
	}
	c, err := New(cfg, reader, targets, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})))
	if err != nil {
		t.Fatal(err)
	}
	return c, run(t, c)
}

// run runs a controller until stop is called.
func run(t *testing.T, c *Controller) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

// newest is the newest decision of the target.
func newest(t *testing.T, c *Controller, target string) *Decision {
	t.Helper()
	decisions, found := c.Decisions(target, 1)
	if !found || len(decisions) != 1 {
		t.Fatalf("target %q has %d decisions", target, len(decisions))
	}
	return decisions[0]
}

// pass lets time go by, and everything happen that happens until then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lines is a log that counts.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(of string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), of)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var errDown = errors.New("connection refused")
