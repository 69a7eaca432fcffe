package check

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	keda "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// AskAsKEDA asks the scaler at an address for the replicas that a ScaledObject
// should have, as KEDA does, until the server at prometheus has the answer. A
// scaler that nobody has asked exports nothing about triggers.
func AskAsKEDA(ctx context.Context, address string, coordinators string, prometheus v1.API) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("ask the scaler: %w", err)
	}
	defer connection.Close()
	scaler := keda.NewExternalScalerClient(connection)
	object := &keda.ScaledObjectRef{Name: "pipeline", Namespace: "demo", ScalerMetadata: map[string]string{
		"metric": "desiredReplicas", "coordinatorIds": coordinators,
	}}
	ask := func() (struct{}, error) {
		specs, err := scaler.GetMetricSpec(ctx, object)
		if err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		for _, spec := range specs.MetricSpecs {
			if _, err := scaler.GetMetrics(ctx, &keda.GetMetricsRequest{ScaledObjectRef: object, MetricName: spec.MetricName}); err != nil {
				return struct{}{}, backoff.Permanent(err)
			}
		}
		if _, err := scaler.IsActive(ctx, object); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		// Two scrapes after the first answer: a rate needs two values.
		got, _, _, err := prometheus.Query(ctx, `count_over_time(headgate_scaler_value{scaled_object="demo/pipeline"}[1m]) > 2`, time.Time{})
		if err == nil && numbers(got) == 0 {
			err = fmt.Errorf("prometheus has no headgate_scaler_value yet")
		}
		return struct{}{}, err
	}
	_, err = backoff.Retry(ctx, ask, backoff.WithBackOff(backoff.NewConstantBackOff(500*time.Millisecond)),
		backoff.WithMaxElapsedTime(30*time.Second))
	if err != nil {
		return fmt.Errorf("ask the scaler: %w", err)
	}
	return nil
}
