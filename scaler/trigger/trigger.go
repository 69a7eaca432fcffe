// Package trigger reads what a KEDA trigger asks for: the metadata of an
// external trigger, over the defaults of a file. Metadata chooses a target and
// a metric, never free PromQL.
package trigger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/scaler/replicas"
)

// Aggregation says what several coordinators are together.
type Aggregation string

const (
	Sum Aggregation = "sum" // one queue: depths, capacities and rates add up
	Max Aggregation = "max" // the one with the largest value counts
)

// Trigger is what one trigger of a ScaledObject asks for.
type Trigger struct {
	Kind

	// Coordinators are ids, or patterns as path.Match has them; Selector
	// chooses by labels. Exactly one of the two is set.
	Coordinators []string
	Selector     Selector
	Aggregation  Aggregation

	Target     float64       // > 0
	Activation float64       // active while the value is above it; of RelativePressure while the depth is
	StaleAfter time.Duration // age at which a sample is no longer answered with; 0 is the scaler's own
	Longest    float64       // seconds that DrainTime tells at most

	Replicas replicas.Config // of the metrics that size a fleet
}

// Target's keys.
const (
	keyCoordinators = "coordinatorIds"
	keySelector     = "selector"
	keyMetric       = "metric"
)

// key is one key of the metadata.
type key struct {
	name  string
	want  string // what would be right
	suits func(Kind) bool
	set   func(t *Trigger, value string) bool // false where the value is wrong
}

// keys lists every key, in the order in which errors name them.
func keys() []key {
	every := func(Kind) bool { return true }
	sizing := func(k Kind) bool { return k.Sizes }
	return []key{
		{keyCoordinators, "ids, or patterns such as bars-*, separated by commas", every, func(t *Trigger, v string) bool {
			t.Coordinators = splitList(v)
			bad := func(id string) bool { _, err := path.Match(id, ""); return err != nil }
			return len(t.Coordinators) > 0 && !slices.ContainsFunc(t.Coordinators, bad)
		}},
		{keySelector, wantSelector, every, func(t *Trigger, v string) (ok bool) {
			t.Selector, ok = parseSelector(v)
			return ok
		}},
		{"aggregation", "sum or max", func(k Kind) bool { return !k.Sizes }, func(t *Trigger, v string) bool {
			t.Aggregation = Aggregation(v)
			return t.Aggregation == Sum || t.Aggregation == Max
		}},
		{keyMetric, "one of " + strings.Join(metricNames(), ", "), every, func(t *Trigger, v string) bool {
			_, ok := Metric(v).Kind() // it was taken already
			return ok
		}},
		number("targetValue", 0.001, 1e12, every, func(t *Trigger) *float64 { return &t.Target }),
		number("activationValue", 0, 1e12, every, func(t *Trigger) *float64 { return &t.Activation }),
		duration("staleAfter", time.Second, time.Hour, every, func(t *Trigger) *time.Duration { return &t.StaleAfter }),
		number("maxSeconds", 1, 1e9, func(k Kind) bool { return k.Metric == DrainTime }, func(t *Trigger) *float64 { return &t.Longest }),
		duration("drainWithin", time.Second, 24*time.Hour, sizing, func(t *Trigger) *time.Duration { return &t.Replicas.DrainWithin }),
		number("drainPerReplica", 0, 1e12, sizing, func(t *Trigger) *float64 { return &t.Replicas.PerReplicaPerSecond }),
		whole("minReplicas", 0, 100_000, sizing, func(t *Trigger) *int { return &t.Replicas.Min }),
		whole("maxReplicas", 1, 100_000, sizing, func(t *Trigger) *int { return &t.Replicas.Max }),
		number("growth", 1.1, 100, sizing, func(t *Trigger) *float64 { return &t.Replicas.Growth }),
		duration("settle", time.Second, time.Hour, sizing, func(t *Trigger) *time.Duration { return &t.Replicas.Settle }),
		whole("tries", 1, 100, sizing, func(t *Trigger) *int { return &t.Replicas.Tries }),
		duration("retryAfter", time.Second, 24*time.Hour, sizing, func(t *Trigger) *time.Duration { return &t.Replicas.RetryAfter }),
		{"whenStoreBound", "hold or stepBack", sizing, func(t *Trigger, v string) bool {
			t.Replicas.StepBack = v == "stepBack"
			return v == "hold" || v == "stepBack"
		}},
	}
}

// fresh is a trigger that says nothing but its metric.
func fresh(k Kind) Trigger {
	return Trigger{
		Kind: k, Aggregation: Sum, Target: k.Target, Activation: k.Activation, Longest: time.Hour.Seconds(),
		Replicas: replicas.Config{
			DrainWithin: time.Minute, Max: 100, Growth: 2,
			Settle: 30 * time.Second, Tries: 2, RetryAfter: 5 * time.Minute,
		},
	}
}

func number(name string, low, high float64, suits func(Kind) bool, into func(*Trigger) *float64) key {
	return key{name, fmt.Sprintf("a number from %v to %v", low, high), suits, func(t *Trigger, v string) bool {
		n, err := strconv.ParseFloat(v, 64)
		return err == nil && between(into(t), n, low, high)
	}}
}

func whole(name string, low, high int, suits func(Kind) bool, into func(*Trigger) *int) key {
	return key{name, fmt.Sprintf("a whole number from %d to %d", low, high), suits, func(t *Trigger, v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && between(into(t), n, low, high)
	}}
}

