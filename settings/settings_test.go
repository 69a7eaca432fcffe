package settings

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/pressure"
)

func noFile(name string) ([]byte, error) { return nil, os.ErrNotExist }

func loadTargets(t *testing.T, environ []string, file string) ([]Target, error) {
	t.Helper()
	if file != "" {
		environ = append(environ, "HEADGATE_TARGETS_FILE=targets.yaml")
	}
	_, targets, err := LoadController(context.Background(), environ, func(string) ([]byte, error) {
		return []byte(file), nil
	})
	return targets, err
}

// messages are the errors within err, each on its own.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestAnEmptyEnvironmentGivesTheDefaults(t *testing.T) {
	c, targets, err := LoadController(context.Background(), []string{"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_INTERVAL="}, noFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Interval != 5*time.Second {
		t.Errorf("interval: got %v, want the default, for an empty variable counts as not set", c.Interval)
	}
	if want := (Scales{OK: 1, Soft: 0.5, Hard: 0}); targets[0].Scales != want {
		t.Errorf("scales: got %v, want %v", targets[0].Scales, want)
	}
	if want := (pressure.Mark{Value: 80, Percent: true}); targets[0].HardEnter != want {
		t.Errorf("hard_enter: got %v, want %v", targets[0].HardEnter, want)
	}
}

