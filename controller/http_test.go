package controller

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/metrics"
)

// ask asks the handler and decodes its JSON.
func ask(t *testing.T, h http.Handler, path string, into any) int {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v in %s", path, err, w.Body)
		}
	}
	return w.Code
}

type answer struct {
	Decisions []map[string]any
	Targets   []map[string]any
	Error     string
	Fields    []struct{ Field, Got, Want string }
}

func TestDecisionsAreServedNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		cfg := config()
		cfg.Decisions = 5
		c, stop := start(t, cfg, p, nil, target(t, "one", newGate()), target(t, "two", newGate()))
		defer stop()
		h := c.Handler(prom.NewRegistry(), access.Everyone())
		var got answer
		if code := ask(t, h, "/v1/decisions?target=one", &got); code != http.StatusOK || got.Decisions == nil {
			t.Errorf("before the first decision: %d, %+v; want 200 and an empty list", code, got)
		}
		pass(10 * interval)
		p.set(func(p *fakePrometheus) { p.depth["bars"] = 900 })
		pass(interval)

		got = answer{}
		ask(t, h, "/v1/decisions?target=one&limit=3", &got)
		var levels []any
		for _, d := range got.Decisions {
			levels = append(levels, d["level"])
		}
		if diff := cmp.Diff([]any{"hard", "ok", "ok"}, levels); diff != "" {
			t.Errorf("levels (-want +got):\n%s", diff)
		}
		got = answer{}
		ask(t, h, "/v1/decisions?target=one", &got)
		if len(got.Decisions) != 5 {
			t.Errorf("%d decisions are kept, want 5", len(got.Decisions))
		}
		got = answer{}
		ask(t, h, "/v1/decisions?limit=4", &got)
		var targets []any
		for _, d := range got.Decisions {
			targets = append(targets, d["target"])
		}
		if diff := cmp.Diff([]any{"one", "two", "one", "two"}, targets); diff != "" {
			t.Errorf("targets (-want +got):\n%s", diff)
		}
	})
}

func TestDecisionHasStableFieldNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := start(t, config(), newPrometheus(), nil, target(t, "bars", newGate()))
		defer stop()
		pass(time.Second)
		var got answer
		ask(t, c.Handler(prom.NewRegistry(), access.Everyone()), "/v1/decisions", &got)
		delete(got.Decisions[0], "at")
		delete(got.Decisions[0], "level_since")
		want := map[string]any{
			"target": "bars", "provider": "ibkr", "changed": true, "reason": "law",
			"coordinator_id": "bars", "dead_time_seconds": nil, "headroom_items": nil, "depth": 100.0, "capacity": 1000.0, "reported_level": "ok",
			"soft_enter": 500.0, "soft_exit": 400.0, "hard_enter": 800.0, "hard_exit": 700.0,
			"arrivals_per_second": nil, "drain_per_second": nil, "age_seconds": 0.0,
			"level": "ok", "law": "step", "law_reason": "level", "law_scale": 1.0,
			"terms": []any{map[string]any{"name": "level_scale", "value": 1.0}},
			"scale": 1.0, "outcome": "applied", "scale_in_force": 1.0, "base_per_second": 100.0, "effective_per_second": 100.0,
			"explanation": "OK since " + time.Now().Add(-time.Second).UTC().Format(time.TimeOnly) +
				": depth 100 of 1,000 not above 500; the step law gives OK a scale of 1; applied and read back",
		}
		if diff := cmp.Diff(want, got.Decisions[0]); diff != "" {
			t.Errorf("decision (-want +got):\n%s", diff)
		}
	})
}

