package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// Object is one Kubernetes object of any kind.
type Object = unstructured.Unstructured

// ParseYAML reads objects from a stream of YAML documents.
func ParseYAML(data []byte) ([]*Object, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	var all []*Object
	for {
		var raw map[string]any
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read objects: %w", err)
		}
		if len(raw) > 0 {
			all = append(all, &Object{Object: raw})
		}
	}
}

// ApplyYAML applies the objects of a stream of YAML documents.
func (c *Cluster) ApplyYAML(ctx context.Context, text string) ([]*Object, error) {
	all, err := ParseYAML([]byte(text))
	if err != nil {
		return nil, err
	}
	return all, c.Apply(ctx, all)
}

// Apply applies objects on the server's side, as kubectl does, namespaces
// first.
func (c *Cluster) Apply(ctx context.Context, all []*Object) error {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *Object) int { return rank(a) - rank(b) })
	for _, o := range all {
		if err := c.apply(ctx, c.Dynamic, o, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// DryRun asks the server whether it would take an object, without keeping it. A
// warning counts as a refusal.
func (c *Cluster) DryRun(ctx context.Context, o *Object) error {
	var heard warnings
	config := rest.CopyConfig(c.config)
	config.WarningHandler = &heard
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := c.apply(ctx, client, o, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		return err
	}
	if len(heard) > 0 {
		return fmt.Errorf("apply %s %s/%s: the server warns: %s", o.GetKind(), o.GetNamespace(), o.GetName(), strings.Join(heard, "; "))
	}
	return nil
}

// warnings collects what the server warns of.
type warnings []string

// HandleWarningHeader keeps one warning.
func (w *warnings) HandleWarningHeader(_ int, _, text string) { *w = append(*w, text) }

func rank(o *Object) int {
	switch o.GetKind() {
	case "Namespace", "CustomResourceDefinition":
		return 0
	case "ConfigMap", "Secret", "ServiceAccount", "Service":
		return 1
	case "ScaledObject":
		return 3
	}
	return 2
}

func (c *Cluster) apply(ctx context.Context, client dynamic.Interface, o *Object, options metav1.PatchOptions) error {
	resource, err := c.resource(client, o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	options.FieldManager, options.Force, options.FieldValidation = "headgate-scenarios", new(true), metav1.FieldValidationStrict
	if _, err := resource.Patch(ctx, o.GetName(), types.ApplyPatchType, data, options); err != nil {
		return fmt.Errorf("apply %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
	}
	return nil
}

// resource finds where objects of a kind are kept. Kinds that were defined a
// moment ago are looked for anew.
func (c *Cluster) resource(client dynamic.Interface, kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("find the kind %s: %w", kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return client.Resource(mapping.Resource), nil
	}
	return client.Resource(mapping.Resource).Namespace(namespace), nil
}

// InstallDefinitions applies the custom resource definitions in the files that
// match a pattern, and waits until the server serves them.
func (c *Cluster) InstallDefinitions(ctx context.Context, pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("no resource definitions at %s", pattern)
	}
	var all []*Object
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		some, err := ParseYAML(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, some...)
	}
	if err := c.Apply(ctx, all); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, o := range all {
		err := c.Await(ctx, Definitions, "", o.GetName(), func(o *Object) bool { return Condition(o, "Established") == "True" })
		if err != nil {
			return err
		}
	}
	return nil
}

// Kinds of objects that scenarios wait for.
var (
	Definitions   = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	ScaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}
	Deployments   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	Autoscalers   = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	Events        = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// Await waits until an object is as wanted, by watching it. It need not exist
// yet.
func (c *Cluster) Await(ctx context.Context, resource schema.GroupVersionResource, namespace, name string, wanted func(*Object) bool) error {
	var last *Object
	err := c.Watch(ctx, resource, namespace, name, func(o *Object) bool {
		last = o
		return o != nil && wanted(o)
	})
	if err != nil {
		state := "which is not there"
		if last != nil {
			status, _ := json.Marshal(last.Object["status"])
			spec, _ := json.Marshal(last.Object["spec"])
			state = fmt.Sprintf("last seen with spec %s and status %s", spec, status)
		}
		return fmt.Errorf("wait for %s %s/%s, %s: %w", resource.Resource, namespace, name, state, err)
	}
	return nil
}

// Watch calls seen with an object as it is and after every change, nil once it
// is deleted, until seen returns true or ctx has ended.
func (c *Cluster) Watch(ctx context.Context, resource schema.GroupVersionResource, namespace, name string, seen func(*Object) bool) error {
	var client dynamic.ResourceInterface = c.Dynamic.Resource(resource)
	if namespace != "" {
		client = c.Dynamic.Resource(resource).Namespace(namespace)
	}
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	list := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.Watch(ctx, o)
		},
	}
	_, err := toolswatch.UntilWithSync(ctx, list, &Object{}, nil, func(e watch.Event) (bool, error) {
		o, is := e.Object.(*Object)
		if !is {
			return false, nil
		}
		if e.Type == watch.Deleted {
			o = nil
		}
		return seen(o), nil
	})
	return err
}

// Condition returns the status of one of an object's conditions; empty where
// there is none.
func Condition(o *Object, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, is := c.(map[string]any); is && c["type"] == kind {
			status, _ := c["status"].(string)
			return status
		}
	}
	return ""
}

// Delete deletes an object. One that is not there is no error.
func (c *Cluster) Delete(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) error {
	err := c.Dynamic.Resource(resource).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s/%s: %w", resource.Resource, namespace, name, err)
	}
	return nil
}

// Change is one value of a number that is followed, from a time on.
type Change struct {
	At    time.Time
	Value int64
}
