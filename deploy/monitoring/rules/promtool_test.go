package rules_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// promtoolVariable names the environment variable that holds the path of
// promtool. Older ones than 3.0 do not know --lint=all.
const promtoolVariable = "HEADGATE_TEST_PROMTOOL"

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path := os.Getenv(promtoolVariable)
	if path == "" {
		t.Skipf(`%s is not set: "make test" sets it to what "tools/setup promtool" prints`, promtoolVariable)
	}
	command := exec.Command(path, args...)
	command.Dir = folder
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtoolFindsNothingToSay(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", file)
}

func TestEveryAlertFiresAndDoesNotFireAsItsUnitTestSays(t *testing.T) {
	for _, r := range parse(t).Alerts() {
		t.Run(r.Alert, func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", unitTest(r.Alert))
		})
	}
}

// TestEveryAlertHasAUnitTest finds alerts whose unit test is missing or never
// lets them fire, or never lets them not fire.
func TestEveryAlertHasAUnitTest(t *testing.T) {
	var want []string
	for _, r := range parse(t).Alerts() {
		want = append(want, unitTest(r.Alert))
		fires, quiet := expectations(t, r.Alert)
		if fires == 0 || quiet == 0 {
			t.Errorf("%s is expected to fire %d times and not to fire %d times, want both", r.Alert, fires, quiet)
		}
	}
	got, err := filepath.Glob(filepath.Join(folder, "test", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = filepath.Join("test", filepath.Base(got[i]))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of unit tests (-want +got):\n%s", diff)
	}
}

func unitTest(alert string) string { return filepath.Join("test", alert+".yaml") }

// expectations counts how often the unit test lets the alert fire, and not.
func expectations(t *testing.T, alert string) (fires, quiet int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, unitTest(alert)))
	if err != nil {
		t.Fatal(err)
	}
	var unit struct {
		Files []string `yaml:"rule_files"`
		Tests []struct {
			Alerts []struct {
				Name   string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(data, &unit); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"../" + file}, unit.Files); diff != "" {
		t.Errorf("%s tests other rules (-want +got):\n%s", unitTest(alert), diff)
	}
	for _, test := range unit.Tests {
		for _, a := range test.Alerts {
			switch {
			case a.Name != alert:
				t.Errorf("%s tests %s too", unitTest(alert), a.Name)
			case len(a.Expect) > 0:
				fires++
			default:
				quiet++
			}
		}
	}
	return fires, quiet
}
