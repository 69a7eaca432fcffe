package trigger

import "slices"

// Metric says which number a trigger asks for. The set is closed.
type Metric string

const (
	// QueueDepth is how many items wait: a total, for AverageValue.
	QueueDepth Metric = "queueDepth"

	// HardPressure is 1 while the level is HARD, else 0.
	HardPressure Metric = "hardPressure"

	// Utilization is the depth as a share of the capacity, for Value.
	Utilization Metric = "utilization"

	// DrainTime is how many seconds the queue takes to empty at the present
	// drain, for Value.
	DrainTime Metric = "drainTime"

	// DesiredReplicas is how many replicas empty the backlog in the wanted
	// time and carry the arrivals: a total, for AverageValue with target 1.
	DesiredReplicas Metric = "desiredReplicas"

	// RelativePressure is what the number of replicas is to be multiplied by,
	// for Value with target 1.
	RelativePressure Metric = "relativePressure"
)

// MetricType is the metricType of a trigger that makes sense of a number.
type MetricType string

const (
	AverageValue MetricType = "AverageValue" // a total, shared by all replicas
	Value        MetricType = "Value"        // a ratio, which multiplies the replicas
)

// Kind is what is fixed about a metric.
type Kind struct {
	Metric     Metric
	Name       string // towards KEDA, the same for all time
	Type       MetricType
	Target     float64 // where the trigger says nothing
	Activation float64 // where the trigger says nothing
	Sizes      bool    // it is made by the arithmetic of package replicas
}

// Kinds lists all metrics.
func Kinds() []Kind {
	return []Kind{
		{QueueDepth, "headgate-queue-depth", AverageValue, 2000, 0, false},
		{HardPressure, "headgate-hard-pressure", AverageValue, 0.5, 0.5, false},
		{Utilization, "headgate-utilization", Value, 0.5, 0, false},
		{DrainTime, "headgate-drain-time", Value, 30, 0, false},
		{DesiredReplicas, "headgate-desired-replicas", AverageValue, 1, 0, true},
		{RelativePressure, "headgate-relative-pressure", Value, 1, 0, true},
	}
}

// Kind returns what is fixed about m, and whether there is such a metric.
func (m Metric) Kind() (Kind, bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Metric == m })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

func metricNames() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k.Metric))
	}
	return names
}
