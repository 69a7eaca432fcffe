package storm

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// Metric is the one that the triggers have.
const Metric = "headgate-queue-depth"

// askEvery is how often a call is made to be measured.
const askEvery = 10 * time.Millisecond

// Waits are how long the answers to one kind of call took.
type Waits []time.Duration

// Percentile is the wait that p of a hundred answers did not exceed.
func (w Waits) Percentile(p float64) time.Duration {
	if len(w) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(w))
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

// Measure makes the five calls in turn, on one connection, until ctx ends, and
// returns how long each took by name; a stream takes until its first message.
// A call begins when its time has come, whether the one before was answered or
// not, so that a stop of the scaler counts for all that wait meanwhile. A call
// that fails is an error and ends it.
func Measure(ctx context.Context, address string, trigger *pb.ScaledObjectRef) (map[string]Waits, error) {
	conn, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := pb.NewExternalScalerClient(conn)
	calls := []struct {
		name string
		do   func(context.Context) error
	}{
		{"IsActive", func(ctx context.Context) error { _, err := client.IsActive(ctx, trigger); return err }},
		{"GetMetricSpec", func(ctx context.Context) error { _, err := client.GetMetricSpec(ctx, trigger); return err }},
		{"GetMetrics", func(ctx context.Context) error {
			_, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: trigger, MetricName: Metric})
			return err
		}},
		{"StreamIsActive", func(ctx context.Context) error { return first(client.StreamIsActive(ctx, trigger)) }},
		{"StreamMetricSpec", func(ctx context.Context) error { return first(client.StreamMetricSpec(ctx, trigger)) }},
	}
	waits := map[string]Waits{}
	var mu sync.Mutex
	group, asked := errgroup.WithContext(ctx)
	ticks := time.NewTicker(askEvery)
	defer ticks.Stop()
	for i := 0; asked.Err() == nil; i = (i + 1) % len(calls) {
		call := calls[i]
		group.Go(func() error {
			asking, cancel := context.WithTimeout(asked, callLimit)
			defer cancel() // ends a stream
			began := time.Now()
			err := call.do(asking)
			took := time.Since(began)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s failed after %v: %w", call.name, took, err)
			}
			mu.Lock()
			defer mu.Unlock()
			waits[call.name] = append(waits[call.name], took)
			return nil
		})
		select {
		case <-ticks.C:
		case <-asked.Done():
		}
	}
	err = group.Wait()
	return waits, err
}

// first receives a stream's first message.
func first[M any](stream grpc.ServerStreamingClient[M], err error) error {
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}
