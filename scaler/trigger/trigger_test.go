package trigger_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/scaler/replicas"
	"github.com/headgate/headgate/scaler/trigger"
)

// metadata makes a map of keys and values that follow each other.
func metadata(pairs ...string) map[string]string {
	m := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		m[pair[0]] = pair[1]
	}
	return m
}

func kind(t *testing.T, m trigger.Metric) trigger.Kind {
	t.Helper()
	k, known := m.Kind()
	if !known {
		t.Fatalf("there is no metric %q", m)
	}
	return k
}

// sized is the config of the metrics that size a fleet, where nothing is said.
func sized() replicas.Config {
	return replicas.Config{
		DrainWithin: time.Minute, Max: 100, Growth: 2,
		Settle: 30 * time.Second, Tries: 2, RetryAfter: 5 * time.Minute,
	}
}

func TestMetadataIsRead(t *testing.T) {
	tests := []struct {
		name     string
		metadata map[string]string
		want     trigger.Trigger
		selector string
	}{
		{"an id alone asks for the depth", metadata("coordinatorIds", "bars"), trigger.Trigger{
			Kind: kind(t, trigger.QueueDepth), Coordinators: []string{"bars"}, Aggregation: trigger.Sum,
			Target: 2000, Longest: 3600, Replicas: sized(),
		}, ""},
		{"what KEDA reads itself is passed over", metadata("coordinatorIds", "bars", "scalerAddress", "scaler:6000",
			"enableTLS", "true", "unsafeSsl", "false", "useCachedMetrics", "true", "metricType", "Value"), trigger.Trigger{
			Kind: kind(t, trigger.QueueDepth), Coordinators: []string{"bars"}, Aggregation: trigger.Sum,
			Target: 2000, Longest: 3600, Replicas: sized(),
		}, ""},
		{"spaces around a value are none of it", metadata("coordinatorIds", " bars , ,ticks-* ", "metric", " drainTime ",
			"aggregation", " max ", "targetValue", " 20 ", "activationValue", "5", "staleAfter", " 90 ", "maxSeconds", "600"), trigger.Trigger{
			Kind: kind(t, trigger.DrainTime), Coordinators: []string{"bars", "ticks-*"}, Aggregation: trigger.Max,
			Target: 20, Activation: 5, StaleAfter: 90 * time.Second, Longest: 600, Replicas: sized(),
		}, ""},
		{"a selector instead of ids", metadata("selector", `{env="prod"}`, "metric", "hardPressure"), trigger.Trigger{
			Kind: kind(t, trigger.HardPressure), Aggregation: trigger.Sum,
			Target: 0.5, Activation: 0.5, Longest: 3600, Replicas: sized(),
		}, `{env="prod"}`},
		{"the environment of the workload", metadata("coordinatorIdsFromEnv", "bars", "targetValueFromEnv", "300"), trigger.Trigger{
			Kind: kind(t, trigger.QueueDepth), Coordinators: []string{"bars"}, Aggregation: trigger.Sum,
			Target: 300, Longest: 3600, Replicas: sized(),
		}, ""},
		{"all that sizes a fleet", metadata("coordinatorIds", "bars", "metric", "relativePressure", "drainWithin", "2m",
			"drainPerReplica", "250.5", "minReplicas", "2", "maxReplicas", "20", "growth", "1.5", "settle", "45s",
			"tries", "3", "retryAfter", "600", "whenStoreBound", "stepBack"), trigger.Trigger{
			Kind: kind(t, trigger.RelativePressure), Coordinators: []string{"bars"}, Aggregation: trigger.Sum,
			Target: 1, Longest: 3600,
			Replicas: replicas.Config{
				DrainWithin: 2 * time.Minute, Min: 2, Max: 20, Growth: 1.5, PerReplicaPerSecond: 250.5,
				Settle: 45 * time.Second, Tries: 3, RetryAfter: 10 * time.Minute, StepBack: true,
			},
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := trigger.Parse(test.metadata, trigger.Defaults{}, "shop/pipeline")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(trigger.Trigger{}, "Selector")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if got.Selector.String() != test.selector {
				t.Errorf("the selector is %q, want %q", got.Selector, test.selector)
			}
		})
	}
}

