package scenario

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/e2e/cluster"
)

const scalerComponent = "external-scaler"

// hpaMetrics lists the metrics in an autoscaler's spec, each with its target.
func hpaMetrics(o *cluster.Object) []string {
	metrics, _, _ := unstructured.NestedSlice(o.Object, "spec", "metrics")
	var all []string
	for _, m := range metrics {
		m, _ := m.(map[string]any)
		name, _, _ := unstructured.NestedString(m, "external", "metric", "name")
		for _, kind := range []string{"averageValue", "value"} {
			if target, found, _ := unstructured.NestedString(m, "external", "target", kind); found {
				all = append(all, name+" "+kind+" "+target)
			}
		}
	}
	return all
}

// ScalerLost: the scaler is not there when the ScaledObject is made, is killed,
// hangs, is restarted: the autoscaler keeps or regains the right spec, and
// replicas never fall because of it.
var ScalerLost = Scenario{Name: "scaler-lost", Limit: 6 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	e.Node.Hold(e.Namespace, scalerComponent)
	ours, err := e.installStill(ctx, Plan{})
	if err != nil {
		return err
	}
	err = e.Cluster.Await(ctx, cluster.ScaledObjects, e.Namespace, "pipeline-burst", func(o *cluster.Object) bool {
		return cluster.Condition(o, "Ready") == "False"
	})
	if err != nil {
		return err
	}
	e.Say("KEDA has seen the ScaledObject and no scaler")
	released := time.Now()
	e.Node.Release(e.Namespace, scalerComponent)
	if err := e.awaitSpec(ctx, "1k"); err != nil {
		return err
	}
	e.Figure("spec_after_late_start_seconds", round(time.Since(released).Seconds(), 1))
	n := int64(3)
	if err := ours.Is(ctx, n, 60*time.Second); err != nil {
		return err
	}
	e.Figure("scaled_after_late_start_seconds", round(time.Since(released).Seconds(), 1))
	e.Say("%d replicas after the scaler came late", n)

	for _, lost := range []struct {
		what       string
		begin, end func() error
	}{
		{"killed", func() error { e.Node.Hold(e.Namespace, scalerComponent); return nil }, func() error { e.Node.Release(e.Namespace, scalerComponent); return nil }},
		{"hangs", e.signalScaler(syscall.SIGSTOP), e.signalScaler(syscall.SIGCONT)},
		{"restarted", e.signalScaler(syscall.SIGTERM), func() error { return nil }},
	} {
		began := time.Now()
		if err := lost.begin(); err != nil {
			return err
		}
		if lost.what != "restarted" {
			// KEDA looks at the ScaledObject anew, and asks for the spec in vain.
			if err := e.touch(ctx, "pipeline-burst", 8); err != nil {
				return err
			}
			if err := ours.Stays(ctx, n, 15*time.Second); err != nil {
				return fmt.Errorf("%s: %w", lost.what, err)
			}
		}
		e.Load.Add(perStep)
		n++
		ended := time.Now()
		if err := lost.end(); err != nil {
			return err
		}
		if err := e.awaitSpec(ctx, "1k"); err != nil {
			return fmt.Errorf("%s: %w", lost.what, err)
		}
		if err := ours.Is(ctx, n, 60*time.Second); err != nil {
			return fmt.Errorf("%s, and back: %w", lost.what, err)
		}
		course := ours.Since(began)
		if slices.Min(course) < n-1 {
			return fmt.Errorf("%s: replicas fell: %v", lost.what, course)
		}
		e.Figure(lost.what, map[string]any{"least": slices.Min(course), "resumed_seconds": round(time.Since(ended).Seconds(), 1)})
		e.Say("%s: replicas stayed at %d, and went on to %d", lost.what, n-1, n)
		if err := e.touch(ctx, "pipeline-burst", 10); err != nil {
			return err
		}
	}
	e.Figure("replicas", path(ours.All()))
	return nil
}}

func (e *Env) signalScaler(signal syscall.Signal) func() error {
	return func() error { return e.Node.Signal(e.Namespace, scalerComponent, signal) }
}

// touch changes a ScaledObject's spec, so that KEDA reconciles it.
func (e *Env) touch(ctx context.Context, name string, maxReplicas int) error {
	patch := fmt.Sprintf(`{"spec":{"maxReplicaCount":%d}}`, maxReplicas)
	_, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).
		Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change ScaledObject %s: %w", name, err)
	}
	return nil
}
