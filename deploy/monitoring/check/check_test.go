package check_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/headgate/headgate/deploy/monitoring/check"
	"github.com/headgate/headgate/deploy/monitoring/rules"
)

const root = "../../.."

// filesVariable holds a sum of the files outside of this module. Go's cache of
// test results does not see them, but it does see what variables are read.
const filesVariable = "HEADGATE_TEST_FILES"

func file(t *testing.T, path string) []byte {
	t.Helper()
	os.Getenv(filesVariable)
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func ruleFile(t *testing.T) rules.File {
	t.Helper()
	f, err := rules.Parse(file(t, "deploy/prometheus/headgate.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// delivered are the dashboards that ship, by name.
func delivered(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		name := filepath.Base(path)
		all[strings.TrimSuffix(name, ".json")] = file(t, "deploy/grafana/dashboards/"+name)
	}
	return all
}

func site(t *testing.T) check.Site {
	t.Helper()
	f := ruleFile(t)
	s := check.Site{Names: check.Known(f.Recorded()...), Boards: slices.Sorted(maps.Keys(delivered(t)))}
	for _, r := range f.Alerts() {
		s.Alerts = append(s.Alerts, r.Alert)
	}
	return s
}

func problems(t *testing.T, s check.Site, data []byte) error {
	t.Helper()
	b, err := check.Decode(data)
	if err != nil {
		return err
	}
	return errors.Join(s.Problems(b)...)
}

func TestTheDashboardsAreWithoutFault(t *testing.T) {
	s := site(t)
	all := delivered(t)
	if len(all) != 4 {
		t.Errorf("%d dashboards, want 4", len(all))
	}
	for name, data := range all {
		if err := problems(t, s, data); err != nil {
			t.Errorf("%s:\n%v", name, err)
		}
		if b, err := check.Decode(data); err == nil && b.UID != name {
			t.Errorf("%s has the uid %q", name, b.UID)
		}
	}
}

func TestBrokenDashboardsAreFound(t *testing.T) {
	s := site(t)
	good := string(delivered(t)["headgate-overview"])
	tests := []struct {
		name, old, new string
		want           string
	}{
		{"a misspelt metric", "max(headgate_controller_level{", "max(headgate_controler_level{", `nobody exports "headgate_controler_level"`},
		{"a metric without its suffix", "rate(coordinator_items_written_total{", "rate(coordinator_items_written{", `nobody exports "coordinator_items_written", but "coordinator_items_written_total"`},
		{"a misspelt label in a matcher", `provider=~\"$provider\"})`, `providr=~\"$provider\"})`, `has no label "providr"`},
		{"a misspelt label in a grouping", "sum by (namespace, coordinator_id) (rate(", "sum by (namespace, coordinator) (rate(", `has the label "coordinator"`},
		{"a misspelt label in a legend", `"{{scaled_object}} wanted"`, `"{{scaledobject}} wanted"`, `has no label "scaledobject"`},
		{"an expression that cannot be parsed", "min(rate_coordinator_scale_factor{", "min(rate_coordinator_scale_factor{{", "parse"},
		{"a wrong unit field", `"unit": "s"`, `"units": "s"`, "units"},
		{"an unknown unit", `"unit": "percentunit"`, `"unit": "percents"`, `unit "percents" is none`},
		{"a unit that is not the metric's", `"unit": "s"`, `"unit": "short"`, "is in seconds"},
		{"seconds for what is none", `"unit": "percentunit"`, `"unit": "s"`, "unit is seconds"},
		{"overlapping panels", `"x": 4,`, `"x": 3,`, "lies on top of"},
		{"a panel off the grid", `"x": 20,`, `"x": 21,`, "outside of the grid"},
		{"an id that is there twice", `"id": 2,`, `"id": 1,`, "id 1 is 0 or that of"},
		{"a panel without a description", `"description": "Age of the oldest signal`, `"descriptionn": "Age`, "descriptionn"},
		{"an empty description", `"description": "Accepted items that were dropped within the time shown. They are in neither the store nor the dead letters."`, `"description": ""`, "has no description"},
		{"a fixed data source", `"uid": "${datasource}"`, `"uid": "prometheus"`, "data source is not"},
		{"a variable that is not defined", `namespace=~\"$namespace\"`, `namespace=~\"$ns\"`, "$ns is used and not defined"},
		{"a variable of an unknown series", "label_values(headgate_controller_observed{", "label_values(headgate_observed{", "nobody exports"},
		{"an option that the panel does not have", `"showValue": "auto"`, `"showValues": "auto"`, "showValues"},
		{"an annotation with an unknown field", `"titleFormat"`, `"title"`, "decode the annotations"},
		{"a link to a runbook that is not there", "runbooks/HeadgateHardPressure.md", "runbooks/HeadgatePressure.md", `no runbook "HeadgatePressure"`},
		{"a link to a dashboard that is not there", "/d/headgate-target", "/d/headgate-one", `no dashboard "headgate-one"`},
		{"an old schema", `"schemaVersion": 41`, `"schemaVersion": 16`, "schemaVersion 16"},
		{"no JSON", "{", "(", "decode"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatalf("the dashboard has no %s to break", test.old)
			}
			err := problems(t, s, []byte(strings.Replace(good, test.old, test.new, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
