package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/controller/shard"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/coordinator"
	coordinatorclient "github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	coordinatorapi "github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network takes requests to handlers by their host, without sockets, so that
// time is the test's own.
type network map[string]http.Handler

var errNobody = errors.New("connection refused")

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	h, found := n[r.URL.Host]
	if !found {
		return nil, errNobody
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	w := &answer{header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, body: writer, begun: make(chan struct{})}
	go func() {
		h.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		writer.Close()
	}()
	<-w.begun
	context.AfterFunc(r.Context(), func() { writer.CloseWithError(r.Context().Err()) })
	return &http.Response{
		StatusCode: w.status, Status: fmt.Sprint(w.status), Header: w.header, Body: reader, Request: r,
	}, nil
}

// answer is an http.ResponseWriter whose body is read while it is written.
type answer struct {
	header http.Header
	status int
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{}
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	a.once.Do(func() { a.status = status; close(a.begun) })
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) Flush() {}

// loop is what a controller says of itself.
type loop struct {
	mu     sync.Mutex
	rows   []controller.Row
	health controller.Health
	ticked chan struct{}
}

func (l *loop) Rows() []controller.Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.rows)
}

func (l *loop) Health() controller.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

func (l *loop) Ticked() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ticked
}

// tick makes one decision for each target and provider by what decide says, and
// waits until the page has it.
func (l *loop) tick(decide func(target string) controller.Decision) {
	l.mu.Lock()
	now := time.Now()
	for i, row := range l.rows {
		if row.Target.Disabled {
			continue
		}
		d := decide(row.Target.Name)
		d.At, d.Target, d.Provider, d.Changed = now, row.Target.Name, row.Target.Providers[0].Name, true
		l.rows[i].Latest = []*controller.Decision{&d}
	}
	l.health.Ticks++
	l.health.Queries++
	l.health.LastTick, l.health.LastSnapshot, l.health.TickSeconds = &now, &now, 0.0124
	close(l.ticked)
	l.ticked = make(chan struct{})
	l.mu.Unlock()
	synctest.Wait()
}

func ptr[T any](v T) *T { return &v }

// law is a decision by good signals.
func law(level pressure.Level, depth, scale float64, why string) controller.Decision {
	return controller.Decision{
		Reason: controller.ReasonLaw, Level: &level, LevelSince: ptr(time.Now().Add(-4 * time.Minute)), Depth: controller.Number(depth),
		Capacity: 10_000, Law: "step", LawScale: controller.Number(scale), Scale: controller.Number(scale), InForce: controller.Number(scale),
		InForceOwner: coordinator.OwnerController, BaseRate: 400, Effective: controller.Number(400 * scale), ArrivalsPerSecond: 380.25,
		DrainPerSecond: 1050, AgeSeconds: 1.25, Outcome: controller.OutcomeApplied, Explanation: why,
	}
}

// world is a controller with two coordinators, all of them without sockets.
type world struct {
	loop    *loop
	net     network
	gates   map[string]*coordinator.Coordinator
	session *Session
	out     *strings.Builder
	errs    *strings.Builder
}