func TestBadParametersAreNamed(t *testing.T) {
	c, err := New(config(), newPrometheus(), []Target{target(t, "bars", newGate())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := c.Handler(prom.NewRegistry(), access.Everyone())
	tests := []struct {
		name, path string
		fields     []string
	}{
		{"a limit that is no number", "/v1/decisions?limit=many", []string{"limit"}},
		{"a limit of none", "/v1/decisions?limit=0", []string{"limit"}},
		{"a negative limit", "/v1/decisions?limit=-1", []string{"limit"}},
		{"a limit beyond what is kept", "/v1/decisions?limit=101", []string{"limit"}},
		{"two limits", "/v1/decisions?limit=1&limit=2", []string{"limit"}},
		{"an unknown target", "/v1/decisions?target=ticks", []string{"target"}},
		{"an unknown parameter", "/v1/decisions?since=1", []string{"since"}},
		{"several at once", "/v1/decisions?since=1&limit=x&target=y", []string{"since", "limit", "target"}},
		{"a parameter where there is none", "/v1/targets?limit=1", []string{"limit"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got answer
			if code := ask(t, h, test.path, &got); code != http.StatusBadRequest {
				t.Errorf("status is %d, want 400", code)
			}
			var fields []string
			for _, f := range got.Fields {
				fields = append(fields, f.Field)
			}
			if diff := cmp.Diff(test.fields, fields); diff != "" || got.Error == "" {
				t.Errorf("error %q, fields (-want +got):\n%s", got.Error, diff)
			}
		})
	}
}

func TestTargetsAreServedWithTheirState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		p.depth["bars"] = 600
		c, stop := start(t, config(), p, nil, target(t, "on", newGate()),
			target(t, "dry", newGate(), func(t *Target) { t.DryRun = true }),
			target(t, "off", newGate(), func(t *Target) { t.Disabled = true }))
		defer stop()
		pass(time.Second)
		var got answer
		ask(t, c.Handler(prom.NewRegistry(), access.Everyone()), "/v1/targets", &got)
		var rows [][]any
		for _, v := range got.Targets {
			rows = append(rows, []any{v["target"], v["state"], v["level"], v["soft_enter"], v["fail_mode"]})
		}
		want := [][]any{
			{"on", "controlled", "soft", "50%", "safe"},
			{"dry", "dry_run", "soft", "50%", "safe"},
			{"off", "disabled", nil, "50%", "safe"},
		}
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Errorf("targets (-want +got):\n%s", diff)
		}
	})
}

func TestReadyAfterTheFirstSnapshotAndHealthyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		p.err = errDown
		c, stop := start(t, config(), p, nil, target(t, "bars", newGate()))
		defer stop()
		h := c.Handler(prom.NewRegistry(), access.Everyone())
		pass(time.Second)
		got := []int{ask(t, h, "/-/healthy", nil), ask(t, h, "/-/ready", nil)}
		p.set(func(p *fakePrometheus) { p.err = nil })
		pass(30 * time.Second)
		got = append(got, ask(t, h, "/-/ready", nil))
		p.set(func(p *fakePrometheus) { p.err = errDown })
		pass(time.Hour)
		got = append(got, ask(t, h, "/-/healthy", nil), ask(t, h, "/-/ready", nil))
		if diff := cmp.Diff([]int{200, 503, 200, 200, 200}, got); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
	})
}

