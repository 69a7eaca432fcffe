package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/headgate/headgate/e2e/cluster"
)

var (
	listAll   = metav1.ListOptions{}
	deleteNow = metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
)

// Names that the manifests have, and what stands for them here.
const (
	shippedNamespace  = "headgate"
	shippedPrometheus = "http://prometheus-operated.monitoring.svc:9090"
	shippedPipeline   = "pipeline.headgate.svc"
	shippedScaler     = "external-scaler.headgate.svc"
)

// Plan says how a scenario departs from a shipped overlay. What a user would
// set by a patch is set by an edit of the same field.
type Plan struct {
	Overlay  string            // under deploy/keda
	Job      string            // the pipelines' job file; the usual one where empty
	Settings map[string]string // of the controller and the scaler
	Edits    []Edit
	Without  []string // names of Deployments that are left away, with their ScaledObjects
}

// Edit changes objects before they are applied.
type Edit func(o *cluster.Object) error

// Install renders an overlay, changes it as planned, and applies it.
func (e *Env) Install(ctx context.Context, p Plan) error {
	all, err := e.Render(ctx, p)
	if err != nil {
		return err
	}
	return e.Cluster.Apply(ctx, all)
}

// Render renders an overlay and changes it as planned.
func (e *Env) Render(ctx context.Context, p Plan) ([]*cluster.Object, error) {
	all, err := e.Manifests(ctx, p.Overlay)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o *cluster.Object) bool {
		scales := o.GetKind() == "Deployment" || o.GetKind() == "ScaledObject"
		return o.GetKind() == "Namespace" || scales && slices.Contains(p.Without, o.GetName())
	})
	job := p.Job
	if job == "" {
		job = usualJob(jobSettings{})
	}
	settings := map[string]string{"HEADGATE_SCALER_INTERVAL": "1s", "HEADGATE_SCALER_STALE_AFTER": "6s"}
	for name, value := range p.Settings {
		settings[name] = value
	}
	edits := slices.Concat([]Edit{
		e.relocate,
		on("ConfigMap", "pipeline-job", set(job, "data", "job.yaml")),
		on("ConfigMap", "settings", func(o *cluster.Object) error {
			for name, value := range settings {
				if err := set(value, "data", name)(o); err != nil {
					return err
				}
			}
			return nil
		}),
		// A replica asks for its own thread of the machine; two controllers
		// would only look at one another.
		on("Deployment", "controller", set(int64(1), "spec", "replicas")),
	}, p.Edits)
	for _, o := range all {
		for _, edit := range edits {
			if err := edit(o); err != nil {
				return nil, fmt.Errorf("change %s %s: %w", o.GetKind(), o.GetName(), err)
			}
		}
	}
	secret := &cluster.Object{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata":   map[string]any{"name": "store", "namespace": e.Namespace},
		"stringData": map[string]any{"url": e.Store.URL + "&pool_max_conns=2"},
	}}
	return append(all, secret), nil
}

// relocate moves an object into the scenario's namespace and points it at what
// stands for its neighbours.
func (e *Env) relocate(o *cluster.Object) error {
	data, err := json.Marshal(o.Object)
	if err != nil {
		return err
	}
	text := strings.NewReplacer(
		shippedPrometheus, e.Prometheus.URL,
		shippedPipeline, e.Node.Address(e.Namespace, "pipeline"),
		shippedScaler, e.Node.Address(e.Namespace, "external-scaler"),
	).Replace(string(data))
	o.Object = nil
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		return err
	}
	// Numbers of JSON are float64; Kubernetes' helpers want int64.
	o.Object = integers(o.Object).(map[string]any)
	o.SetNamespace(e.Namespace)
	return nil
}

func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = integers(value)
		}
	case []any:
		for i, value := range v {
			v[i] = integers(value)
		}
	case float64:
		if v == math.Trunc(v) {
			return int64(v)
		}
	}
	return v
}

// on limits an edit to one kind and name. The hash that kustomize puts behind
// the names of ConfigMaps is passed over, and an empty name is any.
func on(kind, name string, edits ...Edit) Edit {
	return func(o *cluster.Object) error {
		if o.GetKind() != kind || name != "" && o.GetName() != name && !hashed(o.GetName(), name) {
			return nil
		}
		for _, edit := range edits {
			if err := edit(o); err != nil {
				return err
			}
		}
		return nil
	}
}

func hashed(name, base string) bool {
	hash, found := strings.CutPrefix(name, base+"-")
	return found && len(hash) == 10 && !strings.Contains(hash, "-")
}

// set sets a field.
func set(value any, path ...string) Edit {
	return func(o *cluster.Object) error {
		return unstructured.SetNestedField(o.Object, value, path...)
	}
}

// remove takes a field away.
func remove(path ...string) Edit {
	return func(o *cluster.Object) error {
		unstructured.RemoveNestedField(o.Object, path...)
		return nil
	}
}

// trigger changes the metadata of a ScaledObject's trigger.
func trigger(index int, metadata map[string]string) Edit {
	return func(o *cluster.Object) error {
		triggers, err := nested(o, "spec", "triggers")
		if err != nil {
			return err
		}
		into := triggers[index].(map[string]any)["metadata"].(map[string]any)
		for key, value := range metadata {
			into[key] = value
		}
		return unstructured.SetNestedSlice(o.Object, triggers, "spec", "triggers")
	}
}

func nested(o *cluster.Object, path ...string) ([]any, error) {
	slice, _, err := unstructured.NestedSlice(o.Object, path...)
	return slice, err
}

// quick makes a ScaledObject follow without the waits that keep a real fleet
// calm.
func quick(o *cluster.Object) error {
	behaviour := map[string]any{}
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		behaviour[direction] = map[string]any{
			"stabilizationWindowSeconds": int64(0),
			"policies":                   []any{map[string]any{"type": "Pods", "value": int64(100), "periodSeconds": int64(1)}},
		}
	}
	return unstructured.SetNestedMap(o.Object, behaviour, "spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
}

// jobSettings say how the usual job differs; zero values stand for the usual.
type jobSettings struct {
	capacity int     // of the queue, items
	soft     string  // mark above which the level is SOFT
	hard     string  // mark at which the level is HARD
	base     float64 // rate of the provider, items/s
	feedback bool
}

// usualJob is a job file: items by HTTP into the scenario's store, with batches
// so small that a change of the store's capacity is felt at once.
func usualJob(s jobSettings) string {
	if s.capacity == 0 {
		s.capacity = 10_000
	}
	if s.base == 0 {
		s.base = 100_000
	}
	if s.soft == "" {
		s.soft, s.hard = "50%", "80%"
	}
	return fmt.Sprintf(`mode: dag
name: bars
when_done: stay
dag:
  nodes:
    items: {type: http, wait: 300ms}
    gate: {type: gate, provider: ibkr}
    queue:
      type: write_queue
      capacity: %d
      soft_enter: %s
      hard_enter: %s
      workers: 1
      batch_size: 20
      batch_wait: 50ms
      dead_letter_path: /var/lib/headgate/dead-letters.ndjson
      drain_timeout: 20s
    store: {type: postgres}
  edges:
    - [items, gate]
    - [gate, queue]
    - [queue, store]
providers:
  ibkr: {base_per_second: %g, burst: 5000, start_in_fail_mode: false, fail_mode: open}
feedback:
  enable_feedback: %t
`, s.capacity, s.soft, s.hard, s.base, s.feedback)
}

// within is a context that ends after a while, with an error that says what was
// waited for.
func within(ctx context.Context, limit time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took more than %v", what, limit))
}

func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}