// newWorld serves targets bars and trades, of which each throttles ibkr at a
// coordinator of its own, and the disabled loads, which throttles bulk.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		loop: &loop{ticked: make(chan struct{}), health: controller.Health{Holder: "alpha", IntervalSeconds: 5}},
		net:  network{}, gates: map[string]*coordinator.Coordinator{}, out: &strings.Builder{}, errs: &strings.Builder{},
	}
	w.session = &Session{
		Out: w.out, Err: w.errs, Environ: []string{"HEADGATE_CONTROLLER_URL=http://controller:8080", "USER=ann"},
		Host: "desk", Now: time.Now, transport: w.net,
	}
	quiet := slog.New(slog.DiscardHandler)
	coordinators := map[string]overrides.Coordinator{}
	mark := func(percent float64) pressure.Mark { return pressure.Mark{Value: percent, Percent: true} }
	ctx, cancel := context.WithCancel(t.Context())
	for _, target := range []struct {
		name, provider, host string
		disabled             bool
	}{{"bars", "ibkr", "one:9400", false}, {"trades", "ibkr", "two:9400", false}, {"loads", "bulk", "two:9400", true}} {
		address := "http://" + target.host
		if w.gates[target.host] == nil {
			gate := coordinator.New()
			t.Cleanup(gate.Close)
			w.gates[target.host] = gate
			w.net[target.host] = coordinatorapi.New(ctx, gate, feedback.NewBus(quiet), quiet, access.Everyone())
			c, err := coordinatorclient.New(address, &http.Client{Transport: w.net})
			if err != nil {
				t.Fatal(err)
			}
			coordinators[address] = c
		}
		if err := w.gates[target.host].Register(coordinator.Provider{Name: target.provider, BasePerSecond: 400, Burst: 10, FloorPerSecond: 1, FailMode: coordinator.FailSafe, SafeScale: 0.5}); err != nil {
			t.Fatal(err)
		}
		w.loop.rows = append(w.loop.rows, controller.Row{Target: &controller.Target{
			Name: target.name, CoordinatorIDs: []string{target.name + "-a", target.name + "-b"}, Disabled: target.disabled,
			SoftEnter: mark(50), SoftExit: mark(40), HardEnter: mark(80), HardExit: mark(70), FailMode: coordinator.FailSafe,
			Providers: []controller.Provider{{Name: target.provider, URL: address, LawName: "step"}},
		}})
	}
	page, err := statuspage.New(w.loop)
	if err != nil {
		t.Fatal(err)
	}
	desk, err := overrides.New(w.loop, coordinators, time.Second, quiet)
	if err != nil {
		t.Fatal(err)
	}
	w.net["controller:8080"] = route.Mux(slices.Concat(desk.Routes(), page.Routes()), access.Everyone())
	ended := make(chan error, 1)
	go func() { ended <- page.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// run runs a command and returns what it printed since the last one.
func (w *world) run(t *testing.T, command interface {
	Run(context.Context, *Session) error
}) (string, error) {
	t.Helper()
	w.out.Reset()
	err := command.Run(t.Context(), w.session)
	return w.out.String(), err
}

func check(t *testing.T, got, want string) {
	t.Helper()
	var trimmed strings.Builder
	for line := range strings.Lines(got) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), trimmed.String()); diff != "" {
		t.Errorf("the output differs (-want +got):\n%s", diff)
	}
}

// Tests begin at this time, as synctest has it.
// 2000-01-01 00:00:00 UTC

func TestStatusOfAShardSaysWhich(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loop.health.Shard = &shard.Shard{Index: 2, Of: 5}
		w.loop.tick(func(string) controller.Decision { return law(pressure.OK, 100, 1, "") })
		got, err := w.run(t, &Status{Limit: 25, Search: "no target"})
		check(t, got, `
controller alpha, shard 2 of 5, at http://controller:8080, tick 1 at 00:00:00 UTC in 0.012 s, one each 5 s
  signals read at 00:00:00, the oldest is 1.25 s old; 0 of 1 queries failed
  targets of this shard: 0 lost, 0 hard, 0 soft, 2 ok, 1 disabled

no target matches
`)
		if err != nil {
			t.Error(err)
		}
	})
}

func TestStatusShowsWhoNeedsAPersonFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got, err := w.run(t, &Status{Limit: 25})
		check(t, got, `
controller alpha at http://controller:8080, tick 0, one each 5 s
  the loop stands still
  targets: 2 lost, 0 hard, 0 soft, 0 ok, 1 disabled

TARGET  CONDITION  SINCE  DEPTH  CAPACITY  PROVIDER  LAW   SCALE  IN FORCE  RATE/S  OUTCOME
bars    lost       -      -      -         ibkr      step  -      -         -       -
trades  lost       -      -      -         ibkr      step  -      -         -       -
loads   disabled   -      -      -         bulk      step  -      -         -       -
`)
		if !errors.Is(err, ErrUnwell) {
			t.Errorf("before the first tick the error is %v", err)
		}

		time.Sleep(5 * time.Second)
		w.loop.tick(func(target string) controller.Decision {
			if target == "bars" {
				return law(pressure.OK, 1200, 1, "all is well")
			}
			d := law(pressure.Hard, 8214, 0.5, "HARD")
			d.InForce, d.InForceOwner, d.Effective = 0.2, coordinator.OwnerOperator, 80
			d.Override = &controller.Override{Holder: "bob\x1b[31m", Scale: 0.2, Reason: "store\nis moved", ExpiresAt: time.Now().Add(15 * time.Minute)}
			return d
		})
		time.Sleep(2 * time.Second)
		got, err = w.run(t, &Status{Limit: 25})
		check(t, got, `
controller alpha at http://controller:8080, tick 1 at 00:00:05 UTC in 0.012 s, one each 5 s
  signals read at 00:00:05, the oldest is 1.25 s old; 0 of 1 queries failed
  targets: 0 lost, 1 hard, 0 soft, 1 ok, 1 disabled

TARGET  CONDITION  SINCE            DEPTH  CAPACITY  PROVIDER  LAW   SCALE  IN FORCE        RATE/S  OUTCOME
trades  hard       23:56:05 (4m2s)  8,214  10,000    ibkr      step  0.5    0.2 (override)  80      applied
bars    ok         23:56:05 (4m2s)  1,200  10,000    ibkr      step  1      1               400     applied
loads   disabled   -                -      -         bulk      step  -      -               -       -

OVERRIDE  TARGET  SCALE  UNTIL                 BY        REASON
ibkr      trades  0.2    00:15:05 (in 14m58s)  bob [31m  store is moved
`)
		if err != nil {
			t.Errorf("the error is %v", err)
		}

		w.loop.tick(func(target string) controller.Decision {
			d := law(pressure.OK, 1200, 1, "all is well")
			if target == "bars" {
				d.Reason, d.Fault, d.Detail = controller.ReasonHold, controller.FaultSeriesStale, "the depth is 31 s old"
				d.Outcome, d.ApplyFault, d.ApplyError = controller.OutcomeFailed, controller.ApplyUnreachable, "connection refused"
			}
			return d
		})
		got, err = w.run(t, &Status{Limit: 1})
		check(t, got, `
controller alpha at http://controller:8080, tick 2 at 00:00:07 UTC in 0.012 s, one each 5 s
  signals read at 00:00:07, the oldest is 1.25 s old; 0 of 2 queries failed
  targets: 1 lost, 0 hard, 0 soft, 1 ok, 1 disabled

TARGET  CONDITION  SINCE            DEPTH  CAPACITY  PROVIDER  LAW   SCALE  IN FORCE  RATE/S  OUTCOME
bars    lost       23:56:07 (4m0s)  1,200  10,000    ibkr      step  1      1         400     failed
targets 1 to 1 of 3; --limit, --offset, --search and --condition show others

! bars, ibkr: the depth is 31 s old; not applied: connection refused
`)
		if !errors.Is(err, ErrUnwell) {
			t.Errorf("with lost signals the error is %v", err)
		}

		time.Sleep(16 * time.Second)
		if got, _ := w.run(t, &Status{Limit: 25}); !strings.Contains(got, "the loop stands still") {
			t.Errorf("after 16 s without a tick:\n%s", got)
		}
		got, err = w.run(t, &Status{Limit: 25, Search: "rade", Condition: "ok", Asking: Asking{Output: "json"}})
		var machine struct {
			List struct{ Targets []struct{ Target string } }
		}
		if json.Unmarshal([]byte(got), &machine) != nil || strings.Count(got, "\n") != 1 || len(machine.List.Targets) != 1 || machine.List.Targets[0].Target != "trades" {
			t.Errorf("for machines: %s", got)
		}
		if !errors.Is(err, ErrUnwell) {
			t.Errorf("for machines the error is %v, though signals are lost", err)
		}
		if _, err := w.run(t, &Status{Limit: 201}); !isRefused(err, "limit") {
			t.Errorf("with a limit that is none the error is %v", err)
		}
	})
}

// isRefused reports whether the controller refused the request for that field.
func isRefused(err error, field string) bool {
	var r *Refusal
	return errors.As(err, &r) && r.OfRequest() && len(r.Fields) > 0 && r.Fields[0].Field == field
}

func TestExplainShowsWhyAScaleIsWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loop.tick(func(string) controller.Decision { return law(pressure.OK, 1200, 1, "OK since 11:00:00: depth 1,200") })
		time.Sleep(time.Minute)
		w.loop.tick(func(string) controller.Decision {
			d := law(pressure.Soft, 8214, 0.52, "SOFT since 12:03:10: depth 8,214 of 10,000 above 8,000")
			d.Law, d.DeadTimeSeconds = "drain", 2.5
			d.Terms = []controller.Term{{Name: "drain_per_second", Value: 1050}, {Name: "seconds", Value: 12}}
			d.InForce, d.InForceOwner = 0.2, coordinator.OwnerOperator
			d.Override = &controller.Override{Holder: "bob", Scale: 0.2, Reason: "store is moved", ExpiresAt: time.Now().Add(15 * time.Minute)}
			return d
		})
		got, err := w.run(t, &Explain{Target: "bars", Last: 1})
		check(t, got, `
bars: controlled, SOFT since 23:57:00 (4m0s)
  observes bars-a and bars-b, whose signals are 1.25 s old
  SOFT above 50% until 40%, HARD from 80% until below 70%

ibkr at http://one:9400
  scale 0.52, in force 0.2 (override), 208 of 400 tokens/s, decided at 00:01:00
  why: SOFT since 12:03:10: depth 8,214 of 10,000 above 8,000
  law drain: scale 0.52, drain_per_second 1,050, seconds 12
  arrivals 380.2/s, drain 1,050/s, dead time 2.5 s
  override by bob: scale 0.2 until 00:16:00 (in 15m0s): store is moved

LAST CHANGES  PROVIDER  LEVEL  SCALE  IN FORCE  OUTCOME  WHY
00:01:00      ibkr      SOFT   0.52   0.2       applied  SOFT since 12:03:10: depth 8,214 of 10,000 above 8,000
`)
		if err != nil {
			t.Errorf("the error is %v", err)
		}

		got, err = w.run(t, &Explain{Target: "bars", Last: 10, Asking: Asking{Output: "json"}})
		var machine struct {
			Target struct {
				Condition string
				Target    string
				Providers []struct{ Latest struct{ Explanation string } }
			}
			Changes []struct{ Target string }
		}
		if json.Unmarshal([]byte(got), &machine) != nil || err != nil || machine.Target.Target != "bars" || machine.Target.Condition != "soft" ||
			!strings.HasPrefix(machine.Target.Providers[0].Latest.Explanation, "SOFT since") || len(machine.Changes) != 2 || machine.Changes[0].Target != "bars" {
			t.Errorf("for machines, and %v: %s", err, got)
		}

		if got, err := w.run(t, &Explain{Target: "loads", Last: 10}); err != nil || !strings.Contains(got, "loads: disabled") || !strings.Contains(got, "nothing was decided yet") {
			t.Errorf("of a disabled target, and %v: %s", err, got)
		}
		if _, err := w.run(t, &Explain{Target: "nobody"}); !isRefused(err, "target") {
			t.Errorf("of nobody the error is %v", err)
		}
		if _, err := w.run(t, &Explain{Target: "bars", Last: 51}); len(invalid.All(err)) != 1 {
			t.Errorf("with too many changes the error is %v", err)
		}
		w.loop.tick(func(string) controller.Decision {
			d := law(pressure.Soft, 1, 1, "")
			d.Fault, d.Detail, d.Outcome = controller.FaultSeriesAbsent, "there is no depth", controller.OutcomeFailed
			return d
		})
		if got, err := w.run(t, &Explain{Target: "bars"}); !errors.Is(err, ErrUnwell) || !strings.Contains(got, "its signals are lost") {
			t.Errorf("with lost signals, and %v: %s", err, got)
		}
	})
}

func TestWatchShowsEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := 0
		tick := func() {
			n++
			w.loop.tick(func(string) controller.Decision { return law(pressure.Soft, 8000, 0.5, fmt.Sprint("change ", n)) })
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		for range 3 {
			tick()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		command := &Watch{Target: "bars", Last: 2}
		go func() { ended <- command.Run(ctx, w.session) }()
		synctest.Wait()
		tick()
		tick()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the error is %v", err)
		}
		check(t, w.out.String(), `
00:00:05  SOFT     bars/ibkr  0.5, in force 0.5: change 2
00:00:10  SOFT     bars/ibkr  0.5, in force 0.5: change 3
00:00:15  SOFT     bars/ibkr  0.5, in force 0.5: change 4
00:00:20  SOFT     bars/ibkr  0.5, in force 0.5: change 5
`)
	})
}

func TestWatchFollowsAControllerThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		message := func(changes ...string) string {
			return fmt.Sprintf("event: status\ndata: {\"at\":\"2000-01-01T00:00:30Z\",\"changes\":[%s]}\n\n", strings.Join(changes, ","))
		}
		change := func(second int) string {
			return fmt.Sprintf(`{"at":"2000-01-01T00:00:%02dZ","target":"bars","provider":"ibkr","level":null,"scale":null,"scale_in_force":null,"explanation":"c%d"}`, second, second)
		}
		answers := []string{
			message(change(2), change(1)) + message(),
			"",                                       // ends at once
			message(change(4), change(3), change(2)), // what was missed
			"refused",
		}
		asked := 0
		w := newWorld(t)
		w.net["controller:8080"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked++
			if answers[asked-1] == "refused" {
				http.Error(rw, `{"error": "target is gone", "fields": [{"field": "target", "got": "bars", "want": "another"}]}`, http.StatusBadRequest)
				return
			}
			io.WriteString(rw, answers[asked-1])
		})
		got, err := w.run(t, &Watch{Last: 10, Asking: Asking{Output: "json"}})
		if !isRefused(err, "target") {
			t.Errorf("the error is %v", err)
		}
		want := change(1) + "\n" + change(2) + "\n" + change(3) + "\n" + change(4) + "\n"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the output differs (-want +got):\n%s", diff)
		}
		want = "the controller is gone, and is asked again: stream ended\nthe controller is back\n" +
			"the controller is gone, and is asked again: stream ended\n"
		if diff := cmp.Diff(want, w.errs.String()); diff != "" {
			t.Errorf("what is said beside it differs (-want +got):\n%s", diff)
		}
	})
}

func TestWatchEndsWhereThereWasNoController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		delete(w.net, "controller:8080")
		if _, err := w.run(t, &Watch{Last: 10}); !errors.Is(err, errNobody) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestAnOverrideIsSetListedAndCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loop.tick(func(string) controller.Decision { return law(pressure.OK, 1200, 1, "") })
		set := &Set{Provider: "ibkr", Scale: 0.25, For: 15 * time.Minute, Reason: "store is moved", Choosing: Choosing{Target: "bars"}}
		got, err := w.run(t, set)
		check(t, got, `
PROVIDER  COORDINATOR      OVERRIDE  UNTIL                IN FORCE  RATE/S
ibkr      http://one:9400  0.25      00:15:00 (in 15m0s)  0.25      100
`)
		if err != nil {
			t.Error(err)
		}

		// One that is higher than another scale in force does nothing, and is told so.
		w.gates["two:9400"].SetScale("ibkr", 0.1)
		set = &Set{Provider: "ibkr", Scale: 0.25, For: time.Hour, Reason: "store is moved", Choosing: Choosing{All: true, By: "bob"}}
		got, err = w.run(t, set)
		check(t, got, `
PROVIDER  COORDINATOR      OVERRIDE  UNTIL                 IN FORCE  RATE/S
ibkr      http://one:9400  0.25      01:00:00 (in 1h0m0s)  0.25      100
ibkr      http://two:9400  0.25      01:00:00 (in 1h0m0s)  0.1       40
! ibkr at http://two:9400: another scale is lower and stays in force: 0.1 of fast_loop
`)
		if err != nil {
			t.Error(err)
		}

		got, err = w.run(t, &List{})
		check(t, got, `
PROVIDER  COORDINATOR      TARGETS  SCALE  UNTIL                 BY   REASON
ibkr      http://one:9400  bars     0.25   01:00:00 (in 1h0m0s)  bob  store is moved
ibkr      http://two:9400  trades   0.25   01:00:00 (in 1h0m0s)  bob  store is moved
! bulk at http://two:9400 is not known: its targets are disabled, so it is not read
`)
		if !errors.Is(err, ErrUnwell) {
			t.Errorf("the error is %v", err)
		}

		got, err = w.run(t, &Clear{Provider: "ibkr", Reason: "it was moved", Choosing: Choosing{Target: "bars"}})
		check(t, got, `
PROVIDER  COORDINATOR      OVERRIDE  UNTIL  IN FORCE  RATE/S
ibkr      http://one:9400  -         -      1         400
`)
		if err != nil {
			t.Error(err)
		}
		got, _ = w.run(t, &Clear{Provider: "ibkr", Choosing: Choosing{All: true}, Asking: Asking{Output: "json"}})
		var machine struct {
			Results []struct {
				CoordinatorURL string `json:"coordinator_url"`
				State          struct{ Scale float64 }
			}
		}
		if json.Unmarshal([]byte(got), &machine) != nil || len(machine.Results) != 2 || machine.Results[1].State.Scale != 0.1 {
			t.Errorf("for machines: %s", got)
		}
	})
}

