package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler"
)

const streams = 64

func scalerGroup() group {
	return group{
		name: "scaler",
		about: fmt.Sprintf("GetMetrics over one connection of the loopback with %d calls at once, each for another ScaledObject. "+
			"The peer is a bare grpc-go server whose handler returns the same message, asked by the same requests.", streams),
		measure: measureScaler,
	}
}

// observed is a reader whose one coordinator never changes.
type observed struct{}

func (observed) Read(context.Context) (metrics.Snapshot, error) {
	now := time.Now()
	return metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{"bars": {
		CoordinatorID: "bars", Depth: 700, Capacity: 1000, Level: pressure.OK, HasLevel: true,
		Arrivals: metrics.Rate{PerSecond: 900, Known: true}, Drain: metrics.Rate{PerSecond: 1000, Known: true},
		At: now, Newest: now,
	}}}, nil
}

// echo answers each call with the same message.
type echo struct {
	pb.UnimplementedExternalScalerServer
	answer *pb.GetMetricsResponse
}

func (e echo) GetMetrics(context.Context, *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	return e.answer, nil
}

func measureScaler(ctx context.Context, rounds int) ([]Row, error) {
	ctx, cancel := context.WithCancel(ctx)
	quiet := slog.New(slog.DiscardHandler)
	signals := scaler.NewSignals(observed{}, time.Second, time.Second, time.Hour, quiet)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = signals.Run(ctx) // ends with ctx
	}()
	defer func() { cancel(); <-ended }()
	for !signals.Ready() {
		time.Sleep(time.Millisecond)
	}
	server := scaler.NewServer(signals, quiet)
	defer server.Stop()
	full := scaler.NewGRPC(server, nil, nil, access.Everyone(), quiet)
	ours, err := dial(full.Server)
	if err != nil {
		return nil, err
	}
	defer ours.close()

	requests := make([]*pb.GetMetricsRequest, streams)
	for i := range requests {
		requests[i] = &pb.GetMetricsRequest{MetricName: "headgate-queue-depth", ScaledObjectRef: &pb.ScaledObjectRef{
			Namespace: "shop", Name: fmt.Sprint("pipeline-", i),
			ScalerMetadata: map[string]string{"scalerAddress": "headgate:6000", "coordinatorIds": "bars"},
		}}
	}
	answer, err := ours.client.GetMetrics(ctx, requests[0])
	if err != nil {
		return nil, err
	}
	bare := grpc.NewServer()
	pb.RegisterExternalScalerServer(bare, echo{answer: answer})
	theirs, err := dial(bare)
	if err != nil {
		return nil, err
	}
	defer theirs.close()

	asks := func(client pb.ExternalScalerClient) func(b *testing.B) {
		return func(b *testing.B) {
			work := make(chan *pb.GetMetricsRequest, streams)
			for _, r := range requests {
				work <- r
			}
			inParallel(streams, b.N, func() {
				r := <-work
				got, err := client.GetMetrics(ctx, r)
				if err != nil || proto.Size(got) != proto.Size(answer) {
					b.Error(got, err)
				}
				work <- r
			})
		}
	}
	all, err := byTurns(ctx, rounds, contender{"headgate", asks(ours.client)}, contender{"grpc echo", asks(theirs.client)})
	if err != nil {
		return nil, err
	}
	o, p := medianRound(all, 0, 1)
	return []Row{atLeast(0.8).against(fmt.Sprintf("scaler GetMetrics, one connection, %d streams", streams), "calls/s", "bare grpc-go unary echo",
		1e9/o.nsPerOp, 1e9/p.nsPerOp)}, nil
}

// dialled is a server on the loopback and a client of it.
type dialled struct {
	client pb.ExternalScalerClient
	close  func()
}

// dial serves on a free port and connects to it.
func dial(server *grpc.Server) (*dialled, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with Stop
	}()
	stop := func() { server.Stop(); <-served }
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		stop()
		return nil, err
	}
	return &dialled{pb.NewExternalScalerClient(conn), func() { _ = conn.Close(); stop() }}, nil
}
