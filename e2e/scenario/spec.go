package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate/headgate/e2e/cluster"
)

// Spec: a target value that is changed in the scaler's file of defaults reaches
// the autoscaler of an external-push trigger, without a word to the
// ScaledObject. A file that is wrong changes nothing.
var Spec = Scenario{Name: "stream-metric-spec", Limit: 3 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	replicas, err := e.installStill(ctx, Plan{
		Overlay: "overlays/external-push",
		Edits: []Edit{
			on("ScaledObject", "pipeline-burst",
				set(int64(30), "spec", "pollingInterval"), withoutKey("targetValue")),
			on("ConfigMap", "external-scaler-defaults", set(fmt.Sprintf(defaultsFile, perStep), "data", "defaults.yaml")),
		},
	})
	if err != nil {
		return err
	}
	if err := e.awaitSpec(ctx, "1k"); err != nil {
		return err
	}
	if err := replicas.Is(ctx, 3, 60*time.Second); err != nil {
		return err
	}
	before, err := e.generation(ctx)
	if err != nil {
		return err
	}

	changed := time.Now()
	if err := e.setDefaults(ctx, fmt.Sprintf(defaultsFile, perStep/2)); err != nil {
		return err
	}
	if err := e.awaitSpec(ctx, "500"); err != nil {
		return err
	}
	reached := time.Since(changed)
	if err := replicas.Is(ctx, 6, 30*time.Second); err != nil {
		return err
	}
	e.Figure("seconds_to_autoscaler", round3(reached.Seconds()))
	e.Figure("seconds_to_replicas", round3(time.Since(changed).Seconds()))
	e.Say("a new target value reached the autoscaler after %v", reached)

	if err := e.setDefaults(ctx, fmt.Sprintf(defaultsFile, -1)); err != nil {
		return err
	}
	refusing, cancel := within(ctx, 20*time.Second, "refusing the file")
	defer cancel()
	err = cluster.Poll(refusing, func(ctx context.Context) error {
		good, err := series(ctx, e.scalerHTTP()+"/metrics", "headgate_scaler_defaults_good")
		if err != nil {
			return err
		}
		if good != 0 {
			return fmt.Errorf("headgate_scaler_defaults_good is %v", good)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := replicas.Stays(ctx, 6, 3*cluster.HPASync); err != nil {
		return err
	}
	if err := e.awaitSpec(ctx, "500"); err != nil {
		return err
	}
	after, err := e.generation(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the ScaledObject was changed: generation %d, and then %d", before, after)
	}
	e.Figure("replicas", path(replicas.All()))
	return nil
}}

const defaultsFile = "metrics:\n  queueDepth: {targetValue: %d}\n"

// withoutKey takes a key of the first trigger's metadata away.
func withoutKey(key string) Edit {
	return func(o *cluster.Object) error {
		triggers, err := nested(o, "spec", "triggers")
		if err == nil {
			delete(triggers[0].(map[string]any)["metadata"].(map[string]any), key)
			err = set(triggers, "spec", "triggers")(o)
		}
		return err
	}
}

// awaitSpec waits until the autoscaler's one metric has a target.
func (e *Env) awaitSpec(ctx context.Context, target string) error {
	want := "s0-headgate-queue-depth averageValue " + target
	ctx, cancel := within(ctx, 60*time.Second, "the autoscaler's spec "+want)
	defer cancel()
	return e.Cluster.Await(ctx, cluster.Autoscalers, e.Namespace, "keda-hpa-pipeline-burst", func(o *cluster.Object) bool {
		return slices.Contains(hpaMetrics(o), want)
	})
}

// setDefaults changes the scaler's file of defaults, and does the kubelet's part.
func (e *Env) setDefaults(ctx context.Context, text string) error {
	patch := fmt.Sprintf(`{"data":{"defaults.yaml":%q}}`, text)
	_, err := e.Cluster.Client.CoreV1().ConfigMaps(e.Namespace).
		Patch(ctx, "external-scaler-defaults", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change the scaler's defaults: %w", err)
	}
	return e.Node.Refresh(ctx, e.Namespace, scalerComponent)
}

// generation counts the changes of the ScaledObject's spec.
func (e *Env) generation(ctx context.Context) (int64, error) {
	o, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).Get(ctx, "pipeline-burst", metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	return o.GetGeneration(), nil
}
