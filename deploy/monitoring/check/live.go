package check

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// Excuse says why a series has no data in a run on one machine that goes well.
type Excuse struct {
	Series *regexp.Regexp // of the whole name
	Reason string
}

// Excuses are those of the demo's loop.
func Excuses() []Excuse {
	return []Excuse{
		{regexp.MustCompile(`^kube_`), "kube-state-metrics' series: there is no Kubernetes"},
		{regexp.MustCompile(`^keda_`), "KEDA's series: its operator does not run"},
		{regexp.MustCompile(`^ALERTS$`), "no alert fires, nor are the rules loaded"},
		{regexp.MustCompile(`^pipeline_transform_`), "the job has no transform"},
		{regexp.MustCompile(`^pipeline_direct_sink_`), "the job has no sink without a write queue"},
	}
}

// unlabelled are the variables that may have no values, with the reason.
var unlabelled = map[string]string{"namespace": "only Kubernetes' scrapes set the label"}

// Live asks a server for every expression of a dashboard as Grafana would, over
// the time from start to end, and reports those without data, and excuses that
// were not needed. lines tells how many expressions had data, and why others had
// none.
func Live(ctx context.Context, server v1.API, boards []*Board, start, end time.Time) (lines []string, problems []error) {
	excuses := Excuses()
	needed := make([]bool, len(excuses))
	for _, b := range boards {
		values, errs := b.values(ctx, server, start, end)
		problems = append(problems, errs...)
		with := 0
		for _, q := range b.Queries() {
			found, err := q.hasData(ctx, server, Fill(q.Expr, values), start, end)
			i := slices.IndexFunc(excuses, func(e Excuse) bool { return e.covers(q.Expr) })
			switch {
			case err != nil:
				problems = append(problems, fmt.Errorf("%s: %s: %s: %w", q.Board, q.Panel, q.Expr, err))
			case found:
				with++
			case i >= 0:
				needed[i] = true
				lines = append(lines, fmt.Sprintf("%s: %s: no data: %s", q.Board, q.Panel, excuses[i].Reason))
			default:
				problems = append(problems, fmt.Errorf("%s: %s: no data: %s", q.Board, q.Panel, q.Expr))
			}
		}
		lines = append(lines, fmt.Sprintf("%s: %d of %d expressions have data", b.UID, with, len(b.Queries())))
	}
	for i, e := range excuses {
		if !needed[i] {
			problems = append(problems, fmt.Errorf("the excuse %q (%s) is not needed any more", e.Series, e.Reason))
		}
	}
	return lines, problems
}

var word = regexp.MustCompile(`[a-zA-Z_:][\w:]*`)

// covers reports whether an expression uses one of the excused series.
func (e Excuse) covers(expr string) bool {
	return slices.ContainsFunc(word.FindAllString(expr, -1), e.Series.MatchString)
}

// values are those of the variables, each narrowed by the ones before it.
func (b *Board) values(ctx context.Context, server v1.API, start, end time.Time) (map[string]string, []error) {
	length := fmt.Sprintf("%ds", int(end.Sub(start).Seconds()))
	values := map[string]string{"__rate_interval": "10s", "__interval": "5s", "__range": length}
	var errs []error
	for _, v := range b.whole.Templating.List {
		if v.Type != dashboard.VariableTypeQuery {
			continue
		}
		selector, label, _ := valuesOf(v)
		there, _, _, err := server.LabelValues(ctx, label, []string{Fill(selector, values)}, start, end)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: variable %s: %w", b.UID, v.Name, err))
		case len(there) == 0 && unlabelled[v.Name] == "":
			errs = append(errs, fmt.Errorf("%s: variable %s has no values: %s", b.UID, v.Name, selector))
		}
		values[v.Name] = ".*"
		if len(there) > 0 {
			var quoted []string
			for _, value := range there {
				quoted = append(quoted, regexp.QuoteMeta(string(value)))
			}
			values[v.Name] = "(" + strings.Join(quoted, "|") + ")"
		}
	}
	return values, errs
}

// hasData asks as Grafana would and reports whether there is a number.
func (q Query) hasData(ctx context.Context, server v1.API, expr string, start, end time.Time) (bool, error) {
	if q.instant {
		got, _, _, err := server.Query(ctx, expr, end)
		return err == nil && numbers(got) > 0, err
	}
	got, _, _, err := server.QueryRange(ctx, expr, v1.Range{Start: start, End: end, Step: time.Second})
	return err == nil && numbers(got) > 0, err
}

// numbers counts the values that are numbers.
func numbers(v model.Value) int {
	n := 0
	count := func(s model.SampleValue) {
		if !math.IsNaN(float64(s)) {
			n++
		}
	}
	switch v := v.(type) {
	case model.Vector:
		for _, s := range v {
			count(s.Value)
		}
	case model.Matrix:
		for _, series := range v {
			for _, s := range series.Values {
				count(s.Value)
			}
		}
	}
	return n
}
