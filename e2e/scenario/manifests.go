package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/e2e/servers"
)

// Manifests: the real server takes every object of every kustomization and of
// the chart, in a namespace that enforces the restricted pod security level;
// the chart renders the same objects; KEDA takes every ScaledObject.
var Manifests = Scenario{Name: "manifests", Limit: 5 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	module, err := servers.ModuleField(ctx, "prometheus-operator", "github.com/prometheus-operator/prometheus-operator", "Dir")
	if err != nil {
		return err
	}
	definitions := filepath.Join(module, "example", "prometheus-operator-crd")
	for _, kind := range []string{"servicemonitors", "prometheusrules"} {
		if err := e.Cluster.InstallDefinitions(ctx, filepath.Join(definitions, "monitoring.coreos.com_"+kind+".yaml")); err != nil {
			return err
		}
	}
	if err := e.refusesWhatIsWrong(ctx); err != nil {
		return err
	}
	rendered, err := e.everyKustomization(ctx)
	if err != nil {
		return err
	}
	objects, pods := 0, 0
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		for _, o := range rendered[name] {
			n, err := e.wouldTake(ctx, o)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			objects, pods = objects+1, pods+n
		}
	}
	e.Say("the server takes %d objects and %d pods of %d kustomizations", objects, pods, len(rendered))
	e.Figure("kustomizations", len(rendered))
	e.Figure("objects", objects)
	e.Figure("pods", pods)

	charted := 0
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		chart, err := e.chart(ctx, name)
		if err != nil {
			return err
		}
		for _, o := range chart {
			if _, err := e.wouldTake(ctx, o); err != nil {
				return fmt.Errorf("the chart as %s: %w", name, err)
			}
		}
		difference, err := compare(rendered[name], chart)
		if err != nil {
			return err
		}
		if difference != "" {
			return fmt.Errorf("the chart renders something else than the kustomization %s (-kustomize +helm):\n%s", name, difference)
		}
		charted += len(chart)
	}
	e.Say("the chart renders the same objects, %d of them", charted)
	e.Figure("chart_objects", charted)
	return e.kedaTakes(ctx, rendered)
}}

// refusesWhatIsWrong shows that the checks that follow can fail: the namespace
// refuses a pod that is not restricted, and the server an unknown field.
func (e *Env) refusesWhatIsWrong(ctx context.Context) error {
	for what, text := range map[string]string{
		"a privileged pod": `
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec: {containers: [{name: wrong, image: wrong, securityContext: {privileged: true}}]}`,
		"an unknown field": `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: wrong}
spec: {scaleTargetRef: {name: wrong}, pollInterval: 1, triggers: [{type: cpu, metadata: {}}]}`,
	} {
		all, err := cluster.ParseYAML([]byte(text))
		if err != nil {
			return err
		}
		all[0].SetNamespace(e.Namespace)
		if err := e.Cluster.DryRun(ctx, all[0]); err == nil {
			return fmt.Errorf("the server would take %s", what)
		}
	}
	return nil
}

// everyKustomization renders the base, the overlays and what has no overlay of
// its own, by the names that the chart's examples have.
func (e *Env) everyKustomization(ctx context.Context) (map[string][]*cluster.Object, error) {
	folder := filepath.Join(e.Deploy, "keda")
	overlays, err := os.ReadDir(filepath.Join(folder, "overlays"))
	if err != nil {
		return nil, err
	}
	folders := map[string]string{"base": "base"}
	for _, o := range overlays {
		folders[o.Name()] = filepath.Join("overlays", o.Name())
	}
	for name, components := range map[string][]string{
		"service-monitor": {"keda/components/service-monitor"},
		"monitoring":      {"prometheus", "grafana"},
	} {
		own, err := e.withComponents(name, components)
		if err != nil {
			return nil, err
		}
		if folders[name], err = filepath.Rel(folder, own); err != nil {
			return nil, err
		}
	}
	rendered := map[string][]*cluster.Object{}
	for name, folder := range folders {
		if rendered[name], err = e.Manifests(ctx, folder); err != nil {
			return nil, err
		}
	}
	return rendered, nil
}

// withComponents writes a kustomization of the base with components, which are
// folders in the folder of deployments, as a user's own overlay would be. It
// returns its folder.
func (e *Env) withComponents(name string, components []string) (string, error) {
	own := filepath.Join(e.dir, name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", err
	}
	up, err := filepath.Rel(own, e.Deploy)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "namespace: %s\nresources: [%s/keda/base]\ncomponents:\n", shippedNamespace, up)
	for _, c := range components {
		fmt.Fprintf(&text, "  - %s/%s\n", up, c)
	}
	return own, os.WriteFile(filepath.Join(own, "kustomization.yaml"), []byte(text.String()), 0o644)
}

