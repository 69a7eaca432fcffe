package trigger

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
)

// with is metadata that names one coordinator, and more.
func with(more ...string) map[string]string {
	m := map[string]string{"scalerAddress": "headgate:6000", "coordinatorIds": "bars"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestMetadataThatSaysLittleHasDefaults(t *testing.T) {
	for _, kind := range Kinds() {
		trigger, err := Parse(with("metric", string(kind.Metric)), Defaults{}, "shop/pipeline")
		if err != nil {
			t.Fatalf("%s: %v", kind.Metric, err)
		}
		if trigger.Kind != kind || trigger.Target != kind.Target || trigger.Activation != kind.Activation || trigger.Aggregation != Sum {
			t.Errorf("%s becomes %+v", kind.Metric, trigger)
		}
	}
	trigger, err := Parse(with(), Defaults{}, "shop/pipeline")
	if err != nil || trigger.Metric != QueueDepth || trigger.Target != 2000 {
		t.Errorf("no metric at all becomes %+v, %v; want the queue's depth", trigger, err)
	}
}

func TestMetadataIsReadKeyByKey(t *testing.T) {
	trigger, err := Parse(map[string]string{
		"scalerAddress": "headgate:6000", "enableTLS": "true", "metricType": "Value",
		"coordinatorIds": " bars-* , ticks ", "metric": "relativePressure",
		"targetValue": "1", "activationValue": " 5 ", "staleAfter": "45",
		"drainWithin": "2m", "drainPerReplica": "250", "minReplicas": "2", "maxReplicas": "12", "growth": "1.5",
		"settle": "20s", "tries": "3", "retryAfter": "10m", "whenStoreBound": "stepBack",
	}, Defaults{}, "shop/pipeline")
	if err != nil {
		t.Fatal(err)
	}
	r := trigger.Replicas
	if diff := cmp.Diff([]string{"bars-*", "ticks"}, trigger.Coordinators); diff != "" {
		t.Errorf("coordinators (-want +got):\n%s", diff)
	}
	if trigger.Activation != 5 || trigger.StaleAfter != 45*time.Second || r.DrainWithin != 2*time.Minute ||
		r.PerReplicaPerSecond != 250 || r.Min != 2 || r.Max != 12 || r.Growth != 1.5 || r.Settle != 20*time.Second ||
		r.Tries != 3 || r.RetryAfter != 10*time.Minute || !r.StepBack {
		t.Errorf("the trigger is %+v", trigger)
	}
	if diff := cmp.Diff([]string{"ticks"}, trigger.Named()); diff != "" {
		t.Errorf("named ones (-want +got):\n%s", diff)
	}
}

func TestWrongMetadataIsReportedAllAtOnce(t *testing.T) {
	tests := []struct {
		name     string
		metadata map[string]string
		fields   []string
		says     string // in the text of the error
	}{
		{"nothing is asked for", map[string]string{}, []string{"coordinatorIds"}, "selector"},
		{"a misspelt key", with("targetVale", "5"), []string{"targetVale"}, "targetValue"},
		{"a metric that is none", with("metric", "depth"), []string{"metric"}, "queueDepth, hardPressure"},
		{"a key of another metric", with("metric", "queueDepth", "maxReplicas", "5"), []string{"maxReplicas"}, "no such key with metric queueDepth"},
		{"numbers that are none", with("targetValue", "NaN", "activationValue", "-1"), []string{"targetValue", "activationValue"}, "a number from"},
		{"a target of nothing", with("targetValue", "0"), []string{"targetValue"}, "0.001"},
		{"a pattern that is none", with("coordinatorIds", "bars-["), []string{"coordinatorIds"}, "patterns"},
		{"free PromQL", map[string]string{"query": "up"}, []string{"query", "coordinatorIds"}, "one of the keys"},
		{"ids and a selector", with("selector", `env="prod"`), []string{"selector"}, "none beside"},
		{"a selector that is none", map[string]string{"selector": "env=prod"}, []string{"selector"}, "label matchers"},
		{"bounds the wrong way round", with("metric", "desiredReplicas", "minReplicas", "9", "maxReplicas", "3"), []string{"minReplicas"}, "at most maxReplicas"},
		{"a key twice", with("metric", "queueDepth", "metricFromEnv", "x"), []string{"metricFromEnv"}, "none beside metric"},
		{"a certificate where KEDA does not read it", with("tlsClientKey", "PRIVATE"), []string{"tlsClientKey"}, "TriggerAuthentication"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.metadata, Defaults{}, "shop/pipeline")
			var fields []string
			for _, v := range invalid.All(err) {
				fields = append(fields, v.Field)
			}
			if diff := cmp.Diff(test.fields, fields); diff != "" {
				t.Fatalf("fields (-want +got):\n%s\n%v", diff, err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %q, want %q in it", err, test.says)
			}
			if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error repeats a secret: %q", err)
			}
		})
	}
}

