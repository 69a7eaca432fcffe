package scaler

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// counted returns how often Prometheus was asked.
func (p *prom) counted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads
}

func TestSignalsAreReadAtEachIntervalAndSeldomerWhileThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}}
		const interval = 2 * time.Second
		signals := NewSignals(p, interval, time.Second, staleAfter, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go signals.Run(ctx)
		// within returns how often Prometheus is asked in that time, from what
		// first does on.
		within := func(d time.Duration, first func()) int {
			before := p.counted()
			first()
			time.Sleep(d)
			synctest.Wait()
			return p.counted() - before
		}
		nothing := func() {}
		synctest.Wait()
		if p.counted() != 1 || !signals.Ready() {
			t.Fatalf("at the start there were %d readings", p.counted())
		}
		if got := within(time.Minute, nothing); got != 30 {
			t.Errorf("%d readings in a minute, want 30", got)
		}
		time.Sleep(time.Second)
		if got := within(time.Millisecond, signals.Wake); got != 1 {
			t.Errorf("a wake brought %d readings at once, want 1", got)
		}
		wakes := func() {
			for range 50 {
				signals.Wake()
			}
		}
		if got := within(leastPause/2, wakes); got != 0 {
			t.Errorf("50 wakes right after it brought %d readings at once, want none", got)
		}
		if got := within(leastPause, nothing); got != 1 {
			t.Errorf("50 wakes brought %d readings after the least pause, want 1", got)
		}

		p.set(func(p *prom) { p.err = errors.New("no route") })
		within(time.Minute, nothing) // until the pause is the longest
		if got := within(time.Minute, nothing); got < 10 || got > 24 {
			t.Errorf("%d readings in a minute of failures, want about 15", got)
		}
		if view, _ := signals.View(); view.Coordinators["bars"].Depth != 1 {
			t.Errorf("the last view is gone: %+v", view)
		}
		p.set(func(p *prom) { p.err = nil })
		within(2*longestPause*interval, nothing)
		if got := within(time.Minute, nothing); got != 30 {
			t.Errorf("%d readings in a minute after the failures, want 30", got)
		}
	})
}

// tardy is a Prometheus that takes its time.
type tardy struct {
	prom
	takes time.Duration
}

func (s *tardy) Read(ctx context.Context) (metrics.Snapshot, error) {
	time.Sleep(s.takes)
	return s.prom.Read(ctx)
}

func TestTheTimeOfAReadingIsPartOfTheInterval(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		want  int // readings in a minute at an interval of two seconds
	}{{time.Second, 30}, {2*time.Second - leastPause, 30}, {3*time.Second - leastPause, 20}} {
		synctest.Test(t, func(t *testing.T) {
			p := &tardy{takes: test.takes}
			signals := NewSignals(p, 2*time.Second, 10*time.Second, staleAfter, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
			defer cancel()
			if err := signals.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if got := p.counted(); got != test.want {
				t.Errorf("%d readings of %v in a minute, want %d", got, test.takes, test.want)
			}
		})
	}
}

func TestOneLineIsLoggedForARowOfFailures(t *testing.T) {
	var log strings.Builder
	p := &prom{err: errors.New("no route")}
	signals := NewSignals(p, time.Second, time.Second, staleAfter, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		signals.readOnce(t.Context())
	}
	p.err = nil
	signals.readOnce(t.Context())
	signals.readOnce(t.Context())
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "no route") {
		t.Errorf("there are %d lines, want one for the failures and one for their end:\n%s", lines, log.String())
	}
}

