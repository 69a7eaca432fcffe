package scaler

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// echo answers each call with the same message, with nothing around it: what
// gRPC itself costs.
type echo struct {
	pb.UnimplementedExternalScalerServer
	answer *pb.GetMetricsResponse
}

func (e echo) GetMetrics(context.Context, *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	return e.answer, nil
}

// BenchmarkGetMetrics measures one answer in memory, and over a loopback
// connection beside a bare gRPC server that always answers the same.
func BenchmarkGetMetrics(b *testing.B) {
	const name = "headgate-queue-depth"
	quiet := slog.New(slog.DiscardHandler)
	newServer := func() *Server {
		signals := NewSignals(&prom{have: map[string]metrics.Observation{"bars": queue(700, pressure.OK)}}, time.Hour, time.Second, time.Hour, quiet)
		signals.readOnce(b.Context())
		return NewServer(signals, quiet)
	}
	request := func(object string) *pb.GetMetricsRequest {
		return &pb.GetMetricsRequest{MetricName: name, ScaledObjectRef: &pb.ScaledObjectRef{
			Namespace: "shop", Name: object, ScalerMetadata: map[string]string{"scalerAddress": "headgate:6000", "coordinatorIds": "bars"},
		}}
	}
	for _, objects := range []int{1, 200, 5000} {
		b.Run(fmt.Sprintf("in memory/ScaledObjects=%d", objects), func(b *testing.B) {
			server := newServer()
			requests := make([]*pb.GetMetricsRequest, objects)
			for i := range requests {
				requests[i] = request(fmt.Sprint("pipeline-", i))
				if _, err := server.GetMetrics(b.Context(), requests[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := server.GetMetrics(b.Context(), requests[i%objects]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	call := func(b *testing.B, server *grpc.Server) {
		client := pb.NewExternalScalerClient(serveGRPC(b, server))
		asked := request("pipeline")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.GetMetrics(b.Context(), asked); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("over gRPC/scaler", func(b *testing.B) { call(b, NewGRPC(newServer(), nil, nil, access.Everyone(), quiet).Server) })
	b.Run("over gRPC/bare echo", func(b *testing.B) {
		server := grpc.NewServer()
		pb.RegisterExternalScalerServer(server, echo{answer: &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: name, MetricValue: 700, MetricValueFloat: 700}}}})
		call(b, server)
	})
}
