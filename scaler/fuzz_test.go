package scaler

import (
	"math"
	"slices"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// FuzzRequest asks with whatever bytes a client may send. What is answered is a
// number that a HorizontalPodAutoscaler can count with, and what is not is one of
// a few codes; nothing is answered of a queue whose signals are absent.
func FuzzRequest(f *testing.F) {
	for _, more := range [][]string{
		nil, {"metric", "drainTime"}, {"coordinatorIds", "nobody"}, {"metric", "hardPressure", "targetValue", "1e308"},
		{"metric", "relativePressure", "maxReplicas", "0"}, {"coordinatorIds", "bars,nobody", "aggregation", "max"}, {"selector", `{env=~"p.*"}`, "coordinatorIds", ""},
	} {
		data, err := proto.Marshal(&pb.GetMetricsRequest{ScaledObjectRef: object(more...), MetricName: "headgate-queue-depth"})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x0a\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var request pb.GetMetricsRequest
		if proto.Unmarshal(data, &request) != nil {
			return // as gRPC would refuse it
		}
		source := &prom{have: map[string]metrics.Observation{"bars": queue(4200, pressure.Soft)}}
		signals := NewSignals(source, time.Hour, time.Second, staleAfter, quiet)
		server := NewServer(signals, quiet)
		ask := func() []error {
			active, activeErr := server.IsActive(t.Context(), request.GetScaledObjectRef())
			spec, specErr := server.GetMetricSpec(t.Context(), request.GetScaledObjectRef())
			answer, err := server.GetMetrics(t.Context(), &request)
			for _, v := range answer.GetMetricValues() {
				if !(v.MetricValueFloat >= 0) || math.IsInf(v.MetricValueFloat, 0) || v.MetricValue < 0 {
					t.Fatalf("%v is answered %v", &request, v)
				}
			}
			for _, m := range spec.GetMetricSpecs() {
				if !(m.TargetSizeFloat > 0) || m.TargetSize < 0 {
					t.Fatalf("%v has the target %v", &request, m)
				}
			}
			if (active == nil) == (activeErr == nil) || (spec == nil) == (specErr == nil) || (answer == nil) == (err == nil) {
				t.Fatalf("%v is answered and refused", &request)
			}
			return []error{activeErr, specErr, err}
		}
		for i, err := range ask() {
			if i != 1 && err == nil {
				t.Fatalf("%v is answered before there was a signal", &request)
			}
		}
		signals.readOnce(t.Context())
		for _, err := range ask() {
			if code := status.Code(err); !slices.Contains([]codes.Code{codes.OK, codes.InvalidArgument, codes.Unavailable, codes.ResourceExhausted}, code) {
				t.Fatalf("%v is refused with %v", &request, err)
			}
		}
	})
}
