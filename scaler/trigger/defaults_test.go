package trigger_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/scaler/trigger"
)

func parseDefaults(t *testing.T, text string) trigger.Defaults {
	t.Helper()
	d, err := trigger.ParseDefaults([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDefaultsFillWhatMetadataDoesNotSay(t *testing.T) {
	defaults := parseDefaults(t, `
metrics:
  queueDepth: {targetValue: 500, staleAfter: 90s}
  desiredReplicas: {maxReplicas: 40, whenStoreBound: stepBack}
scaledObjects:
  shop/pipeline: {targetValue: 300, minReplicas: 2}
`)
	type numbers struct {
		Target, StaleSeconds float64
		Min, Max             int
		StepBack             bool
	}
	tests := []struct {
		name, object string
		metadata     map[string]string
		want         numbers
	}{
		{"of its metric", "shop/other", metadata("coordinatorIds", "bars"), numbers{500, 90, 0, 100, false}},
		{"of its ScaledObject before those of the metric", "shop/pipeline", metadata("coordinatorIds", "bars"), numbers{300, 90, 0, 100, false}},
		{"but not before what it says itself", "shop/pipeline", metadata("coordinatorIds", "bars", "targetValue", "7"), numbers{7, 90, 0, 100, false}},
		{"all that the metric has", "shop/pipeline", metadata("coordinatorIds", "bars", "metric", "desiredReplicas"), numbers{300, 0, 2, 40, true}},
		{"none for another metric", "shop/other", metadata("coordinatorIds", "bars", "metric", "utilization"), numbers{0.5, 0, 0, 100, false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := trigger.Parse(test.metadata, defaults, test.object)
			if err != nil {
				t.Fatal(err)
			}
			r := got.Replicas
			if diff := cmp.Diff(test.want, numbers{got.Target, got.StaleAfter.Seconds(), r.Min, r.Max, r.StepBack}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestDefaultsThatSayNothingAreRight(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "{}", "metrics:\n", "metrics: {}\nscaledObjects: {}\n", "metrics: {queueDepth: {}}", "---\n"} {
		if _, err := trigger.ParseDefaults([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWrongDefaultsAreNamedAllAtOnce(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // each in a line of its own of the error
	}{
		{"no YAML", "metrics: [", []string{"defaults file is"}},
		{"not a mapping", "- metrics", []string{"defaults file is"}},
		{"a key that is none", "metric: {}", []string{"field metric not found"}},
		{"a key twice", "metrics: {}\nmetrics: {}", []string{"already defined"}},
		{"more than one document", "metrics: {}\n---\nmetrics: {}\n", []string{"more than one document"}},
		{"a metric that is none", "metrics: {depth: {}}", []string{`metrics is "depth", want one of queueDepth`}},
		{"ScaledObjects without a namespace or a name", "scaledObjects: {/pipeline: {}, a/b/c: {}, pipeline: {}, shop/: {}}",
			[]string{`scaledObjects is "/pipeline", want namespace/name`, `scaledObjects is "a/b/c", want namespace/name`, `scaledObjects is "pipeline", want namespace/name`, `scaledObjects is "shop/", want namespace/name`}},
		{"a key that chooses a target", "metrics: {queueDepth: {coordinatorIds: bars}}",
			[]string{`metrics.queueDepth.coordinatorIds is "bars", want one of the keys aggregation, targetValue`}},
		{"a key of another metric", "metrics: {queueDepth: {maxReplicas: 5}}",
			[]string{`metrics.queueDepth.maxReplicas is "5", want one of the keys aggregation, targetValue`}},
		{"a list", "metrics: {queueDepth: {targetValue: [5]}}", []string{"metrics.queueDepth.targetValue is \"a mapping or a list\", want a number"}},
		{"values out of range, in both places", "metrics: {queueDepth: {targetValue: 0}}\nscaledObjects: {shop/a: {growth: 1, tries: x}}",
			[]string{`metrics.queueDepth.targetValue is "0", want a number`, `scaledObjects.shop/a.growth is "1", want a number`, `scaledObjects.shop/a.tries is "x", want a whole number`}},
		{"more at least than at most", "scaledObjects: {shop/a: {minReplicas: 5, maxReplicas: 4}}",
			[]string{"scaledObjects.shop/a.minReplicas is 5, want at most maxReplicas, which is 4"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := trigger.ParseDefaults([]byte(test.text))
			if err == nil {
				t.Fatal("it is accepted")
			}
			values := invalid.All(err)
			if len(values) != len(test.want) {
				t.Fatalf("%d values are named, want %d:\n%v", len(values), len(test.want), err)
			}
			for i, want := range test.want {
				if got := values[i].Error(); !strings.Contains(got, want) {
					t.Errorf("%s\nhas no %q", got, want)
				}
			}
		})
	}
}

// FuzzParseDefaults: any file is refused with values that are named, or its
// defaults make no trigger unusable that is right without them, unless they
// say so.
func FuzzParseDefaults(f *testing.F) {
	for _, seed := range []string{
		"",
		"metrics: {queueDepth: {targetValue: 500, staleAfter: 90s}}",
		"scaledObjects:\n  shop/pipeline: {targetValue: 300, minReplicas: 200}\nmetrics:\n  desiredReplicas: {maxReplicas: 40}",
		"metrics: &a {queueDepth: *a}",
		"metrics: {queueDepth: {targetValue: !!float .nan, aggregation: ~}}",
		"scaledObjects: {shop/pipeline: {<<: {targetValue: 1}}}",
		"- [",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defaults, err := trigger.ParseDefaults(data)
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		for _, k := range trigger.Kinds() {
			got, err := trigger.Parse(metadata("coordinatorIds", "bars", "metric", string(k.Metric)), defaults, "shop/pipeline")
			if err == nil && !usable(&got) {
				t.Fatalf("the trigger cannot be used: %+v", got)
			}
			if err != nil {
				invalidtest.Explained(t, err)
			}
		}
	})
}
