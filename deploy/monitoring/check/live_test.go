package check_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/deploy/monitoring/check"
	"github.com/headgate/headgate/deploy/monitoring/rules"
	"github.com/headgate/headgate/internal/pages"
)

// server is a Prometheus that has a number for every expression but those that
// match one of its gaps.
type server struct {
	v1.API
	empty, nan *regexp.Regexp
	asked      []string
}

func (s *server) values(expr string) model.Vector {
	s.asked = append(s.asked, expr)
	switch {
	case s.empty.MatchString(expr):
		return nil
	case s.nan.MatchString(expr):
		return model.Vector{{Value: model.SampleValue(math.NaN())}}
	}
	return model.Vector{{Value: 1}}
}

func (s *server) Query(_ context.Context, expr string, _ time.Time, _ ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	return s.values(expr), nil, nil, nil
}

func (s *server) QueryRange(_ context.Context, expr string, _ v1.Range, _ ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	var m model.Matrix
	for _, v := range s.values(expr) {
		m = append(m, &model.SampleStream{Values: []model.SamplePair{{Value: v.Value}}})
	}
	return m, nil, nil, nil
}

func (s *server) LabelValues(_ context.Context, label string, matches []string, _, _ time.Time, _ ...v1.Option) (model.LabelValues, v1.Warnings, v1.Infos, error) {
	s.asked = append(s.asked, matches...)
	if label == "namespace" {
		return nil, nil, nil, nil
	}
	return model.LabelValues{"a.b", "c"}, nil, nil, nil
}

func boards(t *testing.T) []*check.Board {
	t.Helper()
	var all []*check.Board
	for _, data := range delivered(t) {
		b, err := check.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func TestExpressionsWithoutDataAreReportedUnlessExcused(t *testing.T) {
	const excused = `kube_|keda_|ALERTS|pipeline_transform_|pipeline_direct_sink_`
	never := regexp.MustCompile("^$")
	now := time.Now()
	tests := []struct {
		name       string
		empty, nan *regexp.Regexp
		want       []string // in the problems, each; none where empty
	}{
		{"all but the excused", regexp.MustCompile(excused), never, nil},
		{"one without data", regexp.MustCompile(excused + "|headgate_controller_targets"), never,
			[]string{`headgate-overview: panel "Targets controlled": no data`}},
		{"one with nothing but NaN", regexp.MustCompile(excused), regexp.MustCompile("coordinator_write_batch_items_bucket"),
			[]string{`headgate-pipeline: panel "Batch size": no data`}},
		{"an excuse that is not needed", regexp.MustCompile(`kube_|keda_|ALERTS|pipeline_transform_`), never,
			[]string{`"^pipeline_direct_sink_" (the job has no sink without a write queue) is not needed`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &server{empty: test.empty, nan: test.nan}
			_, problems := check.Live(t.Context(), s, boards(t), now.Add(-time.Minute), now)
			text := ""
			if err := errors.Join(problems...); err != nil {
				text = err.Error()
			}
			if len(test.want) == 0 && text != "" {
				t.Errorf("got %s, want no problem", text)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("got %s, want %s", text, want)
				}
			}
			for _, expr := range s.asked {
				if strings.Contains(expr, "$") {
					t.Errorf("a variable was left in %s", expr)
				}
			}
			if all := strings.Join(s.asked, "\n"); !strings.Contains(all, `target=~"(a\.b|c)"`) || !strings.Contains(all, `namespace=~".*"`) {
				t.Error("the variables were not filled with the values that there are")
			}
		})
	}
}

func TestRulesThatCannotBeTrueOnAGoodLoopAreReported(t *testing.T) {
	critical := map[string]string{"severity": "critical"}
	file := rules.File{Groups: []rules.Group{{Rules: []rules.Rule{
		{Record: "a:depth:max", Expr: "max(depth)"},
		{Record: "a:gone:max", Expr: "max(gone)"},
		{Alert: "Uses", Expr: "a:depth:max > 1", Labels: critical},
		{Alert: "Fires", Expr: "depth > 0", Labels: critical},
		{Alert: "Warns", Expr: "depth > 0", Labels: map[string]string{"severity": "warning"}},
		{Alert: "Quiet", Expr: "gone > 0", Labels: critical},
	}}}}
	s := &server{empty: regexp.MustCompile("gone"), nan: regexp.MustCompile("^$")}
	lines, problems := check.LiveRules(t.Context(), s, file, time.Now())
	got := errors.Join(problems...).Error()
	for _, want := range []string{"rule a:gone:max: no data", "rule Fires: its condition holds"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if len(problems) != 2 || len(lines) != 2 || !strings.HasPrefix(lines[0], "rule Warns") || lines[1] != "5 rules were evaluated" {
		t.Errorf("got %q and %d problems, want that Warns holds, of 5 rules, and 2 problems", lines, len(problems))
	}
}

func TestCommandsOfPagesRunAfterThoseThatSetTheStage(t *testing.T) {
	root := t.TempDir()
	page := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := pages.Session{Dir: t.TempDir(), Environ: []string{"PATH=" + os.Getenv("PATH"), "WHO=ann"}}
	page("README.md", "```sh\nfalse\n```\n")
	if _, problems := check.Commands(t.Context(), root, s); len(problems) != 1 {
		t.Errorf("pages without commands for a loop: %v", problems)
	}
	page("docs/runbooks/README.md", "```sh loop\nexport HELLO=hello WHO=${WHO:-nobody}\n```\n")
	page("docs/runbooks/good.md", "```sh loop\ntest \"$WHO\" = ann && echo \"$HELLO $WHO\"\n```\n\n```sh cluster\nfalse\n```\n\n```promql\nup\n```\n")
	page("docs/good.md", "```sh loop\necho \"${HELLO:-no stage}\" > said\n```\n\n```sh loop\ngrep 'no stage' said\n```\n")
	if lines, problems := check.Commands(t.Context(), root, s); len(problems) > 0 || lines[0] != "4 blocks of commands of 3 pages ran" {
		t.Errorf("good pages: %v, %v", lines, problems)
	}
	page("docs/silent.md", "```sh loop\ntrue\n```\n")
	page("docs/wrong.md", "```sh loop\necho '[]' | grep provider\n```\n")
	_, problems := check.Commands(t.Context(), root, s)
	if len(problems) != 2 || !strings.Contains(errors.Join(problems...).Error(), "docs/wrong.md:1") {
		t.Errorf("got %v, want that silent.md says nothing and wrong.md fails", problems)
	}
	if _, problems := check.Commands(t.Context(), t.TempDir(), s); len(problems) == 0 {
		t.Error("an empty folder passed")
	}
}
