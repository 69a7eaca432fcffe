package run

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/prometheus/util/junitxml"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/scaler"
)

// FileResult is what became of one fixture.
type FileResult struct {
	File     string       `json:"file"`
	Passed   bool         `json:"passed"`
	Tests    []TestResult `json:"tests"`
	Coverage []Coverage   `json:"coverage"`
}

// TestResult is what became of one of its tests.
type TestResult struct {
	Name     string    `json:"name"`
	Line     int       `json:"line"`
	Passed   bool      `json:"passed"`
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is one thing that was not as expected.
type Failure struct {
	Line  int      `json:"line"`
	What  string   `json:"what"` // was judged
	Error string   `json:"error,omitempty"`
	Exp   []string `json:"exp"`
	Got   []string `json:"got"`
	Why   []string `json:"why,omitempty"` // it is what was got, in words

	Decision *controller.Decision `json:"decision,omitempty"`
	Scaler   *scaler.Answer       `json:"scaler,omitempty"`

	inputs string // of the decision, in words
	paired bool   // the lines of Exp and Got belong together, one by one
}

// write tells a failure, each line indented.
func (f Failure) write(to io.Writer, asDiff bool) {
	fmt.Fprintf(to, "    line %d: %s\n", f.Line, f.What)
	switch {
	case f.Error != "":
		writeLines(to, "error: "+f.Error)
	case asDiff:
		text := func(lines []string) []byte { return []byte(strings.Join(append(lines, ""), "\n")) }
		// The first line is the command that would print the rest.
		_, unified, _ := strings.Cut(string(diff.Diff("exp", text(f.Exp), "got", text(f.Got))), "\n")
		writeLines(to, strings.TrimSuffix(unified, "\n"))
	case f.paired:
		for i, exp := range f.Exp {
			if exp != f.Got[i] {
				_, got, _ := strings.Cut(f.Got[i], ": ")
				field, exp, _ := strings.Cut(exp, ": ")
				writeLines(to, fmt.Sprintf("%s: exp %s, got %s", field, exp, got))
			}
		}
	default:
		writeLines(to, "exp: "+block(f.Exp))
		writeLines(to, "got: "+block(f.Got))
	}
	for _, why := range f.Why {
		writeLines(to, "why: "+why)
	}
	if f.inputs != "" {
		writeLines(to, "inputs: "+f.inputs)
	}
}

func block(lines []string) string {
	if len(lines) == 0 {
		return "nothing"
	}
	return strings.Join(lines, "\n     ")
}

func writeLines(to io.Writer, text string) {
	fmt.Fprintln(to, "      "+strings.ReplaceAll(text, "\n", "\n      "))
}

// write tells what became of a fixture.
func (r FileResult) write(out io.Writer, asDiff bool) error {
	to := &bytes.Buffer{}
	fmt.Fprintln(to, r.File)
	for _, t := range r.Tests {
		if t.Passed {
			fmt.Fprintf(to, "  ok    %s\n", t.Name)
			continue
		}
		fmt.Fprintf(to, "  FAIL  %s\n", t.Name)
		for _, f := range t.Failures {
			f.write(to, asDiff)
		}
	}
	for _, c := range r.Coverage {
		fmt.Fprintf(to, "  %s\n", c)
	}
	_, err := out.Write(to.Bytes())
	return err
}

// junit adds a fixture to a report for JUnit.
func (r FileResult) junit(to *junitxml.JUnitXML) {
	suite := to.Suite(r.File)
	for _, t := range r.Tests {
		c := suite.Case(t.Name)
		for _, f := range t.Failures {
			var text strings.Builder
			f.write(&text, false)
			c.Fail(strings.TrimSpace(text.String()))
		}
	}
}
