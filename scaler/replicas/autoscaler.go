package replicas

import "math"

// The two ways in which a HorizontalPodAutoscaler makes replicas of an
// external metric, as k8s.io/kubernetes/pkg/controller/podautoscaler computes
// them, before its own bounds and behaviours.

// ByAverageValue is the answer to metricType AverageValue: as many replicas as
// make value/replicas the target. Current replicas stay where they are within
// the Tolerance. Target must be > 0.
func ByAverageValue(value, target float64, current int) int {
	value, target = milli(value), milli(target)
	if current > 0 && tolerated(value/(target*float64(current))) {
		return current
	}
	return ceil(value / target)
}

// ByValue is the answer to metricType Value: ready replicas times value/target,
// or value/target alone where there are none. Target must be > 0.
func ByValue(value, target float64, ready int) int {
	ratio := milli(value) / milli(target)
	if ready == 0 {
		return ceil(ratio)
	}
	if tolerated(ratio) {
		return ready
	}
	return int(min(math.Ceil(ratio*float64(ready)), math.MaxInt32))
}

// tolerated reports whether a ratio is so close to 1 that it changes nothing.
func tolerated(ratio float64) bool { return 1-Tolerance <= ratio && ratio <= 1+Tolerance }

// milli is a value as KEDA hands it on: rounded to thousandths; what is negative,
// infinite or no number is 0.
func milli(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*1000) / 1000
}
