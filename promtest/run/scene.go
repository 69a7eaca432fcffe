// Package run runs fixtures: rules as promtool does, and the decisions that the
// controller and the scaler would make of the same series, by their own code.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/promtest/engine"
	"github.com/headgate/headgate/promtest/fixture"
)

// scene is one test at play: its samples come in with time, the rules are
// evaluated and the controller and the scaler tick, each at its own interval
// from the start on. What is expected is judged on the way.
type scene struct {
	fixture *fixture.Fixture
	test    *fixture.Test
	loader  *promqltest.LazyLoader
	groups  []*rules.Group

	controls *controls // nil where no decision test asks for it
	scales   *scales   // likewise

	failures []Failure
}

// play runs a test, and hands what it crossed to the coverage. The error is
// about the fixture, not about what it expects.
func play(ctx context.Context, f *fixture.Fixture, t *fixture.Test, seen coverage) (result TestResult, err error) {
	s := &scene{fixture: f, test: t}
	s.loader, err = promqltest.NewLazyLoader(loadCommand(t), promqltest.LazyLoaderOpts{
		EnableAtModifier: true, EnableNegativeOffset: true, StartTime: t.Start, Parser: fixture.Parser(),
	})
	if err != nil {
		return result, invalid.New(fmt.Sprintf("%s: line %d: input_series", f.File, t.Line), err.Error(), "series as promtool has them")
	}
	defer func() { err = errors.Join(err, s.loader.Close()) }()
	s.loader.SubqueryInterval = f.EvaluationInterval
	if err := s.loadRules(); err != nil {
		return result, err
	}
	if err := s.prepare(seen); err != nil {
		return result, err
	}
	if err := s.run(ctx); err != nil {
		return result, err
	}
	s.testExprs(ctx)
	slices.SortStableFunc(s.failures, func(a, b Failure) int { return a.Line - b.Line })
	return TestResult{Name: t.Name, Line: t.Line, Passed: len(s.failures) == 0, Failures: s.failures}, nil
}

// loadCommand says the series as promqltest reads them.
func loadCommand(t *fixture.Test) string {
	var b strings.Builder
	fmt.Fprintf(&b, "load %s\n", model.Duration(t.Interval))
	for _, s := range t.Series {
		fmt.Fprintf(&b, "  %s %s\n", s.Series, s.Values)
	}
	return b.String()
}

// loadRules reads the rule files.
func (s *scene) loadRules() error {
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(s.loader.QueryEngine(), s.loader.Storage()),
		AppendableV2: s.loader.Storage(),
		Context:      s.loader.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
		Parser:       fixture.Parser(),
	})
	byName, errs := manager.LoadGroups(s.test.Interval, labels.FromMap(s.test.ExternalLabels), s.test.ExternalURL, nil, false, s.fixture.RuleFiles...)
	for i, err := range errs {
		errs[i] = &invalid.Value{Field: s.fixture.File + ": rule_files", Got: "wrong", Want: "rule files as Prometheus reads them: " + err.Error()}
	}
	place := func(g *rules.Group) int { // those that are not named come last
		if i := slices.Index(s.fixture.GroupEvalOrder, g.Name()); i >= 0 {
			return i
		}
		return len(s.fixture.GroupEvalOrder)
	}
	for _, key := range sortedKeys(byName) {
		s.groups = append(s.groups, byName[key])
		for _, rule := range byName[key].Rules() {
			if alert, is := rule.(*rules.AlertingRule); is {
				alert.SetRestored(true) // else it writes no series
			}
		}
	}
	slices.SortStableFunc(s.groups, func(a, b *rules.Group) int { return place(a) - place(b) })
	return errors.Join(errs...)
}

