package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/headgate/headgate/e2e/cluster"
)

// tellings are what a user sees on a ScaledObject: its conditions and its
// events, one text each.
func (e *Env) tellings(ctx context.Context, name string) ([]string, error) {
	o, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var all []string
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, is := c.(map[string]any); is {
			all = append(all, fmt.Sprintf("condition %v is %v: %v: %v", c["type"], c["status"], c["reason"], c["message"]))
		}
	}
	events, err := e.Cluster.Client.CoreV1().Events(e.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	if err != nil {
		return nil, err
	}
	for _, event := range events.Items {
		all = append(all, fmt.Sprintf("event %s %s: %s", event.Type, event.Reason, event.Message))
	}
	return all, nil
}

// awaitTelling waits until a ScaledObject tells something that holds all of the
// given parts, and returns it.
func (e *Env) awaitTelling(ctx context.Context, name string, parts ...string) (told string, err error) {
	err = cluster.Poll(ctx, func(ctx context.Context) error {
		all, err := e.tellings(ctx, name)
		if err != nil {
			return err
		}
		for _, text := range all {
			has := true
			for _, part := range parts {
				has = has && strings.Contains(text, part)
			}
			if has {
				told = text
				return nil
			}
		}
		return fmt.Errorf("ScaledObject %s tells of no %q:\n%s", name, parts, strings.Join(all, "\n"))
	})
	return told, err
}

// awaitLog waits until KEDA's operator logs something about a ScaledObject that
// holds a text, and returns the error that it logs.
func (e *Env) awaitLog(ctx context.Context, name, text string) (logged string, err error) {
	path := filepath.Join(e.Cluster.Logs(), "keda-operator.log")
	err = cluster.Poll(ctx, func(context.Context) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, fmt.Sprintf("%q", e.Namespace)) && strings.Contains(line, fmt.Sprintf("%q", name)) && strings.Contains(line, text) {
				var fields struct {
					Error string `json:"error"`
				}
				at := max(0, strings.IndexByte(line, '{'))
				if err := json.Unmarshal([]byte(line[at:]), &fields); err != nil {
					return cluster.Final(fmt.Errorf("read the operator's log line %s: %w", line, err))
				}
				logged = fields.Error
				return nil
			}
		}
		return fmt.Errorf("the operator does not log %q about %s", text, name)
	})
	return logged, err
}
