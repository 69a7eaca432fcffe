package backtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/promtest/autoscaler"
	"github.com/headgate/headgate/scaler"
	"github.com/headgate/headgate/scaler/trigger"
)

// scaledObject is what counts of one of KEDA's ScaledObjects.
type scaledObject struct {
	name     string // namespace/name
	config   autoscaler.Config
	triggers []objectTrigger // those that ask Headgate, at least one
	passed   []string        // types of the others
}

// objectTrigger is one trigger that asks Headgate.
type objectTrigger struct {
	replay       *scaler.Replay
	averageValue bool
}

// readScaledObjects reads the manifests of ScaledObjects in a file; those of
// other kinds are passed over. The error is an *fs.PathError, or joins an
// *invalid.Value for everything that is wrong, with the file and the line.
func readScaledObjects(file string, defaults trigger.Defaults, staleAfter time.Duration) ([]scaledObject, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseScaledObjects(file, data, defaults, staleAfter)
}

// parseScaledObjects is readScaledObjects with the file's contents given.
func parseScaledObjects(file string, data []byte, defaults trigger.Defaults, staleAfter time.Duration) ([]scaledObject, error) {
	m := &manifest{file: file, defaults: defaults, staleAfter: staleAfter}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalid.New(file, strings.Join(strings.Fields(err.Error()), " "), "YAML documents, ScaledObjects among them")
		}
		if len(document.Content) == 1 {
			m.object(document.Content[0])
		}
	}
	if len(m.objects) == 0 && len(m.errs) == 0 {
		return nil, invalid.Missing(file+": kind", "ScaledObject, in one document at least")
	}
	return m.objects, errors.Join(m.errs...)
}

// manifest reads one file.
type manifest struct {
	file       string
	defaults   trigger.Defaults
	staleAfter time.Duration

	objects []scaledObject
	errs    []error
}

// wrong notes a value that is not what is wanted.
func (m *manifest) wrong(n *yaml.Node, field, want string) {
	got := any(n.Value)
	if n.Kind != yaml.ScalarNode {
		got = kinds[n.Kind]
	}
	m.errs = append(m.errs, invalid.New(fmt.Sprintf("%s: line %d: %s", m.file, n.Line, field), got, want))
}

// described is a value that an error shows without quotes.
type described string

var kinds = map[yaml.Kind]described{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.AliasNode: "an alias"}

// at is the value of a key, or of a key of that, and so on; nil where it is not
// there or is null.
func at(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		i := 0
		for i < len(n.Content) && n.Content[i].Value != key {
			i += 2
		}
		if i+1 >= len(n.Content) {
			return nil
		}
		if n = n.Content[i+1]; n.Kind == yaml.AliasNode {
			n = n.Alias
		}
	}
	if n != nil && n.Tag == "!!null" {
		return nil
	}
	return n
}

// text is a text, or otherwise where there is none.
func (m *manifest) text(n *yaml.Node, field, otherwise string, among ...string) string {
	switch {
	case n == nil:
		return otherwise
	case n.Kind != yaml.ScalarNode || len(among) > 0 && !slices.Contains(among, n.Value):
		want := "a text"
		if len(among) > 0 {
			want = "one of " + strings.Join(among, ", ")
		}
		m.wrong(n, field, want)
		return otherwise
	}
	return n.Value
}

// whole is a whole number, or otherwise where there is none.
func (m *manifest) whole(n *yaml.Node, field string, least, most, otherwise int) int {
	if n == nil {
		return otherwise
	}
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < least || v > most {
		m.wrong(n, field, fmt.Sprintf("a whole number from %d to %d", least, most))
		return otherwise
	}
	return v
}

// list is the items of a list.
func (m *manifest) list(n *yaml.Node, field string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.wrong(n, field, "a list")
		return nil
	}
	return n.Content
}

// mostReplicas and mostSeconds are beyond what anyone has.
const (
	mostReplicas = 1_000_000
	mostSeconds  = 7 * 24 * 3600
)