// prepare makes what of the controller and the scaler the test asks for.
func (s *scene) prepare(seen coverage) error {
	for _, d := range s.test.Decisions {
		if d.Target != "" && s.controls == nil {
			loop, names, err := s.fixture.Loop()
			if err != nil {
				return err
			}
			reader, err := s.reader(names...)
			if err != nil {
				return err
			}
			s.controls = &controls{loop: loop, reader: reader, seen: seen, last: lastOf(s.test.Decisions)}
		}
		if d.ScaledObject != "" && s.scales == nil {
			names, err := s.fixture.ScalerNames()
			if err != nil {
				return err
			}
			reader, err := s.reader(names)
			if err != nil {
				return err
			}
			if s.scales, err = newScales(s.fixture, reader); err != nil {
				return err
			}
		}
	}
	return nil
}

// clocked is a reader that says what time it is at Prometheus.
type clocked struct {
	*metrics.Reader
	querier *engine.Querier
}

// read reads the snapshot of a moment.
func (c clocked) read(ctx context.Context, now time.Time) (metrics.Snapshot, error) {
	c.querier.Now = now
	return c.Reader.Read(ctx)
}

func (s *scene) reader(names ...metrics.Names) (clocked, error) {
	querier := &engine.Querier{Engine: s.loader.QueryEngine(), Queryable: s.loader.Queryable()}
	reader, err := metrics.NewReader(querier, names, slog.New(slog.DiscardHandler))
	return clocked{reader, querier}, err
}

// clock is something that happens at each interval, until it ends.
type clock struct {
	next, end time.Time
	interval  time.Duration
}

// due reports whether it is time, and sets the clock to the next one.
func (c *clock) due(now time.Time) bool {
	if c.next.After(now) || c.next.After(c.end) {
		return false
	}
	c.next = c.next.Add(c.interval)
	return true
}

// run lets time go by.
func (s *scene) run(ctx context.Context) error {
	start := s.test.Start
	until := func(interval, end time.Duration) clock { return clock{start, start.Add(end), interval} }
	ruling := until(s.fixture.EvaluationInterval, s.end())
	never := until(1, -1) // it ends before it starts
	controlling, scaling := never, never
	if s.controls != nil {
		controlling = until(s.fixture.Controller.Interval, s.lastDecision())
	}
	if s.scales != nil {
		scaling = until(s.fixture.Scaler.Interval, s.lastDecision())
	}
	for now := start; ; {
		var loadErr error
		s.loader.WithSamplesTill(now, func(err error) { loadErr = err })
		if loadErr != nil {
			return invalid.New(fmt.Sprintf("%s: line %d: input_series", s.fixture.File, s.test.Line), loadErr.Error(), "samples that Prometheus takes")
		}
		if ruling.due(now) && !s.evaluate(now, ruling.next) {
			return nil
		}
		if controlling.due(now) {
			s.controls.tick(ctx, now)
		}
		if scaling.due(now) {
			s.scales.tick(ctx, now)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next, more := soonest(ruling, controlling, scaling)
		for i, d := range s.test.Decisions {
			if at := start.Add(d.EvalTime); !at.Before(now) && (!more || at.Before(next)) {
				s.judge(&s.test.Decisions[i], at)
			}
		}
		if !more {
			return nil
		}
		now = next
	}
}

// soonest is when something happens next, if anything does.
func soonest(clocks ...clock) (next time.Time, more bool) {
	for _, c := range clocks {
		if !c.next.After(c.end) && (!more || c.next.Before(next)) {
			next, more = c.next, true
		}
	}
	return next, more
}

// end is the time of the last thing that is expected.
func (s *scene) end() time.Duration {
	end := s.lastDecision()
	for _, t := range s.test.Exprs {
		end = max(end, t.EvalTime)
	}
	for _, t := range s.test.Alerts {
		end = max(end, t.EvalTime)
	}
	return end
}

func (s *scene) lastDecision() time.Duration {
	end := time.Duration(0)
	for _, d := range s.test.Decisions {
		end = max(end, d.EvalTime)
	}
	return end
}

// failed notes what was not as expected.
func (s *scene) failed(f Failure) {
	// An empty list is shown as one.
	f.Exp, f.Got = append([]string{}, f.Exp...), append([]string{}, f.Got...)
	s.failures = append(s.failures, f)
}
