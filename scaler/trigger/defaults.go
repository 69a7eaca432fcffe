package trigger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
)

// Defaults are what triggers have where their metadata says nothing. They come
// from a file, so that a target value can be changed for many ScaledObjects
// without touching them. The zero Defaults say nothing.
type Defaults struct {
	metrics map[Metric]map[string]string
	objects map[string]map[string]string // by namespace/name
}

// ParseDefaults reads a YAML file:
//
//	metrics:              # for every trigger of a metric
//	  queueDepth: {targetValue: 500}
//	scaledObjects:        # for the triggers of one ScaledObject; goes before metrics
//	  shop/pipeline: {targetValue: 300, activationValue: 10}
//
// The keys are those of the metadata, without the ones that choose a target or
// a metric. All that is wrong is reported, joined, each as an *invalid.Value.
func ParseDefaults(data []byte) (Defaults, error) {
	var file struct {
		Metrics map[Metric]map[string]yaml.Node `yaml:"metrics"`
		Objects map[string]map[string]yaml.Node `yaml:"scaledObjects"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	err := decoder.Decode(&file)
	if err == nil && decoder.Decode(new(yaml.Node)) != io.EOF {
		err = errors.New("there is more than one document")
	}
	if err != nil && err != io.EOF {
		return Defaults{}, &invalid.Value{Field: "defaults file", Got: "wrong", Want: "a YAML mapping with the keys metrics and scaledObjects: " + err.Error()}
	}
	d := Defaults{metrics: map[Metric]map[string]string{}, objects: map[string]map[string]string{}}
	var errs []error
	for _, metric := range slices.Sorted(maps.Keys(file.Metrics)) {
		kind, known := metric.Kind()
		if !known {
			errs = append(errs, invalid.New("metrics", string(metric), "one of "+strings.Join(metricNames(), ", ")))
			continue
		}
		values, err := readDefaults("metrics."+string(metric), file.Metrics[metric], kind)
		errs = append(errs, err)
		d.metrics[metric] = values
	}
	for _, object := range slices.Sorted(maps.Keys(file.Objects)) {
		namespace, name, _ := strings.Cut(object, "/")
		if namespace == "" || name == "" || strings.Contains(name, "/") {
			errs = append(errs, invalid.New("scaledObjects", object, "namespace/name"))
			continue
		}
		values, err := readDefaults("scaledObjects."+object, file.Objects[object], Kinds()...)
		errs = append(errs, err)
		d.objects[object] = values
	}
	if err := errors.Join(errs...); err != nil {
		return Defaults{}, err
	}
	return d, nil
}

// Equal reports whether both say the same.
func (d Defaults) Equal(other Defaults) bool {
	return maps.EqualFunc(d.metrics, other.metrics, maps.Equal) && maps.EqualFunc(d.objects, other.objects, maps.Equal)
}

// readDefaults reads one mapping; its keys may be those of any of the kinds.
func readDefaults(where string, nodes map[string]yaml.Node, kinds ...Kind) (map[string]string, error) {
	allowed := slices.DeleteFunc(keyNames(kinds...), func(name string) bool {
		return name == keyCoordinators || name == keySelector || name == keyMetric
	})
	values := map[string]string{}
	var errs []error
	t := fresh(Kind{Sizes: true})
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		node, field := nodes[name], where+"."+name
		i := slices.IndexFunc(keys(), func(k key) bool { return k.name == name })
		switch {
		case !slices.Contains(allowed, name):
			errs = append(errs, invalid.New(field, node.Value, "one of the keys "+strings.Join(allowed, ", ")))
		case node.Kind != yaml.ScalarNode:
			errs = append(errs, invalid.New(field, "a mapping or a list", keys()[i].want))
		case !keys()[i].set(&t, strings.TrimSpace(node.Value)):
			errs = append(errs, invalid.New(field, node.Value, keys()[i].want))
		default:
			values[name] = strings.TrimSpace(node.Value)
		}
	}
	if t.Replicas.Min > t.Replicas.Max {
		errs = append(errs, invalid.New(where+".minReplicas", t.Replicas.Min, fmt.Sprintf("at most maxReplicas, which is %d", t.Replicas.Max)))
	}
	return values, errors.Join(errs...)
}

// set gives the trigger the default of one key, if there is one.
func (d Defaults) set(t *Trigger, k key, scaledObject string) {
	value, said := d.objects[scaledObject][k.name]
	if !said {
		value, said = d.metrics[t.Metric][k.name]
	}
	if said {
		k.set(t, value) // it was checked when it was read
	}
}
