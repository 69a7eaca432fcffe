package backtest

import (
	"os"
	"strings"
	"testing"

	"github.com/headgate/headgate/promtest/simulate"
)

func TestTheDocumentationShowsWhatHappens(t *testing.T) {
	doc, err := os.ReadFile("../../docs/promtest.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(doc), "\n## Replaying the past\n")
	if !found {
		t.Fatal("the section is not there")
	}
	var shown []string // between fences without a language
	for i, part := range strings.Split(section, "```") {
		if text, ok := strings.CutPrefix(part, "\n"); ok && i%2 == 1 {
			shown = append(shown, text)
		}
	}
	asInTheRun(t)
	t.Setenv("HEADGATE_LEASE", "15s")
	marks := map[string]string{
		"HEADGATE_SOFT_ENTER": "20%", "HEADGATE_SOFT_EXIT": "10%", "HEADGATE_HARD_ENTER": "50%", "HEADGATE_HARD_EXIT": "40%",
	}
	for i, test := range []struct {
		command Command
		set     map[string]string
	}{
		{Command{}, nil},
		{Command{}, marks},
		{Command{Policy: "all"}, nil},
	} {
		t.Run(shown[i], func(t *testing.T) {
			for name, value := range test.set {
				t.Setenv(name, value)
			}
			test.command.Source, test.command.Floor = recordedFile, 1
			var out strings.Builder
			if err := test.command.Run(t.Context(), simulate.Streams{Out: &out, Err: t.Output()}); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(shown[i]) {
				if !strings.Contains(out.String(), line) {
					t.Errorf("the documentation shows %q, which is not in\n%s", line, out.String())
				}
			}
		})
	}
	fleet, err := os.ReadFile("../testdata/backtest.txtar")
	if err != nil || !strings.Contains(string(fleet), shown[3]) {
		t.Errorf("the replicas that the documentation shows are not those of the command line's test (%v)", err)
	}
}