func TestMetadataThatSaysLittleHasTheDefaultsOfItsMetric(t *testing.T) {
	for _, k := range trigger.Kinds() {
		got, err := trigger.Parse(metadata("coordinatorIds", "bars", "metric", string(k.Metric)), trigger.Defaults{}, "shop/pipeline")
		if err != nil {
			t.Fatalf("%s: %v", k.Metric, err)
		}
		if got.Kind != k || got.Target != k.Target || got.Activation != k.Activation {
			t.Errorf("%s becomes %+v", k.Metric, got)
		}
	}
}

const (
	everyKey = "coordinatorIds, selector, aggregation, metric, targetValue, activationValue, staleAfter, maxSeconds, " +
		"drainWithin, drainPerReplica, minReplicas, maxReplicas, growth, settle, tries, retryAfter, whenStoreBound"
	depthKeys  = "coordinatorIds, selector, aggregation, metric, targetValue, activationValue, staleAfter"
	sizingKeys = "coordinatorIds, selector, metric, targetValue, activationValue, staleAfter, " +
		"drainWithin, drainPerReplica, minReplicas, maxReplicas, growth, settle, tries, retryAfter, whenStoreBound"
	everyMetric = "queueDepth, hardPressure, utilization, drainTime, desiredReplicas, relativePressure"
)