func TestMetricsAreThoseOfTheCatalogAndClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		p.depth["bars"], p.rate = 600, metrics.Rate{PerSecond: 60, Known: true}
		bad := newGate()
		bad.err = errDown
		c, stop := start(t, config(), p, nil, target(t, "bars", newGate(), func(t *Target) { t.Providers[0].DeadTime = time.Second }), target(t, "bad", bad),
			target(t, "off", newGate(), func(t *Target) { t.Disabled = true }))
		defer stop()
		registry := prom.NewPedanticRegistry()
		registry.MustRegister(c)
		pass(interval + time.Second)
		p.set(func(p *fakePrometheus) { p.err = errDown })
		pass(interval)

		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("problems: %v, %v", problems, err)
		}
		want := `
# HELP headgate_controller_apply_errors_total Scales that could not be applied, by reason.
# TYPE headgate_controller_apply_errors_total counter
headgate_controller_apply_errors_total{provider="ibkr",reason="busy",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="busy",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="refused",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="refused",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="server_error",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="server_error",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="stale_sequence",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="stale_sequence",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="timeout",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="timeout",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="unknown_provider",target="bad"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="unknown_provider",target="bars"} 0
headgate_controller_apply_errors_total{provider="ibkr",reason="unreachable",target="bad"} 3
headgate_controller_apply_errors_total{provider="ibkr",reason="unreachable",target="bars"} 0
# HELP headgate_controller_decisions_total Decisions made, by reason.
# TYPE headgate_controller_decisions_total counter
headgate_controller_decisions_total{reason="fail_mode",target="bad"} 0
headgate_controller_decisions_total{reason="fail_mode",target="bars"} 0
headgate_controller_decisions_total{reason="hold",target="bad"} 1
headgate_controller_decisions_total{reason="hold",target="bars"} 1
headgate_controller_decisions_total{reason="law",target="bad"} 2
headgate_controller_decisions_total{reason="law",target="bars"} 2
headgate_controller_decisions_total{reason="waiting",target="bad"} 0
headgate_controller_decisions_total{reason="waiting",target="bars"} 0
# HELP headgate_controller_headroom_items Items that the queue has room for at the worst, at the measured dead time and the least drain of the last hour; below 0 it may overflow.
# TYPE headgate_controller_headroom_items gauge
headgate_controller_headroom_items{provider="ibkr",target="bars"} 460
# HELP headgate_controller_level Level of the target: 0 is OK, 1 is SOFT, 2 is HARD; the last one known where its signals are gone.
# TYPE headgate_controller_level gauge
headgate_controller_level{target="bad"} 1
headgate_controller_level{target="bars"} 1
# HELP headgate_controller_observed 1 for each coordinator that a target observes.
# TYPE headgate_controller_observed gauge
headgate_controller_observed{coordinator_id="bars",target="bad"} 1
headgate_controller_observed{coordinator_id="bars",target="bars"} 1
headgate_controller_observed{coordinator_id="bars",target="off"} 0
# HELP headgate_controller_queries_total Queries sent to Prometheus.
# TYPE headgate_controller_queries_total counter
headgate_controller_queries_total 3
# HELP headgate_controller_query_errors_total Queries to Prometheus that gave no snapshot.
# TYPE headgate_controller_query_errors_total counter
headgate_controller_query_errors_total 1
# HELP headgate_controller_scale_asked Scale that the coordinator was last asked to put in force, from 0 to 1; absent at standby and in a dry run.
# TYPE headgate_controller_scale_asked gauge
headgate_controller_scale_asked{provider="ibkr",target="bad"} 0.5
headgate_controller_scale_asked{provider="ibkr",target="bars"} 0.5
# HELP headgate_controller_scale_in_force Scale that the coordinator last answered to be in force, from 0 to 1.
# TYPE headgate_controller_scale_in_force gauge
headgate_controller_scale_in_force{provider="ibkr",target="bars"} 0.5
# HELP headgate_controller_scale_wanted Scale that the last decision wants, from 0 to 1.
# TYPE headgate_controller_scale_wanted gauge
headgate_controller_scale_wanted{provider="ibkr",target="bad"} 0.5
headgate_controller_scale_wanted{provider="ibkr",target="bars"} 0.5
# HELP headgate_controller_signal_age_seconds Age of the oldest depth that the last decision was made of.
# TYPE headgate_controller_signal_age_seconds gauge
headgate_controller_signal_age_seconds{target="bad"} 5
headgate_controller_signal_age_seconds{target="bars"} 5
# HELP headgate_controller_standby 1 while another controller holds the provider's lease, else 0.
# TYPE headgate_controller_standby gauge
headgate_controller_standby{provider="ibkr",target="bad"} 0
headgate_controller_standby{provider="ibkr",target="bars"} 0
# HELP headgate_controller_targets Targets by state: controlled, dry_run or disabled.
# TYPE headgate_controller_targets gauge
headgate_controller_targets{state="controlled"} 2
headgate_controller_targets{state="disabled"} 1
headgate_controller_targets{state="dry_run"} 0
# HELP headgate_controller_threshold_items Depth at which a level of the target begins or ends, at the capacity last seen.
# TYPE headgate_controller_threshold_items gauge
headgate_controller_threshold_items{target="bad",threshold="hard_enter"} 800
headgate_controller_threshold_items{target="bad",threshold="hard_exit"} 700
headgate_controller_threshold_items{target="bad",threshold="soft_enter"} 500
headgate_controller_threshold_items{target="bad",threshold="soft_exit"} 400
headgate_controller_threshold_items{target="bars",threshold="hard_enter"} 800
headgate_controller_threshold_items{target="bars",threshold="hard_exit"} 700
headgate_controller_threshold_items{target="bars",threshold="soft_enter"} 500
headgate_controller_threshold_items{target="bars",threshold="soft_exit"} 400
`
		names := []string{
			metrics.ControllerApplyErrors, metrics.ControllerDecisions, metrics.ControllerHeadroom, metrics.ControllerLevel, metrics.ControllerQueries,
			metrics.ControllerQueryErrors, metrics.ControllerScaleInForce, metrics.ControllerScaleWanted,
			metrics.ControllerSignalAge, metrics.ControllerStandby, metrics.ControllerTargets,
			metrics.ControllerScaleAsked, metrics.ControllerThreshold, metrics.ControllerObserved,
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}

		p.set(func(p *fakePrometheus) { p.err = nil }) // the dead time is told while the law decides
		pass(time.Minute)
		var declared, exported []string
		for _, s := range metrics.Catalog() {
			if strings.HasPrefix(s.Name, "headgate_controller_") {
				declared = append(declared, s.Name)
			}
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			exported = append(exported, f.GetName())
		}
		slices.Sort(declared)
		if diff := cmp.Diff(declared, exported); diff != "" {
			t.Errorf("exported series (-declared +exported):\n%s", diff)
		}
	})
}

