package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/e2e/cluster"
)

// lone is a Deployment of our own whose pods nobody runs, scaled by one trigger.
func (e *Env) lone(name, kind, metadata string) string {
	return scaled{
		name: name, replicas: 1, least: 1, most: 10, polling: 2 * time.Second, cool: time.Minute, trigger: e.ourTrigger(kind, metadata),
	}.yaml(e.Namespace)
}

// Explain: the scaler tells why it scaled: for a ScaledObject whose number is
// the arithmetic alone, and for one where a guard bit.
var Explain = Scenario{Name: "explain", Limit: 3 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	replicas, err := e.installStill(ctx, Plan{})
	if err != nil {
		return err
	}
	if err := replicas.Is(ctx, 3, 60*time.Second); err != nil {
		return err
	}
	// The least drain that is held to be possible, so that the arithmetic asks
	// for far more than the bound.
	_, err = e.Cluster.ApplyYAML(ctx, e.lone("guarded", "external",
		`coordinatorIds: bars, metric: desiredReplicas, drainWithin: 1s, drainPerReplica: "10", maxReplicas: "2", settle: 1s`))
	if err != nil {
		return err
	}
	guarded := e.Follow("guarded")
	if err := guarded.Is(ctx, 2, 60*time.Second); err != nil {
		return err
	}
	for _, object := range []struct {
		name, deployment, metric, guard string
		target                          float64
		replicas                        int64
	}{
		{"pipeline-burst", "pipeline-burst", "queueDepth", "", perStep, 3},
		{"guarded", "guarded", "desiredReplicas", "max", 1, 2},
	} {
		asking, cancel := within(ctx, 20*time.Second, "the explanation of "+object.name)
		defer cancel()
		var x explanation
		err := cluster.Poll(asking, func(ctx context.Context) error {
			if x, err = e.explainOne(ctx, object.name); err != nil {
				return err
			}
			var errs []error
			demand := func(holds bool, what string) {
				if !holds {
					errs = append(errs, errors.New(what))
				}
			}
			demand(x.Error == "" && x.Value != nil && x.Depth != nil && x.AgeSeconds != nil && x.Capacity != nil && x.Arrivals != nil && x.Drain != nil, "an input is missing")
			if len(errs) > 0 {
				return fmt.Errorf("%s: %w", describe(x), errors.Join(errs...))
			}
			demand(x.Metric == object.metric && x.Target == "bars" && len(x.Coordinators) == 1, "the target is another")
			demand(time.Since(x.At) < 2*cluster.HPASync, "it was answered long ago")
			demand(*x.AgeSeconds >= 0 && *x.AgeSeconds < 6, "the age is wrong")
			demand(x.Replicas == 4, "the replicas that write are not four") // one that stays, and three of the burst
			demand(x.Autoscaler.Target == object.target, "the target value is wrong")
			demand(int64(x.Autoscaler.Replicas) == object.replicas, "the autoscaler's arithmetic is wrong")
			demand(x.Guard == object.guard, "the guard is another")
			demand(object.metric != "queueDepth" || *x.Value == *x.Depth, "the value is not the depth")
			demand(object.metric != "desiredReplicas" || x.Plan != nil && *x.Plan.Wanted > 100, "the plan is wrong")
			if len(errs) > 0 {
				return fmt.Errorf("%s: %w", describe(x), errors.Join(errs...))
			}
			return nil
		})
		if err != nil {
			return err
		}
		// What the autoscaler itself was told is what is explained.
		hpa, err := e.Cluster.Dynamic.Resource(cluster.Autoscalers).Namespace(e.Namespace).Get(ctx, "keda-hpa-"+object.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		wants, _, _ := unstructured.NestedInt64(hpa.Object, "status", "desiredReplicas")
		if wants != object.replicas {
			return fmt.Errorf("the autoscaler of %s wants %d replicas, and the explanation says %d", object.name, wants, object.replicas)
		}
		e.Say("%s", describe(x))
		e.Figure(object.name, map[string]any{
			"value": *x.Value, "target": x.Autoscaler.Target, "age_seconds": round3(*x.AgeSeconds),
			"replicas": x.Autoscaler.Replicas, "guard": x.Guard,
		})
	}
	for query, want := range map[string]int{"": http.StatusBadRequest, "?scaledObject=" + e.Namespace + "/nobody": http.StatusNotFound} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.scalerHTTP()+"/v1/explain"+query, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != want {
			return fmt.Errorf("/v1/explain%s is answered with %s, want %d", query, response.Status, want)
		}
	}
	// A number that a user can check by hand.
	depth, err := e.Prometheus.Value(ctx, depthQuery)
	if err != nil {
		return err
	}
	if n := int64(math.Ceil(depth / perStep)); n != replicas.Now() {
		return fmt.Errorf("%v items over %d make %d replicas, and there are %d", depth, perStep, n, replicas.Now())
	}
	return nil
}}

// WrongKey: a key that is misspelt shows up on the ScaledObject, with the right
// ones, for both kinds of trigger.
var WrongKey = Scenario{Name: "wrong-key", Limit: 2 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	if _, err := e.installStill(ctx, Plan{}); err != nil {
		return err
	}
	told := map[string]string{}
	for _, kind := range []string{"external", "external-push"} {
		_, err := e.Cluster.ApplyYAML(ctx, e.lone("wrong-"+kind, kind, `coordinatorIds: bars, metric: queueDepth, targetValu: "100"`))
		if err != nil {
			return err
		}
		telling, cancel := within(ctx, 30*time.Second, "telling of the wrong key")
		defer cancel()
		if told[kind], err = e.awaitTelling(telling, "wrong-"+kind, `targetValu is "100"`, "targetValue", "activationValue", "coordinatorIds"); err != nil {
			return err
		}
		e.Say("%s: %s", kind, told[kind])
	}
	e.Figure("told", told)
	return nil
}}