func TestWhatACoordinatorSaysOfItselfCountsUntilPrometheusKnowsLater(t *testing.T) {
	type seen struct {
		Depth  float64
		Level  pressure.Level
		Age    time.Duration
		Pushed bool
	}
	one := queue(100, pressure.Soft)
	two := queue(100, pressure.Soft)
	two.Replicas = []metrics.Replica{{Instance: "a"}, {Instance: "b"}}
	quiet := queue(100, pressure.OK)
	quiet.HasLevel = false
	const age = 3 * time.Second // of what was scraped
	tests := []struct {
		name    string
		scraped map[string]metrics.Observation
		event   pressure.Event
		want    seen
	}{
		{"all of it where it is one process", map[string]metrics.Observation{"bars": one},
			pressure.Event{QueueSize: 7, Capacity: 50, Level: pressure.OK}, seen{7, pressure.OK, 0, true}},
		{"what is worse where it is one of several", map[string]metrics.Observation{"bars": two},
			pressure.Event{QueueSize: 700, Capacity: 10_000, Level: pressure.Hard}, seen{700, pressure.Hard, age, true}},
		{"not what is better", map[string]metrics.Observation{"bars": two},
			pressure.Event{QueueSize: 7, Capacity: 50, Level: pressure.OK}, seen{100, pressure.Soft, age, true}},
		{"a level where there was none", map[string]metrics.Observation{"bars": func() metrics.Observation { o := two; o.HasLevel = false; return o }()},
			pressure.Event{QueueSize: 7, Capacity: 50, Level: pressure.Soft}, seen{100, pressure.Soft, age, true}},
		{"of one that is not scraped yet", nil,
			pressure.Event{QueueSize: 7, Capacity: 50, Level: pressure.Hard}, seen{7, pressure.Hard, 0, true}},
		{"beside one that is none of its business", map[string]metrics.Observation{"bars": quiet},
			pressure.Event{CoordinatorID: "ticks", QueueSize: 7, Capacity: 50, Level: pressure.Hard}, seen{100, 0, age, false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &prom{have: test.scraped, age: age}
				signals := NewSignals(p, time.Hour, time.Second, staleAfter, slog.New(slog.DiscardHandler))
				signals.readOnce(t.Context())
				if test.event.CoordinatorID == "" {
					test.event.CoordinatorID = "bars"
				}
				_, changed := signals.View()
				signals.Push(test.event)
				select {
				case <-changed:
				default:
					t.Error("nobody is told that there is a newer view")
				}
				look := func() seen {
					view, _ := signals.View()
					s := view.Coordinators["bars"]
					return seen{s.Depth, s.Level, time.Since(s.AsOf), s.Pushed}
				}
				if diff := cmp.Diff(test.want, look()); diff != "" {
					t.Errorf("after the event -want +got\n%s", diff)
				}
				// A reading whose samples are older than the event changes nothing.
				time.Sleep(age - time.Millisecond)
				signals.readOnce(t.Context())
				if got := look(); got.Depth != test.want.Depth || got.Pushed != test.want.Pushed {
					t.Errorf("after a reading of older samples it is %+v", got)
				}
				// One whose samples are newer does.
				time.Sleep(age)
				signals.readOnce(t.Context())
				if got := look(); len(test.scraped) > 0 && (got.Pushed || got.Depth != test.scraped["bars"].Depth) {
					t.Errorf("after a reading of newer samples it is %+v", got)
				}
				// And where no sample ever comes, it ends with its age.
				time.Sleep(staleAfter)
				signals.readOnce(t.Context())
				if view, _ := signals.View(); len(view.Coordinators) != len(test.scraped) || len(signals.pushed) != 0 {
					t.Errorf("when the event is stale there are %d coordinators and %d events", len(view.Coordinators), len(signals.pushed))
				}
			})
		})
	}
}

func TestAViewIsNeverChanged(t *testing.T) {
	p := &prom{have: map[string]metrics.Observation{"bars": queue(100, pressure.OK)}}
	signals := NewSignals(p, time.Hour, time.Second, staleAfter, slog.New(slog.DiscardHandler))
	signals.readOnce(t.Context())
	view, _ := signals.View()
	signals.Push(pressure.Event{CoordinatorID: "bars", QueueSize: 5, Capacity: 10, Level: pressure.Hard})
	p.have["bars"] = queue(200, pressure.OK)
	signals.readOnce(t.Context())
	if got := view.Coordinators["bars"]; got.Depth != 100 || got.Pushed {
		t.Errorf("the old view became %+v", got)
	}
	if later, _ := signals.View(); later.Number <= view.Number {
		t.Errorf("view %d is followed by %d", view.Number, later.Number)
	}
}

func TestOneThatAPatternChoseIsMissedUntilItIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &prom{have: map[string]metrics.Observation{"bars-1": queue(100, pressure.OK), "bars-2": queue(50, pressure.OK)}}
		quiet := slog.New(slog.DiscardHandler)
		signals := NewSignals(p, time.Hour, time.Second, staleAfter, quiet)
		server := NewServer(signals, quiet)
		ref := object("coordinatorIds", "bars-*")
		ask := func() (float64, error) {
			signals.readOnce(t.Context())
			value, _, _, err := server.answer(ref)
			return value, err
		}
		if value, err := ask(); err != nil || value != 150 {
			t.Errorf("the value is %v, %v; want 150", value, err)
		}
		delete(p.have, "bars-2")
		time.Sleep(time.Second)
		if value, err := ask(); err == nil || !strings.Contains(err.Error(), `"bars-2" was there 1s ago`) {
			t.Errorf("without one of them the value is %v, %v; a part of a sum is too small", value, err)
		}
		time.Sleep(staleAfter)
		if value, err := ask(); err != nil || value != 100 {
			t.Errorf("once it is long gone the value is %v, %v; want 100", value, err)
		}
	})
}
