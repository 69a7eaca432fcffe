package controller

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
)

// tally counts what is logged at info level and above, by target; what is of no
// target counts under "".
type tally struct {
	mu    sync.Mutex
	lines map[string]int
	text  map[string]string // the last one of each
}

func (t *tally) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (t *tally) WithAttrs([]slog.Attr) slog.Handler               { return t }
func (t *tally) WithGroup(string) slog.Handler                    { return t }

func (t *tally) Handle(_ context.Context, r slog.Record) error {
	target, text := "", r.Message
	r.Attrs(func(a slog.Attr) bool {
		if d, is := a.Value.Any().(*Decision); is {
			target, text = d.Target, text+": "+d.Explanation
		} else if a.Key == "target" {
			target = a.Value.String()
		} else {
			text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines[target]++
	t.text[target] = text
	return nil
}

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines, t.text = map[string]int{}, map[string]string{}
}

// noise is a Reader that changes its numbers at each read.
type noise struct {
	*fakePrometheus
	change func(*fakePrometheus)
}

func (n noise) Read(ctx context.Context) (metrics.Snapshot, error) {
	n.set(n.change)
	return n.fakePrometheus.Read(ctx)
}

// kinds are targets to each of which one thing happens, all day long.
func kinds(t *testing.T) []Target {
	law := func(name string) func(*Target) {
		l, err := policy.New(name, policy.Settings{OK: 1, Soft: 0.5, Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning()})
		if err != nil {
			t.Fatal(err)
		}
		return func(t *Target) { t.Providers[0].LawName, t.Providers[0].Law = name, l }
	}
	of := func(coordinatorID string) func(*Target) {
		return func(t *Target) { t.CoordinatorIDs = []string{coordinatorID} }
	}
	unreachable, held := newGate(), newGate()
	unreachable.err = errDown
	held.lease, held.expires = coordinator.ScaleRequest{Holder: "b"}, time.Now().Add(1000*time.Hour)
	return []Target{
		target(t, "OK throughout", newGate(), of("ok")),
		target(t, "SOFT throughout", newGate(), of("soft")),
		target(t, "HARD throughout", newGate(), of("hard")),
		target(t, "a law that follows a noisy store", newGate(), of("soft"), law(policy.DrainName)),
		target(t, "a guard that bites now and then", newGate(), of("soft"), law(policy.DrainName), func(t *Target) {
			t.Providers[0].Guard.RisePerSecond = 0.001
		}),
		target(t, "signals lost", newGate(), of("lost")),
		target(t, "coordinator unreachable", unreachable, of("ok")),
		target(t, "another controller holds the lease", held, of("ok")),
		target(t, "nothing is applied", newGate(), of("soft"), func(t *Target) { t.DryRun = true }),
	}
}

func TestASteadyDayIsALogLineATargetAtMost(t *testing.T) {
	tests := []struct {
		name       string
		prometheus func(*fakePrometheus) // at each read
		most       int
	}{
		{name: "Prometheus answers", prometheus: func(*fakePrometheus) {}, most: 1},
		{name: "Prometheus is down", prometheus: func(p *fakePrometheus) { p.err = errDown }, most: 1},
		// That it comes, and that it goes.
		{name: "Prometheus fails at every other time", most: 2, prometheus: func(p *fakePrometheus) {
			if p.err = nil; p.reads%2 == 0 {
				p.err = errDown
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				prometheus := noise{newPrometheus(), func(p *fakePrometheus) {
					for id, items := range map[string]float64{"ok": 100, "soft": 600, "hard": 900} {
						p.depth[id] = items + 20*random.Float64()
					}
					p.rate = metrics.Rate{PerSecond: 60 + 40*random.Float64(), Known: true}
					test.prometheus(p)
				}}
				var all []Target
				for i := range 3 {
					for _, one := range kinds(t) {
						one.Name = fmt.Sprint(one.Name, " ", i)
						one.Providers[0].URL = "http://" + one.Name
						one.Lease, one.StaleAfter = 5*time.Minute, 3*time.Minute
						all = append(all, one)
					}
				}
				cfg := config()
				cfg.Interval, cfg.Decisions = time.Minute, 1
				log := &tally{}
				log.reset()
				c, err := New(cfg, prometheus, all, slog.New(log))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				defer func() {
					cancel()
					<-ended
				}()

				pass(24 * time.Hour) // to become steady
				for _, one := range all {
					if lines := log.lines[one.Name]; lines < 1 || lines > 20*test.most {
						t.Errorf("%q has %d lines in the first day, the last: %s", one.Name, lines, log.text[one.Name])
					}
				}
				log.reset()
				pass(24 * time.Hour)
				for name, lines := range log.lines {
					if lines > test.most {
						t.Errorf("%q has %d lines in a steady day, the last: %s", name, lines, log.text[name])
					}
				}
			})
		})
	}
}

func TestEveryChangeOfTheLevelIsLoggedHoweverOftenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prometheus := newPrometheus()
		var log lines
		_, stop := start(t, config(), prometheus, &log, target(t, "bars", newGate(), func(t *Target) { t.CoolDown = 0 }))
		defer stop()
		const changes = 200
		for i := range changes {
			prometheus.set(func(p *fakePrometheus) { p.depth["bars"] = []float64{100, 600}[i%2] })
			pass(interval)
		}
		for level, want := range map[string]int{"OK": changes / 2, "SOFT": changes / 2} {
			if got := log.count("decision.level=" + level + " "); got != want {
				t.Errorf("%s is told %d times, want %d", level, got, want)
			}
		}
	})
}

func TestWhatIsNewIsToldAtOnceAmongWhatIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prometheus, g := newPrometheus(), newGate()
		var log lines
		reader := noise{prometheus, func(p *fakePrometheus) {
			if p.err = nil; p.reads%2 == 0 {
				p.err = errDown
			}
		}}
		_, stop := start(t, config(), reader, &log, target(t, "bars", g))
		defer stop()
		pass(12 * time.Hour) // of signals that come and go
		before := log.count("apply_fault=unreachable")
		g.set(func(g *gate) { g.err = errDown })
		pass(2 * interval)
		if before != 0 || log.count("apply_fault=unreachable") == 0 {
			t.Errorf("%d lines before the coordinator was unreachable, and none after it", before)
		}
		// And what was not told is counted.
		if !strings.Contains(log.String(), "left_out=") {
			t.Error("nothing says how much was left out")
		}
	})
}
