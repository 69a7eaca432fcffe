package scaler

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/replicas"
	"github.com/headgate/headgate/scaler/trigger"
)

// Answer is what was last told about a trigger, and what it was made of. Rates
// are items per second; a number that is not known is null in JSON.
type Answer struct {
	At     time.Time      `json:"at"`
	Metric trigger.Metric `json:"metric"`
	Target string         `json:"target"` // the coordinators that are asked for, as the metadata says

	Coordinators []string        `json:"coordinators"` // that were there
	AgeSeconds   *float64        `json:"age_seconds"`  // of the oldest sample among theirs
	Level        *pressure.Level `json:"level"`
	Depth        *float64        `json:"depth"`
	Capacity     *float64        `json:"capacity"`
	Arrivals     *float64        `json:"arrivals_per_second"`
	Drain        *float64        `json:"drain_per_second"`
	Replicas     int             `json:"replicas"` // that write, as Prometheus has them
	Plan         *Plan           `json:"plan"`     // null where the metric sizes no fleet

	Value      *float64       `json:"value"` // null where there was none to tell
	Active     bool           `json:"active"`
	Guard      replicas.Cause `json:"guard,omitempty"` // what made the value what it is
	Autoscaler Autoscaler     `json:"autoscaler"`

	Error string `json:"error,omitempty"` // why there was no value instead
}

// Plan is a replicas.Plan as JSON.
type Plan struct {
	DemandPerSecond     float64  `json:"demand_per_second"`
	PerReplicaPerSecond float64  `json:"drain_per_replica_per_second"`
	Wanted              *float64 `json:"wanted"` // by the arithmetic alone
	Replicas            int      `json:"replicas"`
	Busy                bool     `json:"busy"`
	StoreBound          bool     `json:"store_bound"`
	StoreBoundSeconds   float64  `json:"store_bound_seconds"`
	ScaleOutsInVain     int      `json:"scale_outs_in_vain"`
	Judging             bool     `json:"judging"`
}

// Autoscaler is what the HorizontalPodAutoscaler makes of a value, before its
// own bounds and behaviours. The scaler does not know the trigger's metricType;
// the one that makes sense is named, and both are told.
type Autoscaler struct {
	TargetValue     float64            `json:"target_value"`
	ActivationValue float64            `json:"activation_value"`
	MetricType      trigger.MetricType `json:"metric_type"`
	Replicas        int                `json:"replicas"` // by metric_type
	AsAverageValue  int                `json:"replicas_as_average_value"`
	AsValue         int                `json:"replicas_as_value"`
}

// describe tells an answer in full.
func (t told) describe() Answer {
	o, n := &t.outcome, len(t.outcome.load.writers)
	a := Answer{
		At: t.at, Metric: t.trigger.Metric, Target: t.trigger.Chosen(), Coordinators: o.ids,
		Autoscaler: Autoscaler{TargetValue: t.trigger.Target, ActivationValue: t.trigger.Activation, MetricType: t.trigger.Type},
	}
	if t.err != nil {
		a.Error = words(t.err)
	}
	if len(o.ids) == 0 {
		return a
	}
	a.AgeSeconds = finite(max(0, t.at.Sub(o.asOf).Seconds()))
	if o.load.levelKnown {
		a.Level = &o.load.level
	}
	a.Depth, a.Capacity = finite(o.load.depth), finite(o.load.capacity)
	a.Arrivals, a.Drain, a.Replicas = finite(o.load.arrivals), finite(o.load.drain), n
	if t.err != nil {
		return a
	}
	a.Value, a.Active, a.Guard = finite(o.value), o.active, o.cause
	if p := o.plan; t.trigger.Sizes {
		a.Plan = &Plan{
			DemandPerSecond: p.DemandPerSecond, PerReplicaPerSecond: p.PerReplicaPerSecond, Wanted: finite(p.Wanted),
			Replicas: p.Replicas, Busy: p.Busy, StoreBound: p.StoreBound, StoreBoundSeconds: p.BoundFor.Seconds(),
			ScaleOutsInVain: p.Fruitless, Judging: p.Judging,
		}
	}
	a.Autoscaler.make(o.value, n)
	return a
}

// make does the autoscaler's arithmetic.
func (h *Autoscaler) make(value float64, replicasThere int) {
	h.AsAverageValue = replicas.ByAverageValue(value, h.TargetValue, replicasThere)
	h.AsValue = replicas.ByValue(value, h.TargetValue, replicasThere)
	h.Replicas = h.AsAverageValue
	if h.MetricType == trigger.Value {
		h.Replicas = h.AsValue
	}
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Explain returns what was last answered about a ScaledObject, namespace/name,
// for each of its triggers, and for those that an edit left behind within the
// hour, which stand after their successors; false if it never asked.
func (s *Server) Explain(scaledObject string) (answers []Answer, found bool) {
	for _, r := range s.all() {
		if r.object != scaledObject {
			continue
		}
		found = true
		r.mu.Lock()
		if !r.told.at.IsZero() {
			answers = append(answers, r.told.describe())
		}
		r.mu.Unlock()
	}
	slices.SortFunc(answers, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Target, b.Target), b.At.Compare(a.At))
	})
	return answers, found
}
