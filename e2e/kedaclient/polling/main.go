// Command polling asks one trigger for each of many ScaledObjects again and
// again, with the code of KEDA's operator, and tells how long an answer takes.
// It is built and run by the benchmarks.
//
// The triggers' metadata come on standard input, as a JSON list of objects. On
// standard output there is a line "polling" when it begins, and at the end a JSON
// object of the result.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	v2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// result is what the calls took.
type result struct {
	Calls         int     `json:"calls"`
	Errors        int     `json:"errors"`
	FirstError    string  `json:"first_error,omitempty"`
	Values        float64 `json:"values"` // sum of the last value of each object
	MedianSeconds float64 `json:"median_seconds"`
	P99Seconds    float64 `json:"p99_seconds"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kind := flag.String("kind", "external", "KEDA's type of the trigger: external or prometheus")
	interval := flag.Duration("interval", time.Second, "time from one look at a trigger to the next")
	warm := flag.Duration("warm", 3*time.Second, "how long the answers do not count yet")
	measured := flag.Duration("for", 15*time.Second, "how long they count")
	flag.Parse()
	log.SetLogger(logr.Discard())
	if err := run(ctx, os.Stdin, *kind, *interval, *warm, *measured); err != nil {
		fmt.Fprintln(os.Stderr, "polling:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, kind string, interval, warm, measured time.Duration) error {
	build := map[string]func(*scalersconfig.ScalerConfig) (scalers.Scaler, error){
		"external": scalers.NewExternalScaler, "prometheus": scalers.NewPrometheusScaler,
	}[kind]
	if build == nil {
		return fmt.Errorf("kind is %q, want external or prometheus", kind)
	}
	var triggers []map[string]string
	if err := json.NewDecoder(in).Decode(&triggers); err != nil {
		return fmt.Errorf("read the triggers: %w", err)
	}
	objects := make([]*object, len(triggers))
	for i, metadata := range triggers {
		scaler, err := build(&scalersconfig.ScalerConfig{
			ScalableObjectName: fmt.Sprint("pipeline-", i), ScalableObjectNamespace: "shop", ScalableObjectType: "ScaledObject",
			TriggerType: kind, TriggerMetadata: metadata, MetricType: v2.AverageValueMetricType,
			GlobalHTTPTimeout: 3 * time.Second, ResolvedEnv: map[string]string{}, AuthParams: map[string]string{},
		})
		if err != nil {
			return fmt.Errorf("trigger %d: %w", i, err)
		}
		defer scaler.Close(context.WithoutCancel(ctx))
		objects[i] = &object{scaler: scaler}
	}

	fmt.Println("polling")
	begin := time.Now()
	ctx, cancel := context.WithDeadline(ctx, begin.Add(warm+measured))
	defer cancel()
	random := rand.New(rand.NewPCG(1, 2))
	var all sync.WaitGroup
	for _, o := range objects {
		offset := time.Duration(random.Int64N(int64(interval)))
		all.Go(func() { o.poll(ctx, offset, interval, begin.Add(warm)) })
	}
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(sum(objects))
}

// object is a ScaledObject with one trigger.
type object struct {
	scaler scalers.Scaler
	took   []time.Duration
	errs   []error
	value  float64 // the last one
}

// poll does what the operator does at each polling, until the context ends.
func (o *object) poll(ctx context.Context, offset, interval time.Duration, from time.Time) {
	first := time.NewTimer(offset)
	defer first.Stop()
	select {
	case <-first.C:
	case <-ctx.Done():
		return
	}
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for {
		begin := time.Now()
		value, err := o.ask(ctx)
		if ctx.Err() == nil && begin.After(from) {
			o.took = append(o.took, time.Since(begin))
			o.value = value
			if err != nil {
				o.errs = append(o.errs, err)
			}
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask is one polling.
func (o *object) ask(ctx context.Context) (float64, error) {
	specs := o.scaler.GetMetricSpecForScaling(ctx)
	if len(specs) != 1 {
		return 0, fmt.Errorf("there are %d specs, want one", len(specs))
	}
	values, _, err := o.scaler.GetMetricsAndActivity(ctx, specs[0].External.Metric.Name)
	if err != nil || len(values) != 1 {
		return 0, errors.Join(err, fmt.Errorf("there are %d values, want one", len(values)))
	}
	return values[0].Value.AsApproximateFloat64(), nil
}

func sum(objects []*object) (r result) {
	var took []time.Duration
	for _, o := range objects {
		took = append(took, o.took...)
		r.Values += o.value
		r.Errors += len(o.errs)
		if len(o.errs) > 0 && r.FirstError == "" {
			r.FirstError = o.errs[0].Error()
		}
	}
	slices.Sort(took)
	if r.Calls = len(took); r.Calls > 0 {
		r.MedianSeconds = took[r.Calls/2].Seconds()
		r.P99Seconds = took[r.Calls*99/100].Seconds()
	}
	return r
}
