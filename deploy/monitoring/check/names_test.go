package check_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/headgate/headgate/deploy/monitoring/check"
	"github.com/headgate/headgate/settings"
)

func TestExpressionsOfKnownSeriesPassAndOthersDoNot(t *testing.T) {
	names := check.Names{
		"depth":            {"coordinator_id"},
		"seen":             {"target", "coordinator_id"},
		"waits_bucket":     {"le", "coordinator_id"},
		"recorded:by:rule": {"*"},
	}
	for expr, want := range map[string]string{
		`depth{coordinator_id="a", namespace="b"}`:                      "",
		`sum by (coordinator_id) (depth)`:                               "",
		`histogram_quantile(0.9, sum by (le) (rate(waits_bucket[1m])))`: "",
		`seen * on (coordinator_id) group_left () depth`:                "",
		`recorded:by:rule{anything="x"}`:                                "",
		`max by (instance) (depth)`:                                     "",
		`depht`:                                                         `nobody exports "depht"`,
		`depth{target="x"}`:                                             `depth has no label "target"`,
		`sum by (target) (depth)`:                                       `has the label "target"`,
		`depth * on (provider) depth`:                                   `has the label "provider"`,
		`seen * on (coordinator_id) group_left (colour) depth`:          `has the label "colour"`,
		`{__name__=~"depth|seen"}`:                                      `nobody exports ""`,
		`depth[`:                                                        "parse",
		`sum by (coordinator_id) (nothing) or depth{x="1"} or vector(1) or depth{coordinator_id=~".*"}`: `nobody exports "nothing"`,
	} {
		err := names.Expression(expr)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", expr, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %q", expr, err, want)
		}
	}
}

func TestTheRulesUseSeriesThatThereAre(t *testing.T) {
	f := ruleFile(t)
	names := check.Known(f.Recorded()...)
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if err := names.Expression(r.Expr); err != nil {
				t.Errorf("%s%s: %v", r.Alert, r.Record, err)
			}
		}
	}
}

var (
	promql   = regexp.MustCompile("(?s)```promql\n(.*?)\n```")
	variable = regexp.MustCompile(`\b(HEADGATE|MDP_FB)_[A-Z_]+\b`)
)

// TestTheRunbooksUseSeriesAndSettingsThatThereAre keeps pages that somebody
// reads in a hurry from leading astray.
func TestTheRunbooksUseSeriesAndSettingsThatThereAre(t *testing.T) {
	f := ruleFile(t)
	names := check.Known(f.Recorded()...)
	known := map[string]bool{}
	for _, v := range settings.All() {
		known[v.Name] = true
	}
	queries := 0
	for _, r := range f.Alerts() {
		text := string(file(t, "docs/runbooks/"+r.Alert+".md"))
		for _, m := range promql.FindAllStringSubmatch(text, -1) {
			queries++
			if err := names.Expression(m[1]); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
		for _, name := range variable.FindAllString(text, -1) {
			if !known[name] {
				t.Errorf("%s: there is no setting %s", r.Alert, name)
			}
		}
	}
	if queries < 16 {
		t.Errorf("%d queries were found in the pages, want one in each at least", queries)
	}
}
