package rules_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/deploy/monitoring/rules"
)

const (
	folder   = "../../prometheus"
	file     = "headgate.rules.yaml"
	runbooks = "../../../docs/runbooks"
	pages    = "https://github.com/headgate/headgate/blob/main/docs/runbooks/"
)

// filesVariable holds a sum of the files outside of this module. Go's cache of
// test results does not see them, but it does see what variables are read.
const filesVariable = "HEADGATE_TEST_FILES"

func source(t *testing.T) []byte {
	t.Helper()
	os.Getenv(filesVariable)
	data, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t *testing.T) rules.File {
	t.Helper()
	f, err := rules.Parse(source(t))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEveryAlertSaysHowBadItIsAndWhatToRead(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range parse(t).Alerts() {
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		if !strings.HasPrefix(r.Alert, "Headgate") {
			t.Errorf("%s does not begin with Headgate", r.Alert)
		}
		if s := r.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("%s has the severity %q, want critical, warning or info", r.Alert, s)
		}
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if got, want := r.Annotations["runbook_url"], pages+r.Alert+".md"; got != want {
			t.Errorf("%s has the runbook_url %q, want %q", r.Alert, got, want)
		}
	}
}

func TestTheObjectHoldsTheSameRulesAsTheFile(t *testing.T) {
	object, err := rules.PrometheusRule(source(t))
	if err != nil {
		t.Fatal(err)
	}
	var got monitoring.PrometheusRule
	if err := yaml.UnmarshalStrict(object, &got); err != nil {
		t.Fatalf("prometheus-operator does not take it: %v", err)
	}
	if got.Kind != "PrometheusRule" || got.APIVersion != monitoring.SchemeGroupVersion.String() || got.Name == "" {
		t.Errorf("got %s %s %q, want a PrometheusRule with a name", got.APIVersion, got.Kind, got.Name)
	}
	var flat rules.File
	for _, g := range got.Spec.Groups {
		group := rules.Group{Name: g.Name}
		for _, r := range g.Rules {
			one := rules.Rule{Record: r.Record, Alert: r.Alert, Expr: r.Expr.String(), Labels: r.Labels, Annotations: r.Annotations}
			if r.For != nil {
				one.For = string(*r.For)
			}
			group.Rules = append(group.Rules, one)
		}
		flat.Groups = append(flat.Groups, group)
	}
	if diff := cmp.Diff(parse(t), flat); diff != "" {
		t.Errorf("the object differs from the file (-file +object):\n%s", diff)
	}
}

func TestAFileThatIsNoRuleFileIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a misspelt key":  "\ngroups:\n  - name: a\n    rules:\n      - {alert: A, exprs: up}\n",
		"no groups":       "# nothing\n",
		"groups in a row": "groups: []\n",
	} {
		if _, err := rules.PrometheusRule([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