func TestTheScaleAskedForIsThatOfAllTargetsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrometheus()
		p.depth["bars"], p.depth["ticks"] = 100, 600
		c, stop := start(t, config(), p, nil, shared(t, newGate(), func(bars, ticks *Target) {
			bars.Combine, ticks.Combine = CombineWorst, CombineWorst
		})...)
		defer stop()
		pass(time.Second)
		want := `
# HELP headgate_controller_scale_asked Scale that the coordinator was last asked to put in force, from 0 to 1; absent at standby and in a dry run.
# TYPE headgate_controller_scale_asked gauge
headgate_controller_scale_asked{provider="ibkr",target="bars"} 0.5
headgate_controller_scale_asked{provider="ibkr",target="ticks"} 0.5
`
		if err := testutil.CollectAndCompare(c, strings.NewReader(want), metrics.ControllerScaleAsked); err != nil {
			t.Error(err)
		}
	})
}

func TestNumbersThatAreNotKnownAreNullInBothDirections(t *testing.T) {
	text, err := json.Marshal([]Number{0.25, Number(math.NaN()), Number(math.Inf(1))})
	if err != nil || string(text) != "[0.25,null,null]" {
		t.Fatalf("got %s, %v", text, err)
	}
	var back []Number
	if err := json.Unmarshal(text, &back); err != nil || back[0] != 0.25 || back[1].Known() || back[2].Known() {
		t.Errorf("%s was read as %v, %v", text, back, err)
	}
	if err := json.Unmarshal([]byte(`["much"]`), &back); err == nil {
		t.Errorf("a word was read as %v", back)
	}
}
