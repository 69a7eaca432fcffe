package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/headgate/headgate/metrics"
)

// tickOf is what the spans of a tick are made of.
type tickOf struct {
	decisions []*Decision
	calls     []*application
}

func newTickOf(t testing.TB, targets int) tickOf {
	var tick tickOf
	g := newGate()
	for i := range targets {
		l := newLine(new(target(t, fmt.Sprint("target-", i), g)), time.Now())
		o := l.throttles[0].outlet
		d := l.decide(time.Now(), view{fault: FaultQueryPending})[0]
		o.read, o.sources = true, []source{{l, l.throttles[0], d}}
		l.throttles[0].previous = d
		tick.decisions = append(tick.decisions, d)
		tick.calls = append(tick.calls, &application{outlet: o})
	}
	return tick
}

// trace makes all spans of a tick.
func (tick tickOf) trace(ctx context.Context, s *spans) {
	ctx, span := s.start(ctx, "tick")
	_, querying := s.start(ctx, "query")
	queried(querying, metrics.Snapshot{}, nil)
	_, deciding := s.start(ctx, "decide")
	s.choose(span, tick.calls)
	for _, a := range tick.calls {
		_, calling := s.call(ctx, a)
		called(calling, a)
	}
	s.decided(deciding, time.Time{}, tick.decisions)
	span.End()
}

func TestATickWithoutATracerAllocatesNothingForItsTrace(t *testing.T) {
	tick := newTickOf(t, 100)
	s := &spans{}
	if n := testing.AllocsPerRun(100, func() { tick.trace(t.Context(), s) }); n != 0 {
		t.Errorf("the spans of a tick of 100 targets make %v allocations, and there are none", n)
	}
}

// counter is a tracer that counts what it is asked for.
type spanCounter struct {
	noop.Tracer
	started map[string]int
}

func (c *spanCounter) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	c.started[name]++
	return ctx, recording{}
}

type recording struct{ noop.Span }

func (recording) IsRecording() bool { return true }

func TestTheSpansOfATickAreBounded(t *testing.T) {
	const targets = 1000
	tick := newTickOf(t, targets)
	c := &spanCounter{started: map[string]int{}}
	s := &spans{tracer: c}
	seen := map[*application]bool{}
	for range targets / mostCallSpans {
		clear(c.started)
		tick.trace(t.Context(), s)
		if got := c.started["read"]; got != mostCallSpans {
			t.Fatalf("%d calls have spans, want %d", got, mostCallSpans)
		}
		for _, a := range tick.calls {
			seen[a] = seen[a] || a.traced
			a.traced = false
		}
	}
	for a, traced := range seen {
		if !traced {
			t.Fatalf("%s never had its turn", a.outlet.sources[0].line.target.Name)
		}
	}
}

func TestACallThatTellsSomethingNewHasASpanAmongThousandsThatDoNot(t *testing.T) {
	tick := newTickOf(t, 1000)
	tick.calls[700].outlet.suspect = true
	tick.calls[800].outlet.sources[0].throttle.previous = nil
	turned := *tick.decisions[900]
	turned.Fault = FaultSeriesAbsent
	tick.calls[900].outlet.sources[0].decision = &turned
	tick.trace(t.Context(), &spans{tracer: &spanCounter{started: map[string]int{}}})
	for _, i := range []int{700, 800, 900} {
		if !tick.calls[i].traced {
			t.Errorf("call %d has no span", i)
		}
	}
}

func TestATickTellsOfTheDecisionsThatChangedAlone(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	cfg := config()
	cfg.Interval = time.Hour // which is how patient a tick is
	cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("")
	prometheus := newPrometheus()
	prometheus.depth["bonds"] = 100
	bonds := target(t, "bonds", newGate(), func(t *Target) { t.CoordinatorIDs = []string{"bonds"} })
	c, err := New(cfg, prometheus, []Target{target(t, "bars", newGate()), bonds}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.begin(time.Now())
	var reading sync.WaitGroup
	// told are the targets of the events of a tick, and how many have no signals.
	tick := func() (told []string, without int64) {
		recorder.Reset()
		c.tick(t.Context(), &reading)
		reading.Wait()
		for _, s := range recorder.Ended() {
			if s.Name() != "decide" {
				continue
			}
			for _, a := range s.Attributes() {
				if a.Key == "headgate.decisions.without_signals" {
					without = a.Value.AsInt64()
				}
			}
			for _, e := range s.Events() {
				told = append(told, e.Attributes[0].Value.AsString())
			}
		}
		return told, without
	}
	for _, step := range []struct {
		name    string
		before  func()
		want    []string
		without int64
	}{
		{"the first", func() {}, []string{"bars", "bonds"}, 0},
		{"one that is as before", func() {}, nil, 0},
		{"one queue is full", func() { prometheus.depth["bonds"] = 900 }, []string{"bonds"}, 0},
		{"the signals of the other are gone", func() { delete(prometheus.depth, "bars") }, []string{"bars"}, 1},
	} {
		step.before()
		if told, without := tick(); !slices.Equal(told, step.want) || without != step.without {
			t.Errorf("%s: it tells of %v and %d without signals, want %v and %d", step.name, told, without, step.want, step.without)
		}
	}
}

// dropped is a processor of spans that keeps none.
type dropped struct{}

func (dropped) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (dropped) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (dropped) Shutdown(context.Context) error                  { return nil }
func (dropped) ForceFlush(context.Context) error                { return nil }

// BenchmarkTick is a whole tick of the loop, with gates that answer at once: as it
// is without traces, and with traces that nobody takes.
func BenchmarkTick(b *testing.B) {
	for _, targets := range []int{100, 10_000} {
		for _, traced := range []bool{false, true} {
			b.Run(fmt.Sprintf("targets=%d/traced=%v", targets, traced), func(b *testing.B) {
				var all []Target
				for i := range targets {
					all = append(all, target(b, fmt.Sprint("target-", i), newGate()))
				}
				cfg := config()
				cfg.Interval, cfg.Decisions = time.Hour, 1
				if traced {
					cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(dropped{})).Tracer("")
				}
				c, err := New(cfg, newPrometheus(), all, slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				c.begin(time.Now())
				var reading sync.WaitGroup
				c.tick(b.Context(), &reading) // the first, at which all is new
				b.ReportAllocs()
				for b.Loop() {
					c.tick(b.Context(), &reading)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*targets), "µs/target")
			})
		}
	}
}
