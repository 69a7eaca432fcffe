package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/promtest/simulate"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// execute runs the command on fixtures and returns what it wrote.
func execute(t *testing.T, c Command) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := c.Run(t.Context(), simulate.Streams{Out: &out, Err: &out})
	return out.String(), err
}

func TestEveryFixturePasses(t *testing.T) {
	files, err := filepath.Glob("../testdata/run/*.yml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if out, err := execute(t, Command{Files: []string{file}}); err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

func TestThePolicysFixturesCrossEveryThreshold(t *testing.T) {
	for _, policy := range []string{"step", "linear", "exponential", "pid", "drain", "hysteresis"} {
		out, err := execute(t, Command{Files: []string{"../testdata/run/" + policy + ".yml"}})
		if err != nil || !strings.Contains(out, "coverage of target bars: all thresholds and transitions\n") {
			t.Errorf("%s: %v\n%s", policy, err, out)
		}
	}
}

func TestTestsWrittenForPromtoolPass(t *testing.T) {
	const dir = "../../deploy/prometheus/test/"
	out, err := execute(t, Command{Files: []string{dir + "HeadgateFlapping.yaml", dir + "HeadgateQueueFull.yaml"}})
	if err != nil || strings.Count(out, "  ok  ") != 5 {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestAFailureTellsWhatWasExpectedWhatWasGotAndWhy(t *testing.T) {
	const dir = "../testdata/run/failing/"
	for golden, c := range map[string]Command{
		"failing.txt":      {},
		"failing.diff.txt": {Diff: true},
	} {
		t.Run(golden, func(t *testing.T) {
			c.Files = []string{dir + "failing.yml"}
			got, err := execute(t, c)
			if !errors.Is(err, ErrFailed) || err.Error() != "3 of 3 tests failed" {
				t.Errorf("got the error %v", err)
			}
			if *update {
				if err := os.WriteFile(dir+golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(dir + golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("it differs from %s; -update writes it anew:\n%s", golden, diff)
			}
		})
	}
}

func TestAsJSONAFileIsOneLine(t *testing.T) {
	out, err := execute(t, Command{Files: []string{"../testdata/run/failing/failing.yml", "../testdata/run/step.yml"}, JSON: true})
	if !errors.Is(err, ErrFailed) {
		t.Errorf("got the error %v", err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one of each file", len(lines))
	}
	var failing, step FileResult
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &failing), json.Unmarshal([]byte(lines[1]), &step)); err != nil {
		t.Fatal(err)
	}
	if failing.Passed || !step.Passed || len(step.Tests) != 1 || len(step.Coverage) != 1 || !step.Coverage[0].Asked {
		t.Errorf("got %+v and %+v", failing, step)
	}
	first := failing.Tests[0].Failures[1]
	if first.Decision == nil || first.Decision.Level == nil {
		t.Fatalf("the decision is %+v", first.Decision)
	}
	want := Failure{
		Line: 30, What: "target bars, provider ibkr at 5s",
		Exp: []string{"exp_level: soft", "exp_scale: 1"}, Got: []string{"exp_level: soft", "exp_scale: 0.5"},
		Why: []string{first.Decision.Explanation},
	}
	if diff := cmp.Diff(want, first, cmpopts.IgnoreUnexported(Failure{}), cmpopts.IgnoreFields(Failure{}, "Decision")); diff != "" {
		t.Error(diff)
	}
	if got := failing.Tests[1].Failures[1].Scaler; got == nil || got.Value == nil || *got.Value != 2 {
		t.Errorf("the scaler's answer is %+v, want a value of 2", got)
	}
}

func TestTheSameFixtureGivesTheSameResult(t *testing.T) {
	c := Command{Files: []string{"../testdata/run/failing/failing.yml", "../testdata/run/guards.yml"}, JSON: true}
	first, _ := execute(t, c)
	if second, _ := execute(t, c); first != second {
		t.Error(cmp.Diff(first, second))
	}
}