// wouldTake asks the server whether it would take an object, and each pod that
// it would lead to.
func (e *Env) wouldTake(ctx context.Context, o *cluster.Object) (pods int, err error) {
	o = o.DeepCopy()
	if o.GetKind() == "Namespace" {
		o.SetName(e.Namespace)
	} else {
		o.SetNamespace(e.Namespace)
	}
	if err := e.Cluster.DryRun(ctx, o); err != nil {
		return 0, err
	}
	template, found, err := unstructured.NestedMap(o.Object, "spec", "template")
	if err != nil || !found {
		return 0, err
	}
	pod := &cluster.Object{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetName(o.GetName())
	pod.SetNamespace(e.Namespace)
	return 1, e.Cluster.DryRun(ctx, pod)
}

// chart renders the chart with the example of a name; the base is the chart
// with its defaults.
func (e *Env) chart(ctx context.Context, name string) ([]*cluster.Object, error) {
	folder := filepath.Join(e.Deploy, "helm", "headgate")
	args := []string{"template", "headgate", folder, "--namespace", shippedNamespace}
	if name != "base" {
		args = append(args, "--values", filepath.Join(folder, "examples", name+".yaml"))
	}
	command := exec.CommandContext(ctx, e.Programs["helm"], args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("render the chart as %s: %w: %s", name, err, stderr.Bytes())
	}
	return cluster.ParseYAML(text)
}

// compare returns how what the chart renders differs from a kustomization,
// apart from what each adds to mark its own.
func compare(kustomized, chart []*cluster.Object) (string, error) {
	a, err := plain(kustomized)
	if err != nil {
		return "", err
	}
	b, err := plain(chart)
	if err != nil {
		return "", err
	}
	return cmp.Diff(a, b), nil
}

// hashes are what kustomize puts behind the names of ConfigMaps.
var hashes = regexp.MustCompile(`"(settings|pipeline-job|external-scaler-web)-[a-z0-9]{10}"`)

// plain returns objects by kind and name, without the namespace itself, which
// helm makes or is given, and without labels and annotations of the renderers.
func plain(all []*cluster.Object) (map[string]any, error) {
	byName := map[string]any{}
	for _, o := range all {
		if o.GetKind() == "Namespace" {
			continue
		}
		data, err := json.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		var fields map[string]any
		if err := json.Unmarshal(hashes.ReplaceAll(data, []byte(`"$1"`)), &fields); err != nil {
			return nil, err
		}
		for _, path := range [][]string{
			{"metadata", "labels", "helm.sh/chart"},
			{"metadata", "labels", "app.kubernetes.io/managed-by"},
			{"metadata", "labels", "app.kubernetes.io/part-of"},
			{"spec", "template", "metadata", "annotations", "checksum/config"},
		} {
			unstructured.RemoveNestedField(fields, path...)
		}
		if labels, _, _ := unstructured.NestedMap(fields, "metadata", "labels"); len(labels) == 0 {
			unstructured.RemoveNestedField(fields, "metadata", "labels")
		}
		o := cluster.Object{Object: fields}
		name := o.GetKind() + " " + o.GetName()
		if byName[name] != nil {
			return nil, fmt.Errorf("%s is rendered twice", name)
		}
		byName[name] = fields
	}
	return byName, nil
}

// kedaTakes has KEDA make an autoscaler of each ScaledObject, one after the
// other, with a scaler that runs. The one with mutual TLS needs certificates
// and has a scenario of its own.
func (e *Env) kedaTakes(ctx context.Context, rendered map[string][]*cluster.Object) error {
	all, err := e.Render(ctx, Plan{Overlay: "overlays/external", Without: []string{"controller"}})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(o *cluster.Object) bool { return o.GetKind() == "ScaledObject" })
	if err := e.Cluster.Apply(ctx, all); err != nil {
		return err
	}
	var taken []string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		at := slices.IndexFunc(rendered[name], func(o *cluster.Object) bool { return o.GetKind() == "ScaledObject" })
		if at < 0 || strings.Contains(name, "tls") {
			continue
		}
		o := rendered[name][at].DeepCopy()
		if err := e.relocate(o); err != nil {
			return err
		}
		o.SetName(name) // each leaves an autoscaler, for a while
		if err := e.Cluster.Apply(ctx, []*cluster.Object{o}); err != nil {
			return err
		}
		waiting, cancel := within(ctx, 30*time.Second, "being taken by KEDA")
		defer cancel()
		err := e.Cluster.Await(waiting, cluster.ScaledObjects, e.Namespace, o.GetName(), func(o *cluster.Object) bool {
			return cluster.Condition(o, "Ready") == "True"
		})
		if err == nil {
			err = e.Cluster.Await(waiting, cluster.Autoscalers, e.Namespace, "keda-hpa-"+o.GetName(), func(o *cluster.Object) bool {
				return len(hpaMetrics(o)) > 0
			})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := e.Cluster.Delete(ctx, cluster.ScaledObjects, e.Namespace, o.GetName()); err != nil {
			return err
		}
		taken = append(taken, name)
	}
	e.Say("KEDA takes the ScaledObjects %s", strings.Join(taken, ", "))
	e.Figure("taken_by_keda", taken)
	return nil
}
