package scaler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
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
// connection with one call or 64 at once, beside a bare gRPC server that always
// answers the same.
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
	// call asks in so many goroutines at once, which share a connection.
	call := func(b *testing.B, streams int, server *grpc.Server) {
		client := pb.NewExternalScalerClient(serveGRPC(b, server))
		var asking sync.WaitGroup
		var calls atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		for i := range streams {
			asks := request(fmt.Sprint("pipeline-", i))
			asking.Go(func() {
				for calls.Add(1) <= int64(b.N) {
					if _, err := client.GetMetrics(b.Context(), asks); err != nil {
						b.Error(err)
					}
				}
			})
		}
		asking.Wait()
	}
	for _, streams := range []int{1, 64} {
		b.Run(fmt.Sprintf("over gRPC/streams=%d/scaler", streams), func(b *testing.B) {
			call(b, streams, NewGRPC(newServer(), nil, nil, access.Everyone(), quiet).Server)
		})
		b.Run(fmt.Sprintf("over gRPC/streams=%d/bare echo", streams), func(b *testing.B) {
			server := grpc.NewServer()
			pb.RegisterExternalScalerServer(server, echo{answer: &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: name, MetricValue: 700, MetricValueFloat: 700}}}})
			call(b, streams, server)
		})
	}
}