// duration reads a duration such as 1m30s, or a number of seconds.
func duration(name string, low, high time.Duration, suits func(Kind) bool, into func(*Trigger) *time.Duration) key {
	return key{name, fmt.Sprintf("a duration such as 90s, from %v to %v", low, high), suits, func(t *Trigger, v string) bool {
		d, err := time.ParseDuration(v)
		if seconds, numErr := strconv.ParseFloat(v, 64); numErr == nil && math.Abs(seconds) < 1e9 {
			d, err = time.Duration(seconds*float64(time.Second)), nil
		}
		return err == nil && between(into(t), d, low, high)
	}}
}

// between sets the field where the value lies in its range.
func between[N cmp.Ordered](field *N, value, low, high N) bool {
	if !(value >= low && value <= high) {
		return false
	}
	*field = value
	return true
}

// Parse reads the metadata of one of the triggers of a ScaledObject, given as
// namespace/name, over the defaults. Keys that are KEDA's own are passed over;
// any other that is none of ours is an error, so that a misspelt one is not
// lost. The error joins an *invalid.Value for each key that is wrong; the
// trigger then has its metric, as far as there is one.
func Parse(metadata map[string]string, defaults Defaults, scaledObject string) (Trigger, error) {
	values, errs := ours(metadata)
	kind, known := Metric(values[keyMetric]).Kind()
	if _, said := values[keyMetric]; !said {
		kind, known = QueueDepth.Kind()
	}
	if !known { // the other keys are judged as those of any metric
		kind.Sizes = true
	}
	t := fresh(kind)
	for _, k := range keys() {
		value, said := values[k.name]
		switch {
		case said && known && !k.suits(kind):
			errs = append(errs, invalid.New(k.name, value, fmt.Sprintf("no such key with metric %s, only %s", kind.Metric, strings.Join(keyNames(kind), ", "))))
		case said && !k.set(&t, value):
			errs = append(errs, invalid.New(k.name, value, k.want))
		case !said && known && k.suits(kind):
			defaults.set(&t, k, scaledObject)
		}
	}
	switch _, said := values[keyCoordinators]; {
	case said && values[keySelector] != "":
		errs = append(errs, invalid.New(keySelector, values[keySelector], "none beside "+keyCoordinators))
	case !said && values[keySelector] == "":
		errs = append(errs, invalid.Missing(keyCoordinators, "the id of at least one coordinator, or a "+keySelector))
	}
	if t.Replicas.Min > t.Replicas.Max {
		errs = append(errs, invalid.New("minReplicas", t.Replicas.Min, fmt.Sprintf("at most maxReplicas, which is %d", t.Replicas.Max)))
	}
	return t, errors.Join(errs...)
}

// ours returns what of the metadata is for the scaler. KEDA hands over all of
// it: its own keys too, and those that it read from the environment with their
// suffix.
func ours(metadata map[string]string) (values map[string]string, errs []error) {
	values = map[string]string{}
	known := map[string]bool{}
	for _, k := range keys() {
		known[k.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		base := strings.TrimSuffix(name, "FromEnv")
		_, twice := metadata[base]
		switch {
		case known[base] && name != base && twice:
			errs = append(errs, invalid.New(name, metadata[name], "none beside "+base))
		case known[base]:
			values[base] = strings.TrimSpace(metadata[name])
		case kedasOwn(base):
		case secret(base):
			// The value is not repeated: it may be a private key.
			errs = append(errs, invalid.New(name, "…", "a TriggerAuthentication instead, for KEDA does not read it from the metadata"))
		default:
			errs = append(errs, invalid.New(name, metadata[name], "one of the keys "+strings.Join(keyNames(Kind{Sizes: true}, Kind{}, Kind{Metric: DrainTime}), ", ")))
		}
	}
	return values, errs
}

// kedasOwn reports whether KEDA itself reads the key of an external trigger,
// or did in its older versions.
func kedasOwn(name string) bool {
	switch name {
	case "scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "useCachedMetrics", "metricType":
		return true
	}
	return false
}

func secret(name string) bool {
	return name == "caCert" || name == "tlsClientCert" || name == "tlsClientKey"
}

// keyNames lists the keys that any of the kinds has.
func keyNames(kinds ...Kind) []string {
	var names []string
	for _, k := range keys() {
		if slices.ContainsFunc(kinds, k.suits) {
			names = append(names, k.name)
		}
	}
	return names
}

func splitList(value string) []string {
	var ids []string
	for id := range strings.SplitSeq(value, ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// Chooses reports whether the trigger asks for a coordinator with these labels.
func (t *Trigger) Chooses(id string, labels map[string]string) bool {
	if !t.Selector.IsZero() {
		return t.Selector.Matches(labels)
	}
	return slices.ContainsFunc(t.Coordinators, func(pattern string) bool {
		if pattern == id {
			return true
		}
		ok, err := path.Match(pattern, id)
		return err == nil && ok
	})
}

// Named lists the ids that are asked for by name, which must all be there.
func (t *Trigger) Named() []string {
	var named []string
	for _, id := range t.Coordinators {
		if !strings.ContainsAny(id, `*?[\`) {
			named = append(named, id)
		}
	}
	return named
}

// Chosen tells in words what the trigger asks for.
func (t *Trigger) Chosen() string {
	if !t.Selector.IsZero() {
		return t.Selector.String()
	}
	return strings.Join(t.Coordinators, ",")
}
