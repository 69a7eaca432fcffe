package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/prometheus/util/junitxml"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/promtest/fixture"
	"github.com/headgate/headgate/promtest/simulate"
)

// Command is `promtest run`. Its fields are the flags.
type Command struct {
	Files []string `arg:"" name:"file" help:"fixtures: promtool's unit-test files, with settings, targets and decision_tests"`

	Only  []string `name:"run" help:"run only the tests whose name matches this regular expression; may be given several times" placeholder:"REGEX" sep:"none"`
	JUnit string   `name:"junit" help:"write the results to this file, as JUnit has them" placeholder:"FILE"`
	Diff  bool     `help:"show what was expected and what was got as a unified diff"`
	JSON  bool     `name:"json" help:"one JSON object a line, for each file"`
}

// Help is shown below the flags' list.
func (Command) Help() string {
	return `Runs the tests of each file at the times that they say, on the real PromQL
engine, and shows what was not as expected. Rules and alerts are tested as
promtool does. The decisions are those of the controller's and the scaler's own
code with the settings of the file; the environment counts for nothing.

  settings:
    HEADGATE_COORDINATOR_IDS: bars
    HEADGATE_SOFT_ENTER: 60%
  tests:
    - interval: 5s
      input_series:
        - series: coordinator_queue_depth{coordinator_id="bars"}
          values: 0+50x20
        - series: coordinator_queue_capacity{coordinator_id="bars"}
          values: 1000x20
      decision_tests:
        - eval_time: 1m10s
          exp_level: soft
          exp_scale: 0.5

docs/promtest.md tells all that a file may say. The status is 0 where all tests
pass, 1 where one fails, and 2 where a file is wrong; then nothing is run.`
}

// ErrFailed says that tests failed.
var ErrFailed = errors.New("tests failed")

// Run runs the command. Where tests fail the error is ErrFailed; what is wrong
// with the files it joins as *invalid.Value.
func (c Command) Run(ctx context.Context, to simulate.Streams) error {
	wanted, err := c.pattern()
	if err != nil {
		return err
	}
	report := &junitxml.JUnitXML{}
	fixtures, err := c.read(ctx, report)
	if err == nil {
		err = c.runAll(ctx, fixtures, wanted, report, to.Out)
	}
	if c.JUnit != "" {
		err = errors.Join(err, writeJUnit(c.JUnit, report))
	}
	return err
}

// pattern is the names of the tests to run, nil for all.
func (c Command) pattern() (*regexp.Regexp, error) {
	if len(c.Only) == 0 {
		return nil, nil
	}
	pattern, err := regexp.Compile(strings.Join(c.Only, "|"))
	if err != nil {
		return nil, invalid.New("--run", strings.Join(c.Only, "|"), "a regular expression: "+err.Error())
	}
	return pattern, nil
}

// read reads all files. What is wrong with any of them is told at once.
func (c Command) read(ctx context.Context, report *junitxml.JUnitXML) ([]fixture.Fixture, error) {
	var fixtures []fixture.Fixture
	var errs []error
	for _, file := range c.Files {
		f, err := fixture.Read(ctx, file)
		if err != nil {
			report.Suite(file).Abort(err)
			errs = append(errs, err)
		}
		fixtures = append(fixtures, f)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("the files are wrong:\n%w", errors.Join(errs...))
	}
	return fixtures, nil
}

func (c Command) runAll(ctx context.Context, fixtures []fixture.Fixture, wanted *regexp.Regexp, report *junitxml.JUnitXML, stdout io.Writer) error {
	ran, failed := 0, 0
	lines := json.NewEncoder(stdout)
	for i := range fixtures {
		result, err := runFile(ctx, &fixtures[i], wanted)
		if err != nil {
			report.Suite(result.File).Abort(err)
			return err
		}
		result.junit(report)
		if c.JSON {
			err = lines.Encode(result)
		} else {
			err = result.write(stdout, c.Diff)
		}
		if err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
		for _, t := range result.Tests {
			ran++
			if !t.Passed {
				failed++
			}
		}
	}
	if ran == 0 && wanted != nil {
		return invalid.New("--run", wanted.String(), "the name of a test in one of the files")
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d %w", failed, ran, ErrFailed)
	}
	return nil
}

// runFile runs the tests of a fixture whose names are wanted.
func runFile(ctx context.Context, f *fixture.Fixture, wanted *regexp.Regexp) (FileResult, error) {
	result := FileResult{File: f.File, Passed: true, Tests: []TestResult{}}
	seen := newCoverage(f)
	for i := range f.Tests {
		if wanted != nil && !wanted.MatchString(f.Tests[i].Name) {
			continue
		}
		seen.begin()
		t, err := play(ctx, f, &f.Tests[i], seen)
		if err != nil {
			return result, err
		}
		result.Passed = result.Passed && t.Passed
		result.Tests = append(result.Tests, t)
	}
	result.Coverage = seen.report()
	return result, nil
}

func writeJUnit(file string, report *junitxml.JUnitXML) error {
	for _, suite := range report.Suites {
		suite.Settime(time.Now().UTC().Format("2006-01-02T15:04:05"))
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteXML(out), out.Close())
}