func TestWrongMetadataIsNamedWithWhatWouldBeRight(t *testing.T) {
	id := []string{"coordinatorIds", "bars"}
	with := func(pairs ...string) map[string]string { return metadata(slices.Concat(id, pairs)...) }
	tests := []struct {
		name     string
		metadata map[string]string
		want     []string // each line of the error
	}{
		{"nothing at all", nil, []string{"coordinatorIds is missing, want the id of at least one coordinator, or a selector"}},
		{"a key that is none", with("targetvalue", "5"), []string{`targetvalue is "5", want one of the keys ` + everyKey}},
		{"a key of another metric", with("drainWithin", "60s"),
			[]string{`drainWithin is "60s", want no such key with metric queueDepth, only ` + depthKeys}},
		{"an aggregation of what sizes a fleet", with("metric", "desiredReplicas", "aggregation", "max"),
			[]string{`aggregation is "max", want no such key with metric desiredReplicas, only ` + sizingKeys}},
		{"a metric that is none", with("metric", "depth"), []string{`metric is "depth", want one of ` + everyMetric}},
		{"an empty metric", with("metric", ""), []string{`metric is "", want one of ` + everyMetric}},
		{"ids that are empty", metadata("coordinatorIds", " , "),
			[]string{`coordinatorIds is ",", want ids, or patterns such as bars-*, separated by commas`}},
		{"a pattern that is none", metadata("coordinatorIds", "bars-["),
			[]string{`coordinatorIds is "bars-[", want ids, or patterns such as bars-*, separated by commas`}},
		{"ids and a selector", with("selector", `env="prod"`), []string{`selector is "env=\"prod\"", want none beside coordinatorIds`}},
		{"a selector that is none", metadata("selector", "env=prod"),
			[]string{`selector is "env=prod", want label matchers such as env="prod",coordinator_id=~"bars-.*"`}},
		{"numbers that are none", with("targetValue", "0", "activationValue", "-1"), []string{
			`targetValue is "0", want a number from 0.001 to 1e+12`,
			`activationValue is "-1", want a number from 0 to 1e+12`,
		}},
		{"numbers that are not finite", with("targetValue", "NaN", "activationValue", "Inf"), []string{
			`targetValue is "NaN", want a number from 0.001 to 1e+12`,
			`activationValue is "Inf", want a number from 0 to 1e+12`,
		}},
		{"durations that are none", with("metric", "desiredReplicas", "staleAfter", "soon", "drainWithin", "1ms", "settle", "1e300"), []string{
			`staleAfter is "soon", want a duration such as 90s, from 1s to 1h0m0s`,
			`drainWithin is "1ms", want a duration such as 90s, from 1s to 24h0m0s`,
			`settle is "1e300", want a duration such as 90s, from 1s to 1h0m0s`,
		}},
		{"counts that are none", with("metric", "desiredReplicas", "maxReplicas", "2.5", "tries", "0"), []string{
			`maxReplicas is "2.5", want a whole number from 1 to 100000`,
			`tries is "0", want a whole number from 1 to 100`,
		}},
		{"words that are none", with("aggregation", "avg"), []string{`aggregation is "avg", want sum or max`}},
		{"another word", with("metric", "relativePressure", "whenStoreBound", "stop"),
			[]string{`whenStoreBound is "stop", want hold or stepBack`}},
		{"more at least than at most", with("metric", "desiredReplicas", "minReplicas", "5", "maxReplicas", "4"),
			[]string{"minReplicas is 5, want at most maxReplicas, which is 4"}},
		{"a value from both places", with("targetValue", "5", "targetValueFromEnv", "6"),
			[]string{`targetValueFromEnv is "6", want none beside targetValue`}},
		{"a private key, whose value is not repeated", with("tlsClientKey", "-----BEGIN"),
			[]string{`tlsClientKey is "…", want a TriggerAuthentication instead, for KEDA does not read it from the metadata`}},
		{"a metric that is none hides no other fault", with("metric", "depth", "growth", "1"), []string{
			`metric is "depth", want one of ` + everyMetric,
			`growth is "1", want a number from 1.1 to 100`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := trigger.Parse(test.metadata, trigger.Defaults{}, "shop/pipeline")
			if err == nil {
				t.Fatal("it is accepted")
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if got := len(invalid.All(err)); got != len(test.want) {
				t.Errorf("%d values are named in the error, want %d", got, len(test.want))
			}
		})
	}
}

func TestATriggerChoosesItsCoordinators(t *testing.T) {
	labels := map[string]string{"coordinator_id": "bars-1", "env": "prod", "team": "a\"b"}
	tests := []struct {
		name     string
		metadata map[string]string
		chosen   bool
		named    []string
	}{
		{"by its id", metadata("coordinatorIds", "ticks,bars-1"), true, []string{"ticks", "bars-1"}},
		{"not by a part of it", metadata("coordinatorIds", "bars"), false, []string{"bars"}},
		{"by a pattern", metadata("coordinatorIds", "bars-*,ticks"), true, []string{"ticks"}},
		{"by a class", metadata("coordinatorIds", "bars-[0-9]"), true, nil},
		{"not by another class", metadata("coordinatorIds", "bars-[2-9]"), false, nil},
		{"by a label", metadata("selector", `env="prod"`), true, nil},
		{"by two labels", metadata("selector", `{ env = "prod" , coordinator_id=~"bars-.*", }`), true, nil},
		{"not where one does not match", metadata("selector", `env="prod",coordinator_id=~"ticks.*"`), false, nil},
		{"not by a part of a label", metadata("selector", `env=~"pro"`), false, nil},
		{"by what a label is not", metadata("selector", `env!="dev",coordinator_id!~"ticks.*"`), true, nil},
		{"not by what it is", metadata("selector", `env!~"prod|dev"`), false, nil},
		{"a label that is not there is empty", metadata("selector", `zone=""`), true, nil},
		{"and not anything", metadata("selector", `zone!=""`), false, nil},
		{"with a quote in the value", metadata("selector", `team="a\"b"`), true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := trigger.Parse(test.metadata, trigger.Defaults{}, "shop/pipeline")
			if err != nil {
				t.Fatal(err)
			}
			if chosen := got.Chooses("bars-1", labels); chosen != test.chosen {
				t.Errorf("chosen is %v, want %v", chosen, test.chosen)
			}
			if diff := cmp.Diff(test.named, got.Named()); diff != "" {
				t.Errorf("named: -want +got\n%s", diff)
			}
		})
	}
}

func TestASelectorThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "{}", ",", `env="prod`, `env="prod"}`, `{env="prod"`, `{env="prod"}}`, `env='prod'`, `1env="prod"`,
		`env=="prod"`, `env=~"("`, `env="prod" zone="a"`, `env="\q"`, `env=~"a)(b"`, `up{env="prod"}`,
	} {
		if _, err := trigger.Parse(metadata("selector", text), trigger.Defaults{}, "shop/pipeline"); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestASelectorAsDeepAsAnExpressionMayBe(t *testing.T) {
	// Somewhere here the expression is right by itself and too deep within the
	// group that anchors it.
	accepted := 0
	for depth := 990; depth < 1010; depth++ {
		text := `id=~"` + strings.Repeat("(", depth) + "a" + strings.Repeat(")", depth) + `"`
		if got, err := trigger.Parse(metadata("selector", text), trigger.Defaults{}, "shop/pipeline"); err == nil {
			accepted++
			if !got.Chooses("", map[string]string{"id": "a"}) {
				t.Errorf("with %d groups it does not match", depth)
			}
		}
	}
	if accepted == 0 || accepted == 20 {
		t.Errorf("%d of 20 are accepted, so the limit is elsewhere", accepted)
	}
}

func TestMetricsAreAClosedSetWithNamesOfTheirOwn(t *testing.T) {
	names := map[string]bool{}
	for _, k := range trigger.Kinds() {
		if names[k.Name] {
			t.Errorf("two metrics have the name %s", k.Name)
		}
		names[k.Name] = true
		if again, known := k.Metric.Kind(); !known || again != k {
			t.Errorf("%s is %+v, want %+v", k.Metric, again, k)
		}
		if !(k.Target > 0) || k.Activation < 0 || k.Type != trigger.AverageValue && k.Type != trigger.Value {
			t.Errorf("%+v cannot be a default", k)
		}
	}
	if _, known := trigger.Metric("").Kind(); known {
		t.Error("the empty metric is known")
	}
}

// FuzzParse throws any metadata at the parser, one "key=value" a line: it is
// refused with values that are named, or it is a trigger that all of the
// arithmetic can work with.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"coordinatorIds=bars",
		"coordinatorIds=bars,ticks-*\nmetric=drainTime\nmaxSeconds=60\naggregation=max",
		"selector={env=\"prod\",id=~\"b.*\"}\nmetric=hardPressure",
		"coordinatorIdsFromEnv=bars\nmetric=relativePressure\ndrainWithin=2m\nminReplicas=1\nmaxReplicas=9\ngrowth=1.5",
		"coordinatorIds=bars\nmetric=desiredReplicas\ndrainPerReplica=0x1p3\nsettle=1e2\ntries=3\nretryAfter=5m\nwhenStoreBound=stepBack",
		"coordinatorIds=bars\ntargetValue=NaN\nactivationValue=-0\nstaleAfter=9e99",
		"metric=\nselector=\ncaCert=x\nscalerAddress=y\nunknown=z",
		"metric= queueDepth \ncoordinatorIds=[\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			key, value, _ := strings.Cut(line, "=")
			m[key] = value
		}
		before := maps.Clone(m)
		got, err := trigger.Parse(m, trigger.Defaults{}, "shop/pipeline")
		if !maps.Equal(m, before) {
			t.Fatal("the metadata was changed")
		}
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		if !usable(&got) {
			t.Fatalf("the trigger cannot be used: %+v", got)
		}
		got.Chooses("bars", map[string]string{"coordinator_id": "bars"})
	})
}

// usable reports whether a trigger keeps what its fields promise.
func usable(t *trigger.Trigger) bool {
	finite := func(values ...float64) bool {
		return !slices.ContainsFunc(values, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	}
	_, known := t.Metric.Kind()
	r := t.Replicas
	return known && (len(t.Coordinators) > 0) == t.Selector.IsZero() && t.Chosen() != "" &&
		finite(t.Target, t.Activation, t.Longest, r.Growth, r.PerReplicaPerSecond) &&
		t.Target > 0 && t.Activation >= 0 && t.Longest >= 1 &&
		(t.StaleAfter == 0 || t.StaleAfter >= time.Second) && (t.Aggregation == trigger.Sum || t.Aggregation == trigger.Max) &&
		r.DrainWithin >= time.Second && r.Settle >= time.Second && r.RetryAfter >= time.Second &&
		0 <= r.Min && r.Min <= r.Max && r.Max >= 1 && r.Growth > 1 && r.Tries >= 1 && r.PerReplicaPerSecond >= 0
}