func TestAnOverrideGoesToACoordinatorWithoutTheController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		delete(w.net, "controller:8080")
		choosing := Choosing{CoordinatorURL: "http://one:9400"}
		got, err := w.run(t, &Set{Provider: "ibkr", Scale: 0, For: time.Minute, Reason: "r", Choosing: choosing})
		check(t, got, `
PROVIDER  COORDINATOR      OVERRIDE  UNTIL               IN FORCE  RATE/S
ibkr      http://one:9400  0         00:01:00 (in 1m0s)  0         1
`)
		if err != nil {
			t.Error(err)
		}
		got, err = w.run(t, &List{CoordinatorURL: "http://one:9400"})
		check(t, got, `
PROVIDER  COORDINATOR      TARGETS  SCALE  UNTIL               BY        REASON
ibkr      http://one:9400  -        0      00:01:00 (in 1m0s)  ann@desk  r
`)
		if err != nil {
			t.Error(err)
		}
		if got, err := w.run(t, &Clear{Provider: "ibkr", Choosing: choosing}); err != nil || !strings.Contains(got, "400") {
			t.Errorf("got %v: %s", err, got)
		}
		got, err = w.run(t, &List{CoordinatorURL: "http://one:9400"})
		check(t, got, "no override is in force\n")
		if err != nil {
			t.Error(err)
		}
		if _, err := w.run(t, &Set{Provider: "nobody", For: time.Minute, Reason: "r", Choosing: choosing}); !isRefused(err, "provider") || !strings.HasPrefix(err.Error(), "the coordinator answered 404") {
			t.Errorf("of nobody the error is %v", err)
		}
	})
}

func TestACoordinatorThatDidNotDoItIsToldBesideThoseThatDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		delete(w.net, "two:9400")
		got, err := w.run(t, &Set{Provider: "ibkr", Scale: 0.5, For: time.Minute, Reason: "r", Choosing: Choosing{All: true}})
		check(t, got, `
PROVIDER  COORDINATOR      OVERRIDE  UNTIL               IN FORCE  RATE/S
ibkr      http://one:9400  0.5       00:01:00 (in 1m0s)  0.5       200
ibkr      http://two:9400  not done  -                   -         -
! ibkr at http://two:9400: ask the coordinator: Put "http://two:9400/v1/providers/ibkr/override": connection refused
`)
		if !errors.Is(err, ErrNotAll) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestWhatIsWrongIsToldBeforeAnythingIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nobody := *w.session
		nobody.Environ = nobody.Environ[:1]
		right := func() *Set { return &Set{Provider: "ibkr", Scale: 0.5, For: time.Minute, Reason: "r"} }
		tests := []struct {
			name    string
			change  func(*Set)
			session *Session
			fields  string
		}{
			{"no address", func(s *Set) { s.URL = "controller" }, w.session, "--url"},
			{"no file", func(s *Set) { s.ClientConfig = filepath.Join(t.TempDir(), "none") }, &Session{Environ: w.session.Environ}, "--client-config"},
			{"a time before now", func(s *Set) { s.Timeout = -1 }, w.session, "--timeout"},
			{"a scale, a time and a reason that are none", func(s *Set) { s.Scale, s.For, s.Reason = 1.5, -time.Minute, "" }, w.session, "--for --reason SCALE"},
			{"a target and all", func(s *Set) { s.Target, s.All = "bars", true }, w.session, "--target"},
			{"a target and a coordinator", func(s *Set) { s.Target, s.CoordinatorURL = "bars", "http://one:9400" }, w.session, "--coordinator-url"},
			{"a coordinator's address that is none", func(s *Set) { s.CoordinatorURL = "one:9400" }, w.session, "--coordinator-url"},
			{"nobody", func(*Set) {}, &nobody, "--by"},
			{"a variable", func(*Set) {}, &Session{Environ: []string{"HEADGATE_CONTROLLER_TIMEOUT=soon", "USER=ann"}}, "HEADGATE_CONTROLLER_TIMEOUT"},
		}
		for _, test := range tests {
			command := right()
			test.change(command)
			err := command.Run(t.Context(), test.session)
			var fields []string
			for _, v := range invalid.All(err) {
				fields = append(fields, v.Field)
			}
			if strings.Join(fields, " ") != test.fields {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if s, err := w.gates["one:9400"].State("ibkr"); err != nil || s.Scale != 1 {
			t.Errorf("the scale is %v, %v", s.Scale, err)
		}
	})
}

