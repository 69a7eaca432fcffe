package backtest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/promtest/autoscaler"
	"github.com/headgate/headgate/scaler/trigger"
)

const whole = `# a fleet
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
kind: ScaledObject
metadata: {name: pipeline, namespace: shop}
spec:
  minReplicaCount: 2
  maxReplicaCount: 20
  cooldownPeriod: 60
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 30
          selectPolicy: Min
          policies:
            - {type: Pods, value: 2, periodSeconds: 60}
            - {type: Percent, value: 50, periodSeconds: 30}
        scaleDown: {selectPolicy: Disabled}
  triggers:
    - type: cpu
      metadata: {value: "50"}
    - type: external-push
      metricType: Value
      metadata: &shared
        scalerAddress: scaler:6000
        coordinatorIds: bars
        metric: relativePressure
---
kind: ScaledObject
metadata: {name: plain}
spec:
  triggers: [{type: external, metadata: {coordinatorIds: bars, metric: queueDepth, targetValue: "100"}}]
`

func parsed(text string) ([]scaledObject, error) {
	return parseScaledObjects("so.yaml", []byte(text), trigger.Defaults{}, 30*time.Second)
}

func TestManifestsAreReadAsKubernetesReadsThem(t *testing.T) {
	objects, err := parsed(whole)
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Name    string
		Config  autoscaler.Config
		Passed  []string
		Average []bool
	}
	var got []seen
	for _, o := range objects {
		s := seen{Name: o.name, Config: o.config, Passed: o.passed}
		for _, t := range o.triggers {
			s.Average = append(s.Average, t.averageValue)
		}
		got = append(got, s)
	}
	standard := autoscaler.DefaultBehaviour()
	want := []seen{{
		"shop/pipeline", autoscaler.Config{
			Bounds: autoscaler.Bounds{Min: 2, Max: 20}, CoolDown: time.Minute,
			Behaviour: autoscaler.Behaviour{
				Up: autoscaler.Rules{Window: 30 * time.Second, Select: autoscaler.SelectMin, Policies: []autoscaler.Policy{
					{Value: 2, Period: time.Minute}, {Percent: true, Value: 50, Period: 30 * time.Second},
				}},
				Down: autoscaler.Rules{Window: 5 * time.Minute, Select: autoscaler.SelectDisabled, Policies: standard.Down.Policies},
			},
		}, []string{"cpu"}, []bool{false},
	}, {
		"default/plain", autoscaler.Config{Bounds: autoscaler.Bounds{Min: 0, Max: 100}, CoolDown: 5 * time.Minute, Behaviour: standard},
		nil, []bool{true},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAManifestThatIsWrongIsRefusedWithItsLines(t *testing.T) {
	replace := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(whole) }
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"numbers and words": {
			replace("maxReplicaCount: 20", "maxReplicaCount: many", "cooldownPeriod: 60", "cooldownPeriod: -1", "selectPolicy: Min", "selectPolicy: Least",
				"type: Percent, value: 50", "type: Percents, value: 0", "metricType: Value", "metricType: Utilization"),
			[]string{
				`so.yaml: line 10: maxReplicaCount is "many", want a whole number from 1 to 1000000`,
				`so.yaml: line 11: cooldownPeriod is "-1", want a whole number from 0 to 604800`,
				`so.yaml: line 17: selectPolicy is "Least", want one of Max, Min, Disabled`,
				`so.yaml: line 20: type is "Percents", want one of Pods, Percent`,
				`so.yaml: line 20: value is "0", want a whole number from 1 to 1000000`,
				`so.yaml: line 26: metricType is "Utilization", want one of AverageValue, Value`,
			},
		},
		"the trigger's own keys": {
			replace("metric: relativePressure", "metric: pressure", "coordinatorIds: bars\n", "coordinatorIDs: bars\n"),
			[]string{
				`so.yaml: line 29: coordinatorIDs is "bars"`,
				`so.yaml: line 25: coordinatorIds is missing`,
				`so.yaml: line 30: metric is "pressure"`,
			},
		},
		"bounds":            {replace("minReplicaCount: 2", "minReplicaCount: 21"), []string{`so.yaml: line 9: minReplicaCount is "21", want at most maxReplicaCount, which is 20`}},
		"lists":             {replace("triggers: [{", "triggers: {a: [{", `"100"}}]`, `"100"}}]}`), []string{`so.yaml: line 35: triggers is a mapping, want a list`}},
		"the same twice":    {replace("name: plain", "name: pipeline, namespace: shop"), []string{"so.yaml: line 32: name is a mapping"}},
		"none of ours":      {"kind: ScaledObject\nspec: {triggers: [{type: cpu}]}\n", []string{`so.yaml: line 1: triggers of default/unnamed is "cpu", want at least one of type external`}},
		"no ScaledObject":   {"kind: Service\n", []string{"so.yaml: kind is missing, want ScaledObject"}},
		"nothing":           {"", []string{"so.yaml: kind is missing"}},
		"no YAML":           {"a: [\n", []string{"so.yaml is "}},
		"no mapping at all": {"- 1\n", []string{"so.yaml: kind is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsed(test.text)
			all := invalid.All(err)
			var got []string
			for _, v := range all {
				got = append(got, v.Error())
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %d faults, want %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for _, want := range test.want {
				if !strings.Contains("\n"+strings.Join(got, "\n"), "\n"+want) {
					t.Errorf("%s is not among\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}

func TestTheManifestsThatShipAreRead(t *testing.T) {
	files, err := filepath.Glob("../../deploy/keda/overlays/*/scaled-object.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files and %v", len(files), err)
	}
	for _, file := range files {
		if strings.Contains(file, "/prometheus/") { // it asks Prometheus itself
			continue
		}
		if objects, err := readScaledObjects(file, trigger.Defaults{}, time.Minute); err != nil || len(objects) != 1 {
			t.Errorf("%s: %d objects and %v", file, len(objects), err)
		}
	}
}

func FuzzScaledObjects(f *testing.F) {
	f.Add(whole)
	f.Add("kind: ScaledObject\nspec: &a\n  triggers: [*a]\n")
	f.Add("kind: ScaledObject\nspec: {triggers: [{type: external, metadata: {a: {b: c}}}], minReplicaCount: [1]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := parsed(text)
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		for _, o := range objects {
			b := o.config.Bounds
			if len(o.triggers) == 0 || b.Min < 0 || b.Min > b.Max || b.Max < 1 || !strings.Contains(o.name, "/") {
				t.Fatalf("got %+v", o)
			}
		}
	})
}
