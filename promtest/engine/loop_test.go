package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/promtest/engine"
	"github.com/headgate/headgate/settings"
)

const (
	tick     = 5 * time.Second
	capacity = 10_000.0
)

// point is a sample of a series that was scraped.
type point struct {
	at    time.Time
	value float64
}

func (p point) T() int64                      { return p.at.UnixMilli() }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.value }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

// scraped is all that Prometheus has seen, by name and instance.
type scraped map[[2]string][]point

func (s scraped) add(name, instance string, at time.Time, v float64) {
	key := [2]string{name, instance}
	s[key] = append(s[key], point{at, v})
}

// Querier implements storage.Queryable.
func (s scraped) Querier(from, to int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found []storage.Series
		for key, points := range s {
			series := labels.FromStrings("__name__", key[0], "coordinator_id", "bars", "instance", key[1])
			matches := true
			for _, m := range matchers {
				matches = matches && m.Matches(series.Get(m.Name))
			}
			var samples []chunks.Sample
			for _, p := range points {
				if p.T() >= from && p.T() <= to {
					samples = append(samples, p)
				}
			}
			if matches && len(samples) > 0 {
				found = append(found, storage.NewListSeries(series, samples))
			}
		}
		return &seriesSet{all: found}
	}}, nil
}

// seriesSet iterates over series.
type seriesSet struct {
	all []storage.Series
	at  int // one past the present one
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at <= len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.at-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// gate does at once what it is told.
type gate struct{ state coordinator.State }

func (g *gate) Apply(_ context.Context, _ string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	g.state.Scale, g.state.Level = lease.Scale, lease.Level
	g.state.EffectivePerSecond = max(g.state.FloorPerSecond, g.state.BasePerSecond*lease.Scale)
	return g.state, nil
}

func (g *gate) State(context.Context, string) (coordinator.State, error) { return g.state, nil }

// loop is the controller's own reader and loop over what was scraped.
type loop struct {
	t       rapid.TB
	scraped scraped
	reader  *metrics.Reader
	querier *engine.Querier
	replay  *controller.Replay
	gate    *gate
	skew    time.Duration // of the controller's clock against Prometheus'

	now               time.Time
	accepted, written float64
}

func newLoop(t rapid.TB, law string, base float64, skew time.Duration, variables map[string]string) *loop {
	t.Helper()
	var s settings.Target
	err := settings.Load(context.Background(), &s, func(name string) (string, bool) {
		v, found := map[string]string{"HEADGATE_COORDINATOR_IDS": "bars", "HEADGATE_POLICY": law}[name]
		if !found {
			v, found = variables[name]
		}
		return v, found
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{t: t, scraped: scraped{}, skew: skew, now: time.Unix(1_760_500_000, 0),
		gate: &gate{coordinator.State{BasePerSecond: base, FloorPerSecond: 1, Scale: 0.5, EffectivePerSecond: 0.5 * base}}}
	target, err := targets.New(s, l.gate)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	l.querier = &engine.Querier{Queryable: l.scraped, Engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})}
	if l.reader, err = metrics.NewReader(l.querier, []metrics.Names{target.Names}, quiet); err != nil {
		t.Fatal(err)
	}
	l.replay, err = controller.NewReplay(controller.Config{
		Interval: tick, QueryTimeout: tick, ApplyTimeout: tick, Holder: "a", Decisions: 1,
	}, []controller.Target{target}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// scrape takes a look at a replica with these values, some milliseconds ago.
func (l *loop) scrape(instance string, ago time.Duration, depth float64) {
	at := l.now.Add(-ago)
	for name, v := range map[string]float64{
		metrics.QueueDepth: depth, metrics.QueueCapacity: capacity,
		metrics.ItemsAccepted: l.accepted, metrics.ItemsWritten: l.written,
		metrics.BackpressureSoft: 0, metrics.BackpressureHard: 0,
	} {
		l.scraped.add(name, instance, at, v)
	}
}

// decide is one tick of the loop.
func (l *loop) decide() *controller.Decision {
	l.querier.Now = l.now
	snapshot, err := l.reader.Read(context.Background())
	return l.replay.Tick(context.Background(), l.now.Add(l.skew), snapshot, err)[0]
}

// pass lets a time go by in which these rates are in force.
func (l *loop) pass(d time.Duration, arrivals, drain float64) {
	l.now = l.now.Add(d)
	l.accepted += arrivals * d.Seconds()
	l.written += drain * d.Seconds()
}

// nasty draws a tick of whatever may happen to a scrape.
func (l *loop) nasty(t *rapid.T) {
	l.pass(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "pause_ms"))*time.Millisecond,
		rapid.Float64Range(0, 5000).Draw(t, "arrivals"), rapid.Float64Range(0, 5000).Draw(t, "drain"))
	ago := time.Duration(rapid.IntRange(0, 900).Draw(t, "ago_ms")) * time.Microsecond
	switch rapid.SampledFrom([]string{"good", "good", "good", "missed", "nan", "stale", "reset", "twice", "too deep", "negative"}).Draw(t, "scrape") {
	case "good":
		l.scrape("a", ago, rapid.Float64Range(0, capacity).Draw(t, "depth"))
	case "nan":
		l.scrape("a", ago, math.NaN())
	case "stale":
		l.scrape("a", ago, math.Float64frombits(value.StaleNaN))
	case "reset":
		l.accepted, l.written = 0, 0
		l.scrape("a", ago, rapid.Float64Range(0, capacity).Draw(t, "depth"))
	case "twice": // two scrape jobs, or a replica that came back under another name
		l.scrape("a", ago, rapid.Float64Range(0, capacity).Draw(t, "depth"))
		l.scrape("b", ago, rapid.Float64Range(0, capacity).Draw(t, "depth of the other"))
	case "too deep":
		l.scrape("a", ago, capacity*rapid.Float64Range(1, 1e6).Draw(t, "times"))
	case "negative":
		l.scrape("a", ago, -5)
	}
}

func TestTheLoopStandsNastySignals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		law := rapid.SampledFrom(policy.Names()).Draw(t, "law")
		base := rapid.OneOf(rapid.Float64Range(1, 5000), rapid.Just(0.0)).Draw(t, "base")
		skew := time.Duration(rapid.IntRange(-3600, 3600).Draw(t, "skew_s")) * time.Second
		l := newLoop(t, law, base, skew, nil)
		check := func() *controller.Decision {
			d := l.decide()
			if scale := float64(d.Scale); d.Scale.Known() && !(scale >= 0 && scale <= 1) {
				t.Fatalf("scale is %v: %s", scale, d.Explanation)
			}
			if age := float64(d.AgeSeconds); d.Reason == controller.ReasonLaw && !(age >= 0 && age <= 30) {
				t.Fatalf("the law decided on signals that are %v s old: %s", age, d.Explanation)
			}
			return d
		}
		for range rapid.IntRange(1, 20).Draw(t, "ticks") {
			l.nasty(t)
			check()
		}
		// Nothing changes any more: nor does the scale change its direction,
		// once what came before is over.
		depth, rate := rapid.Float64Range(0, capacity).Draw(t, "depth in the end"), rapid.Float64Range(0, 5000).Draw(t, "rate in the end")
		last, direction := math.NaN(), 0.0
		for i := range 60 {
			l.pass(tick, rate, rate)
			l.scrape("a", 0, depth)
			l.scrape("b", 0, 0)
			d := check()
			if i < 12 {
				continue
			}
			if d.Reason != controller.ReasonLaw {
				t.Fatalf("good signals are not decided on: %s", d.Explanation)
			}
			change := float64(d.Scale) - last
			if math.Abs(change) > 0.01 {
				if direction*change < 0 {
					t.Fatalf("the scale turns from %v to %v though nothing changed: %s", last, d.Scale, d.Explanation)
				}
				direction = change
			}
			last = float64(d.Scale)
		}
	})
}

