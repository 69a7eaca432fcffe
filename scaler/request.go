package scaler

import (
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
)

// Metric says which number a trigger asks for. It is one of a closed set.
type Metric string

const (
	// QueueDepth is how many items wait, a total for AverageValue.
	QueueDepth Metric = "queueDepth"

	// HardPressure is 1 while the level is HARD, else 0.
	HardPressure Metric = "hardPressure"

	// Utilization is the depth as a share of the capacity.
	Utilization Metric = "utilization"

	// DrainTime is how many seconds the queue takes to empty at the present
	// drain, at most an hour.
	DrainTime Metric = "drainTime"

	// DesiredReplicas is how many replicas empty the backlog in the wanted time
	// and carry the arrivals; for AverageValue with a target of 1.
	DesiredReplicas Metric = "desiredReplicas"

	// RelativePressure is what the number of replicas is to be multiplied by;
	// for metricType Value with a target of 1.
	RelativePressure Metric = "relativePressure"
)

// Metrics lists the set, each with the target and activation that a trigger has
// where it says nothing.
func Metrics() []struct {
	Metric             Metric
	Target, Activation float64
} {
	return []struct {
		Metric             Metric
		Target, Activation float64
	}{
		{QueueDepth, 2000, 0},
		{HardPressure, 0.5, 0.5},
		{Utilization, 0.5, 0},
		{DrainTime, 30, 0},
		{DesiredReplicas, 1, 0},
		{RelativePressure, 1, 0},
	}
}

// Keys of a trigger's metadata.
const (
	keyCoordinators = "coordinatorIds"
	keyAggregation  = "aggregation"
	keyMetric       = "metric"
	keyTarget       = "targetValue"
	keyActivation   = "activationValue"
	keyDrainWithin  = "drainWithin"
)

// Aggregation says what several coordinators are together.
type Aggregation string

const (
	Sum Aggregation = "sum" // one queue: depths, rates and replicas add up
	Max Aggregation = "max" // the one with the largest value counts
)

// Request is a trigger's metadata, checked.
type Request struct {
	Coordinators []string // ids, or patterns as path.Match has them; at least one
	Aggregation  Aggregation
	Metric       Metric
	Target       float64       // > 0
	Activation   float64       // the trigger is active while the value is above it; >= 0
	DrainWithin  time.Duration // in which the backlog is to be emptied; > 0
}

// defaultDrainWithin is the wanted time where a trigger says nothing.
const defaultDrainWithin = time.Minute

// ParseRequest reads a trigger's metadata, as KEDA hands it over. Keys that are
// KEDA's own are passed over; any other that is none of ours is an error, so
// that a misspelt one is not lost. The error joins an *invalid.Value for each
// key that is wrong.
func ParseRequest(metadata map[string]string) (Request, error) {
	r := Request{Aggregation: Sum, Metric: QueueDepth, DrainWithin: defaultDrainWithin}
	var errs []error
	refuse := func(key, want string) { errs = append(errs, invalid.New(key, metadata[key], want)) }

	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		value := strings.TrimSpace(metadata[key])
		switch key {
		case keyCoordinators:
			r.Coordinators = splitIDs(value)
			for _, id := range r.Coordinators {
				if _, err := path.Match(id, ""); err != nil {
					refuse(key, "ids, or patterns such as bars-*, separated by commas")
				}
			}
		case keyAggregation:
			if r.Aggregation = Aggregation(value); r.Aggregation != Sum && r.Aggregation != Max {
				refuse(key, "sum or max")
			}
		case keyMetric:
			r.Metric = Metric(value)
			if !slices.Contains(metricNames(), value) {
				refuse(key, "one of "+strings.Join(metricNames(), ", "))
			}
		case keyTarget, keyActivation: // read when the metric is known
		case keyDrainWithin:
			d, err := time.ParseDuration(value)
			if r.DrainWithin = d; err != nil || d < time.Second || d > 24*time.Hour {
				refuse(key, "a duration from 1s to 24h")
			}
		default:
			if !kedasOwn(key) {
				refuse(key, "one of the keys "+strings.Join(keys(), ", "))
			}
		}
	}
	if len(r.Coordinators) == 0 {
		errs = append(errs, invalid.Missing(keyCoordinators, "the id of at least one coordinator"))
	}
	for _, m := range Metrics() {
		if m.Metric == r.Metric {
			r.Target, r.Activation = m.Target, m.Activation
		}
	}
	number := func(key string, into *float64, good func(float64) bool, want string) {
		text, found := metadata[key]
		if !found {
			return
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !good(v) {
			refuse(key, want)
			return
		}
		*into = v
	}
	number(keyTarget, &r.Target, func(v float64) bool { return v >= 0.001 && v <= 1e12 }, "a number from 0.001 to 1e12")
	number(keyActivation, &r.Activation, func(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }, "a number >= 0")
	return r, errors.Join(errs...)
}

func splitIDs(value string) []string {
	var ids []string
	for id := range strings.SplitSeq(value, ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func metricNames() []string {
	var names []string
	for _, m := range Metrics() {
		names = append(names, string(m.Metric))
	}
	return names
}

func keys() []string {
	return []string{keyCoordinators, keyMetric, keyTarget, keyActivation, keyAggregation, keyDrainWithin}
}

// kedasOwn reports whether KEDA itself reads the key of an external trigger; it
// hands all of them over.
func kedasOwn(key string) bool {
	switch key {
	case "scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey",
		"tlsCertFile", "useCachedMetrics", "metricType":
		return true
	}
	return strings.HasSuffix(key, "FromEnv")
}

// matches reports whether the request asks for a coordinator.
func (r Request) matches(id string) bool {
	return slices.ContainsFunc(r.Coordinators, func(pattern string) bool {
		if pattern == id {
			return true
		}
		ok, err := path.Match(pattern, id)
		return err == nil && ok
	})
}

// name is the metric's name towards KEDA: the same for the same request, also
// across restarts.
func (r Request) name() string {
	return fmt.Sprintf("headgate-%s", r.Metric)
}

// isPattern reports whether an id stands for several coordinators.
func isPattern(id string) bool { return strings.ContainsAny(id, `*?[\`) }
