package controller

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// roomAt works at an hour of the market's open: a queue of 10,000 and a base
// rate of 2,000/s, seen every five seconds.
func roomAt(t *testing.T) (*room, *throttle, func(depth, drain float64) Number) {
	t.Helper()
	p := &throttle{Provider: &Provider{Name: "ibkr", Law: policy.NewDrain()}, room: room{items: Number(math.NaN())}}
	now := time.Unix(1_000_000, 0)
	return &p.room, p, func(depth, drain float64) Number {
		now = now.Add(5 * time.Second)
		p.room.look(now, p, policy.Input{
			Fresh: true, Depth: depth, DrainPerSecond: drain, Capacity: 10_000, BasePerSecond: 2000, FloorPerSecond: 1,
			DeadTime: 5 * time.Second, Thresholds: pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000},
		})
		return p.room.items
	}
}

func TestHeadroomIsUnknownUntilTheStoreWasSeenAtWork(t *testing.T) {
	_, _, look := roomAt(t)
	for range 30 {
		if got := look(10, 900); got.Known() { // next to nothing waits: that is what came, not what the store takes
			t.Fatalf("%v items of headroom from a queue that is empty", got)
		}
	}
}

func TestHeadroomIsOfTheLeastDrainOfTheLastHour(t *testing.T) {
	_, _, look := roomAt(t)
	look(3000, 1200)
	look(3000, 600)
	// The law acts at 0.075 x 2,000/s x 5 s = 750 items.
	if got, want := look(3000, 1500), Number(10_000-750-(2000-600)*5); got != want {
		t.Errorf("%v items of headroom, want %v", got, want)
	}
	for range 30 * 60 / 5 {
		look(3000, 1500)
	}
	if got, want := look(3000, 1500), Number(10_000-750-(2000-600)*5); got != want {
		t.Errorf("half an hour later %v items of headroom, want %v", got, want)
	}
	for range 40 * 60 / 5 {
		look(3000, 1500)
	}
	if got, want := look(3000, 1500), Number(10_000-750-(2000-1500)*5); got != want {
		t.Errorf("more than an hour later %v items of headroom, want %v", got, want)
	}
}

func TestHeadroomIsToldAtTheStartAndWhenItTurns(t *testing.T) {
	room, _, look := roomAt(t)
	var told strings.Builder
	log := slog.New(slog.NewTextHandler(&told, nil))
	d := &Decision{Target: "bars", Provider: "ibkr"}
	tell := func() string {
		told.Reset()
		room.tell(t.Context(), log, d)
		return told.String()
	}
	look(3000, 1200)
	if got := tell(); !strings.Contains(got, "may overflow") || !strings.Contains(got, `basis="a store that stops altogether"`) {
		t.Errorf("at the start it says %q", got)
	}
	look(3000, 1200)
	if got := tell(); !strings.Contains(got, "need not overflow") || !strings.Contains(got, "(2000/s - 1200/s) x 5 s = 4000 items") {
		t.Errorf("with the drain known it says %q", got)
	}
	for range 12 {
		look(3000, 1200)
	}
	if got := tell(); got != "" {
		t.Errorf("nothing has changed, and it says %q", got)
	}
	for range 13 { // worked out once a minute
		look(3000, 50)
	}
	if got := tell(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "500 too many") {
		t.Errorf("with a slow store it says %q", got)
	}
}