func TestTheStaticLawsAreMonotoneInTheDepth(t *testing.T) {
	for _, law := range []string{policy.StepName, policy.LinearName} {
		t.Run(law, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				atOnce := map[string]string{"HEADGATE_COOL_DOWN": "0s"} // whoever was worse later is so for longer
				shallow, deep := newLoop(t, law, 2000, 0, atOnce), newLoop(t, law, 2000, 0, atOnce)
				for range rapid.IntRange(1, 20).Draw(t, "ticks") {
					depth := rapid.Float64Range(0, capacity).Draw(t, "depth")
					deeper := rapid.Float64Range(depth, capacity).Draw(t, "deeper")
					shallow.pass(tick, 0, 0)
					deep.pass(tick, 0, 0)
					shallow.scrape("a", 0, depth)
					deep.scrape("a", 0, deeper)
					a, b := shallow.decide(), deep.decide()
					if b.Scale > a.Scale {
						t.Fatalf("%v items give a scale of %v, and %v items one of %v", depth, a.Scale, deeper, b.Scale)
					}
				}
			})
		})
	}
}

// A scrape that never came is no number: the scale of the last good one stays,
// and then the fail mode's comes.
func TestMissingIsNeverOK(t *testing.T) {
	for _, law := range policy.Names() {
		l := newLoop(t, law, 2000, 0, nil)
		for range 6 {
			l.pass(tick, 1000, 200)
			l.scrape("a", 0, 9000)
			l.decide()
		}
		held := l.decide()
		var reasons []controller.Reason
		for range 10 {
			l.pass(tick, 0, 0)
			d := l.decide()
			reasons = append(reasons, d.Reason)
			if d.Reason != controller.ReasonLaw && d.Reason != controller.ReasonFailMode {
				t.Errorf("%s: %s", law, d.Explanation)
			}
			if d.Reason == controller.ReasonFailMode && d.Scale != 0.5 {
				t.Errorf("%s: the fail mode gives %v", law, d.Scale)
			}
			if law == policy.StepName && d.Reason == controller.ReasonLaw && d.Scale != held.Scale {
				t.Errorf("%s: the scale went from %v to %v without a new sample", law, held.Scale, d.Scale)
			}
		}
		if got := fmt.Sprint(reasons[len(reasons)-1]); got != string(controller.ReasonFailMode) {
			t.Errorf("%s: 50 s without a sample end in %s", law, got)
		}
	}
}