func TestASelectorChoosesByLabels(t *testing.T) {
	labels := map[string]string{"coordinator_id": "bars-eu", "env": "prod"}
	for text, want := range map[string]bool{
		`env="prod"`:                                 true,
		`{env="prod"}`:                               true,
		`env="prod",coordinator_id=~"bars-.*"`:       true,
		`coordinator_id=~"bars"`:                     false, // anchored at both ends
		`env!="prod"`:                                false,
		`env!~"dev|test" , coordinator_id="bars-eu"`: true,
		`region=""`:                                  true,
		`region!=""`:                                 false,
	} {
		s, ok := parseSelector(text)
		if !ok {
			t.Errorf("%s is no selector", text)
			continue
		}
		if got := s.Matches(labels); got != want {
			t.Errorf("%s chooses: %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "{}", `env`, `env=prod`, `env="prod" region="eu"`, `{env="prod"`, `env=~"("`, `1env="x"`} {
		if _, ok := parseSelector(text); ok {
			t.Errorf("%q is a selector", text)
		}
	}
}

func TestDefaultsFillWhatTheMetadataLeavesOpen(t *testing.T) {
	d, err := ParseDefaults([]byte(`
metrics:
  queueDepth: {targetValue: 500, activationValue: 20}
scaledObjects:
  shop/pipeline: {targetValue: 300}
`))
	if err != nil {
		t.Fatal(err)
	}
	target := func(object string, metadata map[string]string) [2]float64 {
		trigger, err := Parse(metadata, d, object)
		if err != nil {
			t.Fatal(err)
		}
		return [2]float64{trigger.Target, trigger.Activation}
	}
	if got := target("shop/other", with()); got != [2]float64{500, 20} {
		t.Errorf("by the metric: %v", got)
	}
	if got := target("shop/pipeline", with()); got != [2]float64{300, 20} {
		t.Errorf("by the ScaledObject: %v", got)
	}
	if got := target("shop/pipeline", with("targetValue", "7")); got != [2]float64{7, 20} {
		t.Errorf("by the metadata: %v", got)
	}
	if got := target("shop/other", with("metric", "hardPressure")); got != [2]float64{0.5, 0.5} {
		t.Errorf("of another metric: %v", got)
	}
}

func TestWrongDefaultsAreReportedAllAtOnce(t *testing.T) {
	_, err := ParseDefaults([]byte(`
metrics:
  depth: {targetValue: 1}
  queueDepth: {targetValue: none, maxReplicas: 4, metric: queueDepth}
scaledObjects:
  pipeline: {targetValue: 1}
  shop/pipeline: {minReplicas: 5, maxReplicas: 2}
`))
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"metrics", "metrics.queueDepth.maxReplicas", "metrics.queueDepth.metric", "metrics.queueDepth.targetValue",
		"scaledObjects", "scaledObjects.shop/pipeline.minReplicas"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if _, err := ParseDefaults([]byte("metrics: [1]")); len(invalid.All(err)) != 1 {
		t.Errorf("a list instead of a mapping gives %v", err)
	}
	if _, err := ParseDefaults(nil); err != nil {
		t.Errorf("an empty file gives %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("coordinatorIds", "bars-*", "metric", "queueDepth")
	f.Add("selector", `env="prod"`, "targetValue", "1e3")
	f.Add("coordinatorIds", "bars-[", "staleAfter", "1h")
	f.Add("query", "up", "metricFromEnv", "")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		metadata := map[string]string{name1: value1, name2: value2}
		before := maps.Clone(metadata)
		trigger, err := Parse(metadata, Defaults{}, "shop/pipeline")
		if !maps.Equal(before, metadata) {
			t.Error("the metadata was changed")
		}
		if err != nil {
			if len(invalid.All(err)) == 0 {
				t.Errorf("the error names no field: %v", err)
			}
			return
		}
		if trigger.Target <= 0 || trigger.Activation < 0 || trigger.Selector.IsZero() == (len(trigger.Coordinators) == 0) {
			t.Errorf("%q is taken as %+v", metadata, trigger)
		}
		trigger.Chooses("bars", map[string]string{"env": "prod"})
	})
}

func FuzzParseDefaults(f *testing.F) {
	f.Add([]byte("metrics:\n  queueDepth: {targetValue: 500}\n"))
	f.Add([]byte("scaledObjects:\n  shop/pipeline: {targetValue: 300, activationValue: 10}\n"))
	f.Add([]byte("metrics: {queueDepth: {targetValue: {a: 1}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDefaults(data)
		if err != nil {
			if len(invalid.All(err)) == 0 {
				t.Errorf("the error names no field: %v", err)
			}
			return
		}
		if _, err := Parse(with(), d, "shop/pipeline"); err != nil {
			t.Errorf("good metadata and good defaults give %v", err)
		}
	})
}