func TestARefusalSaysHowToChoose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.run(t, &Set{Provider: "ibkr", Scale: 0.5, For: time.Minute, Reason: "r"})
		want := `the controller answered 409: provider "ibkr" is throttled at 2 coordinators: name one of their targets, or ask for all
  ibkr at http://one:9400: --target bars
  ibkr at http://two:9400: --target trades
  or --all`
		var refused *Refusal
		if !errors.As(err, &refused) || !refused.OfRequest() || err.Error() != want {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestAnotherServerIsNoController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		answer := func(status int, body string) {
			w.net["controller:8080"] = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.WriteHeader(status)
				io.WriteString(rw, body)
			})
		}
		var refused *Refusal
		answer(200, "<html>")
		if _, err := w.run(t, &Status{Limit: 25}); err == nil || !strings.Contains(err.Error(), "is there a controller at this address?") {
			t.Errorf("the error is %v", err)
		}
		answer(502, "<html>\x1b[31m")
		if _, err := w.run(t, &Set{Provider: "ibkr", For: time.Minute, Reason: "r"}); !errors.As(err, &refused) || refused.OfRequest() || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("the error is %v", err)
		}
		answer(401, "Unauthorized")
		if _, err := w.run(t, &List{}); !errors.As(err, &refused) || refused.OfRequest() || !strings.Contains(err.Error(), "401") {
			t.Errorf("the error is %v", err)
		}
		w.net["controller:8080"] = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		begin := time.Now()
		if _, err := w.run(t, &Explain{Target: "bars", Asking: Asking{Timeout: 3 * time.Second}}); err == nil || time.Since(begin) != 3*time.Second {
			t.Errorf("after %v the error is %v", time.Since(begin), err)
		}
	})
}

func TestNamesAreThoseOfTheController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		targets, providers := w.session.Names(t.Context())
		if diff := cmp.Diff([]string{"bars", "loads", "trades"}, targets); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"bulk", "ibkr"}, providers); diff != "" {
			t.Error(diff)
		}
		delete(w.net, "controller:8080")
		if targets, providers := w.session.Names(t.Context()); targets != nil || providers != nil {
			t.Errorf("without a controller the names are %v and %v", targets, providers)
		}
	})
}

func TestAPasswordFromTheClientConfigReachesTheController(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"overrides": [], "unread": []}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "client.yml")
	if err := os.WriteFile(file, []byte("basic_auth: {username: ann, password: secret}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := &Session{Out: &out, Environ: []string{"HEADGATE_CONTROLLER_URL=" + server.URL}, Now: time.Now}
	if err := (&List{}).Run(t.Context(), s); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("without the password the error is %v", err)
	}
	s.Environ = append(s.Environ, "HEADGATE_CONTROLLER_CLIENT_CONFIG_FILE="+file)
	if err := (&List{}).Run(t.Context(), s); err != nil || out.String() != "no override is in force\n" {
		t.Errorf("with it the error is %v, and the output %q", err, &out)
	}
}
