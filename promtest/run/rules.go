package run

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"

	"github.com/headgate/headgate/promtest/fixture"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// since writes a time as it stands in fixtures.
func since(d time.Duration) string { return model.Duration(d).String() }

// evaluate evaluates the rules, and judges the alerts that are expected before
// the next evaluation. It reports whether the test can go on: it cannot after a
// rule that failed.
func (s *scene) evaluate(now, next time.Time) bool {
	broken := false
	for _, g := range s.groups {
		g.Eval(s.loader.Context(), now)
		for _, rule := range g.Rules() {
			if err := rule.LastError(); err != nil {
				broken = true
				s.failed(Failure{Line: s.test.Line, What: fmt.Sprintf("rule %s at %s", rule.Name(), since(now.Sub(s.test.Start))), Error: err.Error()})
			}
		}
	}
	if broken {
		return false
	}
	for _, t := range s.test.Alerts {
		if at := s.test.Start.Add(t.EvalTime); !at.Before(now) && at.Before(next) {
			s.judgeAlert(t)
		}
	}
	return true
}

// judgeAlert holds the alerts that fire against those that are expected.
func (s *scene) judgeAlert(t fixture.AlertTest) {
	var exp, got []string
	for _, a := range t.Alerts {
		named := maps.Clone(a.Labels)
		if named == nil {
			named = map[string]string{}
		}
		named[labels.AlertName] = t.Alertname
		exp = append(exp, alertText(labels.FromMap(named), labels.FromMap(a.Annotations)))
	}
	for _, g := range s.groups {
		for _, rule := range g.AlertingRules() {
			if rule.Name() != t.Alertname {
				continue
			}
			for _, a := range rule.ActiveAlerts() {
				if a.State == rules.StateFiring {
					got = append(got, alertText(a.Labels, a.Annotations))
				}
			}
		}
	}
	slices.Sort(exp)
	slices.Sort(got)
	if !slices.Equal(exp, got) {
		s.failed(Failure{Line: t.Line, What: fmt.Sprintf("alert %s at %s", t.Alertname, since(t.EvalTime)), Exp: exp, Got: got})
	}
}

func alertText(l, annotations labels.Labels) string { return l.String() + " " + annotations.String() }

// sample is one sample of an expression's result.
type sample struct {
	labels    labels.Labels
	value     float64
	histogram string // in promqltest's notation; empty where it is a number
}

func (s sample) String() string {
	if s.histogram != "" {
		return s.labels.String() + " " + s.histogram
	}
	return s.labels.String() + " " + strconv.FormatFloat(s.value, 'g', -1, 64)
}

// testExprs judges the expressions, over all samples that were loaded.
func (s *scene) testExprs(ctx context.Context) {
	for _, t := range s.test.Exprs {
		failure := Failure{Line: t.Line, What: fmt.Sprintf("expr %s at %s", t.Expr, since(t.EvalTime))}
		got, err := s.samples(ctx, t)
		if err != nil {
			failure.Error = err.Error()
			s.failed(failure)
			continue
		}
		var exp []sample
		for _, e := range t.Samples {
			exp = append(exp, expected(e))
		}
		byLabels := func(a, b sample) int {
			return cmp.Or(labels.Compare(a.labels, b.labels), cmp.Compare(a.value, b.value))
		}
		slices.SortFunc(exp, byLabels)
		slices.SortFunc(got, byLabels)
		if !slices.EqualFunc(exp, got, s.alike) {
			failure.Exp, failure.Got = texts(exp), texts(got)
			s.failed(failure)
		}
	}
}

func texts(samples []sample) (all []string) {
	for _, s := range samples {
		all = append(all, s.String())
	}
	return all
}

// alike reports whether two samples are the same, or next to each other where
// the fixture compares in a fuzzy way.
func (s *scene) alike(a, b sample) bool {
	if !labels.Equal(a.labels, b.labels) || a.histogram != b.histogram {
		return false
	}
	fuzzy := s.fixture.FuzzyCompare && (math.Nextafter(a.value, math.Inf(1)) == b.value || math.Nextafter(a.value, math.Inf(-1)) == b.value)
	return a.histogram != "" || a.value == b.value || fuzzy || math.IsNaN(a.value) && math.IsNaN(b.value)
}

// expected is a sample of the fixture, which was checked when it was read.
func expected(e fixture.Sample) sample {
	l, err := fixture.Parser().ParseMetric(e.Labels)
	if err != nil {
		return sample{value: e.Value} // without labels
	}
	var h *histogram.FloatHistogram
	if _, values, err := fixture.Parser().ParseSeriesDesc("{} " + e.Histogram); err == nil && len(values) == 1 {
		h = values[0].Histogram
	}
	return sample{l, e.Value, promqltest.HistogramTestExpression(h)}
}

// samples evaluates an expression.
func (s *scene) samples(ctx context.Context, t fixture.ExprTest) ([]sample, error) {
	query, err := s.loader.QueryEngine().NewInstantQuery(ctx, s.loader.Queryable(), nil, t.Expr, s.test.Start.Add(t.EvalTime))
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	switch value := result.Value.(type) {
	case promql.Scalar:
		return []sample{{value: value.V}}, nil
	case promql.Vector:
		var all []sample
		for _, v := range value {
			all = append(all, sample{v.Metric.Copy(), v.F, promqltest.HistogramTestExpression(v.H)})
		}
		return all, nil
	default:
		return nil, fmt.Errorf("the result is a %s, want a vector or a scalar", value.Type())
	}
}
