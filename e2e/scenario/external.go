package scenario

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
)

// External: replicas go 0 → N → 0 with a real pipeline's queue, and N is what
// the formula says.
var External = Scenario{Name: "external", Limit: 3 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	const (
		target   = 1000
		capacity = 4500 // items in the standing pipeline's queue, which is kept full
	)
	err := e.Install(ctx, Plan{
		Overlay:  "overlays/external",
		Job:      usualJob(jobSettings{capacity: capacity}),
		Settings: map[string]string{"HEADGATE_DRY_RUN": "true"}, // the gate has scenarios of its own
		Edits: []Edit{on("ScaledObject", "pipeline-burst",
			trigger(0, map[string]string{"targetValue": fmt.Sprint(target)}),
			set(int64(2), "spec", "pollingInterval"), set(int64(5), "spec", "cooldownPeriod"), quick,
		)},
	})
	if err != nil {
		return err
	}
	// A new Deployment has one replica until KEDA looks at it.
	replicas := e.Follow("pipeline-burst")
	if err := replicas.Is(ctx, 0, 40*time.Second); err != nil {
		return err
	}
	for component, n := range map[string]int{"pipeline": 1, "pipeline-burst": 0} {
		if err := e.awaitPods(ctx, component, n); err != nil {
			return err
		}
	}
	e.Say("no burst replicas, nothing waits")

	// Only a single pipeline takes items here, so that its queue is full and the
	// sum over all of them stays where it is.
	began := time.Now()
	if err := e.Store.SetCapacity(ctx, 100, false); err != nil {
		return err
	}
	e.Load.Pin(e.itemURLs())
	e.Load.Set(2000)
	left, err := within2(ctx, 30*time.Second, "the first burst replica", func(ctx context.Context) (time.Time, error) {
		return replicas.Until(ctx, func(n int64) bool { return n > 0 })
	})
	if err != nil {
		return err
	}
	want := int64(math.Ceil(float64(capacity) / target))
	if err := replicas.Is(ctx, want, 40*time.Second); err != nil {
		return err
	}
	grown := time.Now()
	if err := e.awaitPods(ctx, "pipeline-burst", int(want)); err != nil {
		return err
	}
	depth, err := e.Prometheus.Value(ctx, `sum(coordinator_queue_depth{coordinator_id="bars"})`)
	if err != nil {
		return err
	}
	if got := int64(math.Ceil(depth / target)); got != want {
		return fmt.Errorf("the queues hold %v items, for which the formula gives %d replicas, and there are %d", depth, got, want)
	}
	if err := replicas.Stays(ctx, want, 3*cluster.HPASync); err != nil {
		return err
	}
	e.Say("%d burst replicas for %v items that wait", want, depth)

	e.Load.Set(0)
	if err := e.Store.SetCapacity(ctx, 5000, false); err != nil {
		return err
	}
	if err := replicas.Is(ctx, 0, 60*time.Second); err != nil {
		return err
	}
	if err := e.awaitPods(ctx, "pipeline-burst", 0); err != nil {
		return err
	}
	if err := e.allWritten(ctx); err != nil {
		return err
	}
	e.Figure("replicas", path(replicas.All()))
	e.Figure("depth", depth)
	e.Figure("target", target)
	e.Figure("seconds_to_first", round(left.Sub(began).Seconds(), 2))
	e.Figure("seconds_to_n", round(grown.Sub(began).Seconds(), 2))
	e.Figure("items", e.Load.Accepted())
	return nil
}}
