package scenario

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/headgate/headgate/e2e/cluster"
)

// Seed: the ScaledObject with two prometheus triggers works as it is shipped,
// on the same series.
var Seed = Scenario{Name: "prometheus-trigger", Limit: 4 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	const capacity = 2300
	if err := e.Store.SetCapacity(ctx, still, true); err != nil {
		return err
	}
	err := e.Install(ctx, Plan{
		Overlay: "overlays/prometheus", Job: usualJob(jobSettings{capacity: capacity}), Without: []string{"controller", "external-scaler"},
	})
	if err != nil {
		return err
	}
	replicas := e.Follow("pipeline")
	if err := e.awaitPods(ctx, "pipeline", 1); err != nil {
		return err
	}
	// 1990 of 2300 is HARD for more than a minute, and less than the depth's
	// threshold of 2000.
	e.Load.Pin(e.itemURLs())
	e.Load.Add(1990)
	if err := replicas.Is(ctx, 2, 60*time.Second); err != nil {
		return fmt.Errorf("HARD alone: %w", err)
	}
	var values map[string]string
	err = e.Cluster.Await(ctx, cluster.Autoscalers, e.Namespace, "keda-hpa-pipeline", func(o *cluster.Object) bool {
		values = map[string]string{} // one without a value yet has no name either
		current, _, _ := unstructured.NestedSlice(o.Object, "status", "currentMetrics")
		for _, m := range current {
			m, _ := m.(map[string]any)
			name, _, _ := unstructured.NestedString(m, "external", "metric", "name")
			values[name], _, _ = unstructured.NestedString(m, "external", "current", "averageValue")
		}
		return len(values) == 2 && values["s1-prometheus"] == "500m" // HARD is 1, over two replicas
	})
	if err != nil {
		return fmt.Errorf("the autoscaler's metrics are %v: %w", values, err)
	}
	e.Say("HARD made 2 replicas, while the depth asks for one: %v", values)

	if err := e.awaitPods(ctx, "pipeline", 2); err != nil {
		return err
	}
	// Two full queues hold 4600, beyond the autoscaler's tolerance of a tenth
	// above what two replicas are for. The third replica is given nothing.
	e.Load.Pin(e.itemURLs())
	e.Load.Set(1000)
	if err := replicas.Is(ctx, 3, 60*time.Second); err != nil {
		return fmt.Errorf("depth of more than 4000: %w", err)
	}
	if err := replicas.Stays(ctx, 3, 3*cluster.HPASync); err != nil {
		return err
	}
	e.Say("the depth made 3 replicas")
	e.Load.Set(0)
	if err := e.Store.SetCapacity(ctx, 1e6, false); err != nil {
		return err
	}
	if err := replicas.Is(ctx, 1, 60*time.Second); err != nil {
		return err
	}
	e.Figure("replicas", path(replicas.All()))
	return e.allWritten(ctx)
}}