func TestEverythingThatIsWrongIsReportedAtOnce(t *testing.T) {
	for _, test := range []struct {
		name    string
		environ []string
		file    string
		want    []string
	}{{
		name: "not a number, out of range, not one of the words, an unknown variable",
		environ: []string{
			"HEADGATE_COORDINATOR_IDS=bars",
			"HEADGATE_INTERVAL=often",
			"HEADGATE_DECISIONS=0",
			"HEADGATE_POLICY=magic",
			"HEADGATE_ENABLED=perhaps",
			"MDP_FB_SCALE_SOFT=1.5",
			"MDP_FB_SCALE_OK=NaN",
			"HEADGATE_SOFT_ENTR=50%",
			"HEADGATE_HARD_ENTER=most",
			"HEADGATE_SOFT_EXIT=60%",
			"HEADGATE_LEASE=6s",
			"HEADGATE_CONTROLLER_LISTEN=8080",
		},
		want: []string{
			`HEADGATE_SOFT_ENTR is set, want no such variable: did you mean HEADGATE_SOFT_ENTER?`,
			`HEADGATE_CONTROLLER_LISTEN is "8080", want a host:port`,
			`HEADGATE_INTERVAL is "often", want a duration such as 1m30s (100ms to 5m)`,
			`HEADGATE_DECISIONS is "0", want a whole number (1 to 10000)`,
			`HEADGATE_ENABLED is "perhaps", want true or false`,
			`HEADGATE_HARD_ENTER is "most", want items such as 8000, or a share such as 80%`,
			`HEADGATE_POLICY is "magic", want one of: exponential, linear, pid, step`,
			`MDP_FB_SCALE_OK is "NaN", want a number (0 to 1)`,
			`MDP_FB_SCALE_SOFT is "1.5", want a number (0 to 1)`,
			`HEADGATE_SOFT_EXIT is 60%, want at most HEADGATE_SOFT_ENTER, which is 50%`,
		},
	}, {
		name:    "settings that contradict each other",
		environ: []string{"HEADGATE_SOFT_ENTER=90%", "HEADGATE_LEASE=6s", "MDP_FB_SCALE_HARD=0.7"},
		want: []string{
			`HEADGATE_COORDINATOR_IDS is "", want the name of at least one coordinator`,
			`HEADGATE_LEASE is 6s, want at least two intervals, which are 10s`,
			`HEADGATE_SOFT_ENTER is 90%, want at most HEADGATE_HARD_ENTER, which is 80%`,
			`MDP_FB_SCALE_HARD is 0.7, want at most MDP_FB_SCALE_SOFT, which is 0.5`,
		},
	}, {
		name:    "shares of a capacity that nobody tells",
		environ: []string{"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_SERIES_CAPACITY=none"},
		want: []string{
			`HEADGATE_SERIES_CAPACITY is "none", want the name of the capacity's series, or HEADGATE_QUEUE_CAPACITY, or all marks in items: a mark in percent needs the capacity`,
		},
	}, {
		name: "a targets file",
		file: `targets:
  - coordinator_ids: [bars]
    soft_entr: 10
    interval: 1s
  - coordinator_ids: [ticks]
    scale_soft: much
    series_depth: {a: b}
  - coordinator_ids: [bonds]
    hard_exit: 9000
    hard_enter: 8000
`,
		want: []string{
			`targets.yaml: line 3: soft_entr is "10", want one of the keys target, coordinator_ids, …`,
			`targets.yaml: line 4: interval is "1s", want one of the keys target, coordinator_ids, …`,
			`targets.yaml: line 6: scale_soft is "much", want a number (0 to 1)`,
			`targets.yaml: line 7: series_depth is "a mapping", want one value, or a list of them`,
			`targets.yaml: target "bonds": hard_exit is 9000, want at most hard_enter, which is 8000`,
		},
	}, {
		name: "two targets of one name",
		file: "targets:\n  - coordinator_ids: bars\n  - coordinator_ids: [bars]\n",
		want: []string{`targets.yaml: line 3: target is "bars", want a name of its own: line 2 has it already`},
	}, {
		name: "marks of a file against each other",
		file: "targets:\n  - coordinator_ids: bars\n    hard_exit: 9000\n    hard_enter: 8000\n    soft_enter: 5000\n    soft_exit: 4000\n",
		want: []string{`targets.yaml: target "bars": hard_exit is 9000, want at most hard_enter, which is 8000`},
	}, {
		name: "a file that is no YAML",
		file: "targets: [",
		want: []string{`targets.yaml: targets file is "yaml: line 1: did not find expected node content", want a YAML mapping with the key "targets", a list`},
	}} {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadTargets(t, test.environ, test.file)
			got := messages(err)
			for i := range got {
				if head, _, long := strings.Cut(got[i], "coordinator_ids, "); long {
					got[i] = head + "coordinator_ids, …"
				}
			}
			want := test.want
			for i := range want { // the laws grow in number; their list is held by the tag alone
				if strings.HasPrefix(want[i], "HEADGATE_POLICY") {
					policy, _ := reflect.TypeOf(Target{}).FieldByName("Policy")
					want[i] = `HEADGATE_POLICY is "magic", want ` + words(policy.Tag.Get("oneof"))
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAShardIsOneOfThoseThereAre(t *testing.T) {
	for _, test := range []struct {
		name    string
		environ []string
		want    []string
	}{
		{"one controller of one", nil, nil},
		{"the first of one", []string{"HEADGATE_SHARD=0"}, nil},
		{"the last of five", []string{"HEADGATE_SHARD=4", "HEADGATE_SHARDS=5"}, nil},
		{"none of five", []string{"HEADGATE_SHARDS=5"}, []string{"HEADGATE_SHARD is missing, want a whole number from 0 to 4, for HEADGATE_SHARDS is 5"}},
		{"one that is counted from 1", []string{"HEADGATE_SHARD=5", "HEADGATE_SHARDS=5"}, []string{"HEADGATE_SHARD is 5, want a whole number from 0 to 4, for HEADGATE_SHARDS is 5"}},
		{"of how many is not said", []string{"HEADGATE_SHARD=2"}, []string{"HEADGATE_SHARD is 2, want none, or 0, where HEADGATE_SHARDS is 1"}},
		{"the name of a pod", []string{"HEADGATE_SHARD=controller-2", "HEADGATE_SHARDS=5"}, []string{`HEADGATE_SHARD is "controller-2", want a whole number (-1 to 9999)`}},
		{"no shards at all", []string{"HEADGATE_SHARD=0", "HEADGATE_SHARDS=0"}, []string{`HEADGATE_SHARDS is "0", want a whole number (1 to 10000)`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := LoadController(t.Context(), append(test.environ, "HEADGATE_COORDINATOR_IDS=bars"), noFile)
			if diff := cmp.Diff(test.want, messages(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnUnreadableTargetsFileIsNamed(t *testing.T) {
	_, _, err := LoadController(context.Background(), []string{"HEADGATE_TARGETS_FILE=gone.yaml"}, noFile)
	if err == nil || !strings.Contains(err.Error(), `HEADGATE_TARGETS_FILE is "gone.yaml", want a file that can be read`) {
		t.Errorf("got %v", err)
	}
}

func TestTargetsOfAnotherFileAreReadLikeThoseOfTheirOwn(t *testing.T) {
	environ := []string{"HEADGATE_SOFT_ENTER=60%", "HEADGATE_INTERVAL=10s"}
	var fixture struct {
		Targets []yaml.Node `yaml:"targets"`
	}
	text := "# another key\ntargets:\n  - coordinator_ids: bars\n    lease: 30s\n  - {target: ticks, lease: 5s}\n  - soft_enterr: 5\n"
	if err := yaml.Unmarshal([]byte(text), &fixture); err != nil {
		t.Fatal(err)
	}
	_, targets, err := LoadControllerWith(t.Context(), environ, fixture.Targets)
	if len(targets) != 2 || targets[0].ID() != "bars" || targets[0].SoftEnter.String() != "60%" || targets[0].Lease != 30*time.Second {
		t.Errorf("got %+v", targets)
	}
	got := messages(err)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], ", want")
	}
	want := []string{
		`line 6: soft_enterr is "5"`,
		`target "ticks": coordinator_ids is ""`,
		`target "ticks": lease is 5s`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestATargetTakesFromTheEnvironmentWhatItDoesNotSay(t *testing.T) {
	targets, err := loadTargets(t, []string{"HEADGATE_SOFT_ENTER=3000", "HEADGATE_HARD_ENTER=9000", "HEADGATE_SOFT_EXIT=2000", "HEADGATE_HARD_EXIT=8000"}, `
targets:
  - target: opening
    coordinator_ids: [bars, ticks]
    soft_enter: 2500
  - coordinator_ids: bonds
    scale_soft: 0.25
`)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID        string
		IDs       []string
		SoftEnter string
		ScaleSoft float64
	}
	var got []row
	for _, target := range targets {
		got = append(got, row{target.ID(), target.CoordinatorIDs, target.SoftEnter.String(), target.Scales.Soft})
	}
	want := []row{
		{"opening", []string{"bars", "ticks"}, "2500", 0.5},
		{"bonds", []string{"bonds"}, "3000", 0.25},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatKubernetesSetsForAServiceIsNoUnknownVariable(t *testing.T) {
	err := Unknown([]string{
		"HEADGATE_CONTROLLER_SERVICE_HOST=10.0.0.1",
		"HEADGATE_CONTROLLER_SERVICE_PORT=8080",
		"HEADGATE_CONTROLLER_SERVICE_PORT_HTTP=8080",
		"HEADGATE_CONTROLLER_PORT=tcp://10.0.0.1:8080",
		"HEADGATE_CONTROLLER_PORT_8080_TCP_ADDR=10.0.0.1",
		"HEADGATE_JOB_DAG_NODES_QUEUE_CAPACITY=5",
		"PATH=/bin",
	})
	if err != nil {
		t.Error(err)
	}
	if err := Unknown([]string{"HEADGATE_CONTROLLER_PORT=80"}); err == nil {
		t.Error("without the Service's host beside it, the variable is unknown")
	}
}

func TestAWrongVariableLeavesItsDefault(t *testing.T) {
	var c Controller
	err := Load(context.Background(), &c, Environ([]string{"HEADGATE_INTERVAL=1s", "HEADGATE_DECISIONS=x"}))
	if len(invalid.All(err)) != 1 || c.Interval != time.Second || c.Decisions != 100 {
		t.Errorf("got %v, %v and %d, want one error and the rest to be checked further", err, c.Interval, c.Decisions)
	}
}

func TestEachVariableIsDescribedAndHasARightDefault(t *testing.T) {
	for _, v := range All() {
		if v.Help == "" || strings.HasSuffix(v.Help, ".") {
			t.Errorf("%s: help %q, want a phrase without a full stop", v.Name, v.Help)
		}
		if !ours(v.Name) && !strings.HasPrefix(v.Name, "OTEL_") {
			t.Errorf("%s: want a name that begins with HEADGATE_ or MDP_FB_, or one of OpenTelemetry's", v.Name)
		}
	}
	for _, of := range []any{&Controller{}, &Scaler{}, &Pipeline{}} {
		if err := Load(context.Background(), of, Environ(nil)); err != nil {
			t.Errorf("%T: the defaults are wrong: %v", of, err)
		}
	}
}

func FuzzTargets(f *testing.F) {
	f.Add("targets:\n  - coordinator_ids: [bars]\n    soft_enter: 50%\n")
	f.Add("targets:\n  - {coordinator_ids: bars, lease: 15s, scale_hard: .inf}\n")
	f.Add("targets: [&a {target: x}, *a]\n")
	f.Fuzz(func(t *testing.T, file string) {
		targets, err := Targets(t.Context(), []byte(file), Environ(nil))
		if err != nil {
			invalidtest.Explained(t, err)
		}
		for _, target := range targets {
			for _, scale := range []float64{target.Scales.OK, target.Scales.Soft, target.Scales.Hard} {
				if !(scale >= 0 && scale <= 1) {
					t.Errorf("scale %v got through", scale)
				}
			}
		}
	})
}
