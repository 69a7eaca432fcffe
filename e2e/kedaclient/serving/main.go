// Command serving lets others ask KEDA's own prometheus trigger, by the protocol
// of external scalers: whoever asks gets what KEDA's operator would have got from
// the trigger. It is built and run by the chaos cases.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/kedacore/keda/v2/pkg/scalers"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listen := flag.String("listen", "", "address on which it is asked")
	metadata := flag.String("metadata", "", "the trigger's metadata, as JSON")
	flag.Parse()
	log.SetLogger(logr.Discard())
	if err := serve(ctx, *listen, *metadata); err != nil {
		fmt.Fprintln(os.Stderr, "serving:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen, metadata string) error {
	config := scalersconfig.ScalerConfig{
		ScalableObjectName: "pipeline", ScalableObjectNamespace: "chaos", ScalableObjectType: "ScaledObject",
		TriggerType: "prometheus", MetricType: v2.AverageValueMetricType, ResolvedEnv: map[string]string{}, AuthParams: map[string]string{},
	}
	if err := json.Unmarshal([]byte(metadata), &config.TriggerMetadata); err != nil {
		return fmt.Errorf("read the metadata: %w", err)
	}
	scaler, err := scalers.NewPrometheusScaler(&config)
	if err != nil {
		return err
	}
	defer scaler.Close(context.WithoutCancel(ctx))
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pb.RegisterExternalScalerServer(server, &served{scaler: scaler})
	context.AfterFunc(ctx, server.Stop)
	return server.Serve(listener)
}

// served is a trigger that is asked for its value.
type served struct {
	pb.UnimplementedExternalScalerServer
	scaler scalers.Scaler
}

// GetMetrics asks the trigger. An error of the trigger is Unavailable: that is
// what makes KEDA's fallback work.
func (s *served) GetMetrics(ctx context.Context, r *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	values, _, err := s.scaler.GetMetricsAndActivity(ctx, r.GetMetricName())
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	response := &pb.GetMetricsResponse{}
	for _, v := range values {
		response.MetricValues = append(response.MetricValues, &pb.MetricValue{MetricName: v.MetricName, MetricValueFloat: v.Value.AsApproximateFloat64()})
	}
	return response, nil
}