// object reads one document.
func (m *manifest) object(n *yaml.Node) {
	if kind := at(n, "kind"); kind == nil || kind.Value != "ScaledObject" {
		return
	}
	faults := len(m.errs)
	spec := at(n, "spec")
	o := scaledObject{name: m.text(at(n, "metadata", "namespace"), "namespace", "default") + "/" + m.text(at(n, "metadata", "name"), "name", "unnamed")}
	// KEDA's own defaults.
	o.config.Bounds = autoscaler.Bounds{
		Min: m.whole(at(spec, "minReplicaCount"), "minReplicaCount", 0, mostReplicas, 0),
		Max: m.whole(at(spec, "maxReplicaCount"), "maxReplicaCount", 1, mostReplicas, 100),
	}
	if b := o.config.Bounds; b.Min > b.Max {
		m.wrong(at(spec, "minReplicaCount"), "minReplicaCount", fmt.Sprintf("at most maxReplicaCount, which is %d", b.Max))
	}
	o.config.CoolDown = time.Duration(m.whole(at(spec, "cooldownPeriod"), "cooldownPeriod", 0, mostSeconds, 300)) * time.Second
	behaviour := at(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
	standard := autoscaler.DefaultBehaviour()
	o.config.Behaviour = autoscaler.Behaviour{
		Up:   m.rules(at(behaviour, "scaleUp"), standard.Up),
		Down: m.rules(at(behaviour, "scaleDown"), standard.Down),
	}
	for _, t := range m.list(at(spec, "triggers"), "triggers") {
		m.trigger(&o, t)
	}
	if len(o.triggers) == 0 && len(m.errs) == faults {
		m.errs = append(m.errs, invalid.New(fmt.Sprintf("%s: line %d: triggers of %s", m.file, n.Line, o.name), strings.Join(o.passed, ", "),
			"at least one of type external or external-push"))
	}
	if slices.ContainsFunc(m.objects, func(other scaledObject) bool { return other.name == o.name }) {
		m.wrong(n, "name", "another than "+o.name+", which stands there twice")
	}
	if len(m.errs) == faults {
		m.objects = append(m.objects, o)
	}
}

// rules reads the scalingRules of one direction.
func (m *manifest) rules(n *yaml.Node, standard autoscaler.Rules) autoscaler.Rules {
	r := standard
	window := m.whole(at(n, "stabilizationWindowSeconds"), "stabilizationWindowSeconds", 0, 3600, int(standard.Window/time.Second))
	r.Window = time.Duration(window) * time.Second
	r.Select = autoscaler.Select(m.text(at(n, "selectPolicy"), "selectPolicy", string(standard.Select), "Max", "Min", "Disabled"))
	if policies := m.list(at(n, "policies"), "policies"); len(policies) > 0 {
		r.Policies = nil
		for _, p := range policies {
			r.Policies = append(r.Policies, autoscaler.Policy{
				Percent: m.text(at(p, "type"), "type", "Pods", "Pods", "Percent") == "Percent",
				Value:   m.whole(at(p, "value"), "value", 1, mostReplicas, 1),
				Period:  time.Duration(m.whole(at(p, "periodSeconds"), "periodSeconds", 1, 1800, 15)) * time.Second,
			})
		}
	}
	return r
}

// trigger reads one trigger.
func (m *manifest) trigger(o *scaledObject, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	kind := m.text(at(n, "type"), "type", "")
	if kind != "external" && kind != "external-push" {
		o.passed = append(o.passed, kind)
		return
	}
	metadata, lines := map[string]string{}, map[string]*yaml.Node{}
	if values := at(n, "metadata"); values != nil && values.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(values.Content); i += 2 {
			key, value := values.Content[i], values.Content[i+1]
			if value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			metadata[key.Value], lines[key.Value] = m.text(value, key.Value, ""), value
		}
	}
	replay, err := scaler.NewReplay(o.name, metadata, m.defaults, m.staleAfter)
	for _, v := range invalid.All(err) {
		located, place := *v, n
		if value := lines[v.Field]; value != nil {
			place = value
		}
		located.Field = fmt.Sprintf("%s: line %d: %s", m.file, place.Line, v.Field)
		m.errs = append(m.errs, &located)
	}
	metricType := m.text(at(n, "metricType"), "metricType", "AverageValue", "AverageValue", "Value")
	o.triggers = append(o.triggers, objectTrigger{replay, metricType == "AverageValue"})
}
