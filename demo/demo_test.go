package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/trace"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTheRehearsalAsksForTwiceWhatTheLowStoreTakes(t *testing.T) {
	// A quiet hour with a busy quarter of a minute in it.
	var quiet trace.Trace
	quiet.Interval = time.Second
	for i := range 3600 {
		value := 1.0
		if i >= 1800 && i < 1815 {
			value = 100
		}
		quiet.Points = append(quiet.Points, trace.Point{At: time.Duration(i) * time.Second, Value: value})
	}
	r, err := newRehearsal(quiet, 50*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var low, all float64
	for _, p := range r.arrivals.Points {
		if r.storeTakes(p.At) == r.lowered {
			low += p.Value * r.factor
		}
		all += p.Value
	}
	if want := demandOverLowered * r.lowered * (r.loweredTill - r.loweredFrom).Seconds(); math.Abs(low-want) > 1 {
		t.Errorf("while the store is low %v items come, want %v", low, want)
	}
	if len(r.arrivals.Points) != 50 || all != 15*100+35 {
		t.Errorf("the window has %d rows with %v items, want 50 rows with the busy time whole", len(r.arrivals.Points), all)
	}
	again, err := trace.Read(strings.NewReader(r.arrivalsCSV()))
	if err != nil || len(again.Points) != 50 {
		t.Errorf("the window cannot be read again: %v", err)
	}
	store, err := trace.Read(strings.NewReader(r.capacityCSV(3)))
	if err != nil || len(store.Points) != 9 || store.Points[4].At != 60*time.Second {
		t.Errorf("the store's rounds cannot be read again: %v and %v", store, err)
	}
	if _, err := newRehearsal(trace.Trace{Points: []trace.Point{{}}, Interval: time.Second}, time.Minute); err == nil {
		t.Error("a trace without arrivals passed")
	}
}

func TestTheLoopHasToCloseForGoodMarks(t *testing.T) {
	good := func() verdict {
		return verdict{
			Levels: []string{"OK", "SOFT", "HARD", "OK"}, Scales: []float64{1, 0.5, 0, 1},
			Accepted: 5, Conserved: true, MaxRateOverBudget: 1,
		}
	}
	for _, test := range []struct {
		name  string
		spoil func(*verdict)
		fault string
	}{
		{"all is well", func(*verdict) {}, ""},
		{"it was never under pressure", func(v *verdict) { v.Levels, v.Policy = []string{"OK"}, "step" }, "the level never rose"},
		{"a law kept it from coming under pressure", func(v *verdict) { v.Levels, v.Policy = []string{"OK"}, "drain" }, ""},
		{"it is still under pressure", func(v *verdict) { v.Levels = []string{"OK", "SOFT"} }, "the depth did not recover: the level was not OK at the end"},
		{"it never throttled", func(v *verdict) { v.Scales = []float64{0.5, 1} }, "the scale never fell; the scale did not rise again"},
		{"it never let go", func(v *verdict) { v.Scales = []float64{1, 0.5} }, "the scale did not rise again"},
		{"an item is missing", func(v *verdict) { v.Conserved = false }, "items are not accounted for"},
		{"nothing happened", func(v *verdict) { v.Accepted = 0 }, "no item was accepted"},
		{"the provider was overrun", func(v *verdict) { v.MaxRateOverBudget = 1.1 }, "the provider ran above its budget"},
	} {
		v := good()
		test.spoil(&v)
		v.judge()
		if got := strings.Join(v.Faults, "; "); got != test.fault || v.Closed != (test.fault == "") {
			t.Errorf("%s: got %q and %v, want %q", test.name, got, v.Closed, test.fault)
		}
	}
}

func TestTheScreenShowsTheLoop(t *testing.T) {
	s := screen{
		endpoints: []endpoint{{"Prometheus", "http://127.0.0.1:9090"}, {"controller", "http://127.0.0.1:8080/v1/decisions"}},
		dir:       "/tmp/headgate-demo", width: 100, height: 40,
	}
	for i := range 60 {
		depth := 1500 + 1200*math.Sin(float64(i)/8)
		level := pressure.OK
		if depth > 1500 {
			level = pressure.Soft
		}
		if depth >= 2400 {
			level = pressure.Hard
		}
		model, _ := s.Update(frame{
			at: time.Duration(i) * time.Second, level: level, depth: depth, capacity: 3000,
			softEnter: 1500, hardEnter: 2400, arrivals: 800, drain: 400 + 10*float64(i%7),
			scale: 0.5, allowed: 750, storeTakes: 400, accepted: float64(800 * i), written: float64(400 * i),
		})
		s = model.(screen)
	}
	model, _ := s.Update(story{at: 12 * time.Second, level: pressure.Soft, text: "SOFT: depth 1740 of 3000 above 1500"})
	got := ansi.Strip(model.(screen).render()) + "\n"
	const golden = "testdata/screen.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
	if empty := (screen{width: 80, height: 24}).render(); !strings.Contains(empty, "waiting") {
		t.Errorf("before the first signals it shows %q", empty)
	}
}

func TestArgumentsThatAreWrongAreRefused(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "prometheus")
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"too short a run", []string{"--seconds", "5"}, "--seconds is 5, want 20 to 3600"},
		{"an argument that is none", []string{"now"}, `argument "now"`},
		{"a trace that is not there", []string{"--trace", "gone.csv"}, "gone.csv"},
	} {
		var stdout, stderr strings.Builder
		if status := run(t.Context(), append(test.args, "--prometheus", binary), &stdout, &stderr); status != 2 || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%s: got status %d and %q", test.name, status, &stderr)
		}
	}
}
