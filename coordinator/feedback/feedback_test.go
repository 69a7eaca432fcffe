package feedback_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(id string, level pressure.Level) pressure.Event {
	return pressure.Event{CoordinatorID: id, QueueSize: 850, Capacity: 1000, Level: level, Utilization: 0.85}
}

// gate is a coordinator with providers of 100 tokens per second.
func gate(t *testing.T, names ...string) *coordinator.Coordinator {
	t.Helper()
	c := coordinator.New()
	t.Cleanup(c.Close)
	for _, name := range names {
		err := c.Register(coordinator.Provider{Name: name, BasePerSecond: 100, Burst: 10, SafeScale: 0.5})
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// at is a provider's scale and level, as in "0.5 SOFT".
func at(t *testing.T, c *coordinator.Coordinator, provider string) string {
	t.Helper()
	s, err := c.State(provider)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%v %v", s.Scale, s.Level)
}

func bus(log *strings.Builder) *feedback.Bus {
	return feedback.NewBus(slog.New(slog.NewTextHandler(log, nil)))
}

func TestFromTheBusOverTheHandlerToTheGate(t *testing.T) {
	var log strings.Builder
	b, c := bus(&log), gate(t, "ibkr")
	b.Subscribe("gate", feedback.NewHandler(c, feedback.DefaultStep(), 0, "ibkr").Handle)
	for _, step := range []struct {
		level pressure.Level
		want  string
	}{
		{pressure.Soft, "0.5 SOFT"},
		{pressure.Hard, "0 HARD"},
		{pressure.Soft, "0.5 SOFT"},
		{pressure.OK, "1 OK"},
	} {
		b.Publish(event("bars", step.level))
		if got := at(t, c, "ibkr"); got != step.want {
			t.Errorf("after %v: got %s, want %s", step.level, got, step.want)
		}
	}
}

func TestACustomPolicyDecides(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy feedback.Policy
		want   string
	}{
		{"its own scales", feedback.Step(0.9, 0.3, 0.1), "0.3 SOFT"},
		{"by the utilisation", func(e pressure.Event) float64 { return 1 - e.Utilization }, "0.15 SOFT"},
		{"above 1 is clamped", func(pressure.Event) float64 { return 3 }, "1 SOFT"},
		{"NaN is the safe end", func(pressure.Event) float64 { return math.NaN() }, "0 SOFT"},
	} {
		c := gate(t, "ibkr")
		h := feedback.NewHandler(c, func(e pressure.Event) float64 {
			return math.Round(test.policy(e)*100) / 100
		}, 0, "ibkr")
		if err := h.Handle(event("bars", pressure.Soft)); err != nil {
			t.Error(err)
		}
		if got := at(t, c, "ibkr"); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestAnUnknownLevelCountsAsOKWithAWarning(t *testing.T) {
	var log strings.Builder
	b, c := bus(&log), gate(t, "ibkr")
	b.Subscribe("gate", feedback.NewHandler(c, feedback.DefaultStep(), 0, "ibkr").Handle)
	b.Publish(event("bars", pressure.Hard))
	b.Publish(event("bars", pressure.Level(7)))
	if got := at(t, c, "ibkr"); got != "1 OK" {
		t.Errorf("got %s, want 1 OK", got)
	}
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("want a warning, got %q", &log)
	}
}

func TestSeveralProvidersAndHandlers(t *testing.T) {
	var log strings.Builder
	b, c := bus(&log), gate(t, "ibkr", "loader", "free")
	b.Subscribe("both", feedback.NewHandler(c, feedback.DefaultStep(), 0, "ibkr", "loader").Handle)
	b.Subscribe("loader", feedback.NewHandler(c, feedback.Step(1, 0.2, 0), 0, "loader").Handle)
	b.Publish(event("bars", pressure.Soft))
	got := []string{at(t, c, "ibkr"), at(t, c, "loader"), at(t, c, "free")}
	if diff := cmp.Diff([]string{"0.5 SOFT", "0.2 SOFT", "1 OK"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOfSeveralCoordinatorsTheWorstCounts(t *testing.T) {
	c := gate(t, "ibkr")
	h := feedback.NewHandler(c, feedback.DefaultStep(), 0, "ibkr")
	for _, step := range []struct {
		e    pressure.Event
		want string
	}{
		{event("bars", pressure.Hard), "0 HARD"},
		{event("ticks", pressure.OK), "0 HARD"},
		{event("bars", pressure.OK), "1 OK"},
	} {
		if err := h.Handle(step.e); err != nil {
			t.Error(err)
		}
		if got := at(t, c, "ibkr"); got != step.want {
			t.Errorf("after %v of %s: got %s, want %s", step.e.Level, step.e.CoordinatorID, got, step.want)
		}
	}
}

func TestAnOldEventIsDroppedAndCounted(t *testing.T) {
	var log strings.Builder
	b, c := bus(&log), gate(t, "ibkr")
	b.Subscribe("gate", feedback.NewHandler(c, feedback.DefaultStep(), 0, "ibkr").Handle)
	now := time.Now()
	newer, older := event("bars", pressure.Hard), event("bars", pressure.OK)
	newer.Time, older.Time = now, now.Add(-time.Second)
	b.Publish(newer)
	b.Publish(older)
	if got := at(t, c, "ibkr"); got != "0 HARD" {
		t.Errorf("got %s, want the newer one's 0 HARD", got)
	}
	err := testutil.CollectAndCompare(b, strings.NewReader(`
# HELP rate_coordinator_feedback_events_total Feedback events that were handed to a subscriber of the bus, by what it made of them.
# TYPE rate_coordinator_feedback_events_total counter
rate_coordinator_feedback_events_total{outcome="dropped_old",subscriber="gate"} 1
rate_coordinator_feedback_events_total{outcome="failed",subscriber="gate"} 0
rate_coordinator_feedback_events_total{outcome="handled",subscriber="gate"} 1
rate_coordinator_feedback_events_total{outcome="unknown_level",subscriber="gate"} 0
`))
	if err != nil {
		t.Error(err)
	}
	timeless := event("bars", pressure.Soft)
	b.Publish(timeless)
	if got := at(t, c, "ibkr"); got != "0.5 SOFT" {
		t.Errorf("got %s, want an event without a time to count", got)
	}
}

func TestOneSubscriberThatFailsHarmsNoOther(t *testing.T) {
	var log strings.Builder
	b := bus(&log)
	var told []string
	b.Subscribe("first", func(pressure.Event) error { told = append(told, "first"); return errors.New("no") })
	b.Subscribe("second", func(pressure.Event) error { told = append(told, "second"); panic("help") })
	unsubscribe := b.Subscribe("third", func(pressure.Event) error { told = append(told, "third"); return nil })
	b.Publish(event("bars", pressure.OK))
	unsubscribe()
	unsubscribe()
	b.Publish(event("bars", pressure.OK))
	b.Reset()
	b.Publish(event("bars", pressure.OK))
	want := []string{"first", "second", "third", "first", "second"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(log.String(), "subscriber failed"); n != 2 {
		t.Errorf("%d failures were logged, want each subscriber's first:\n%s", n, &log)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(b)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("got %v and %v, want series named by the rules", problems, err)
	}
}

func TestAnEventFromElsewhereLastsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gate(t, "ibkr")
		h := feedback.NewHandler(c, feedback.DefaultStep(), time.Minute, "ibkr")
		if err := h.Handle(event("dead", pressure.Hard)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if err := h.Handle(event("alive", pressure.OK)); err != nil {
			t.Fatal(err)
		}
		if got := at(t, c, "ibkr"); got != "0 HARD" {
			t.Errorf("got %s, want what the silent one said within its minute", got)
		}
		time.Sleep(40 * time.Second)
		if err := h.Handle(event("alive", pressure.OK)); err != nil {
			t.Fatal(err)
		}
		if got := at(t, c, "ibkr"); got != "1 OK" {
			t.Errorf("got %s, want the silent one forgotten", got)
		}
		time.Sleep(61 * time.Second)
		if got := at(t, c, "ibkr"); got != "0.5 OK" {
			t.Errorf("got %s, want the fail mode when nobody speaks", got)
		}
	})
}

func Example() {
	gate := coordinator.New()
	defer gate.Close()
	err := gate.Register(coordinator.Provider{Name: "ibkr", BasePerSecond: 2000, Burst: 500, FloorPerSecond: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	bus := feedback.NewBus(slog.New(slog.DiscardHandler))
	bus.Subscribe("gate", feedback.NewHandler(gate, feedback.DefaultStep(), 0, "ibkr").Handle)

	bus.Publish(pressure.Event{CoordinatorID: "bars", QueueSize: 850, Capacity: 1000, Level: pressure.Soft})

	state, err := gate.State("ibkr")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(state.Level, state.EffectivePerSecond, "tokens per second")
	// Output: SOFT 1000 tokens per second
}
