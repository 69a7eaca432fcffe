package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/e2e/cluster"
)

const (
	pushRounds = 10
	pushLimit  = time.Second // of the median, from the level change to the first replica

	// scalerReadsEvery is how often the scaler reads the signals in a scenario.
	scalerReadsEvery = time.Second

	// writing is what the servers take to write a new number of replicas, beside
	// the waits for a sync and for a sample.
	writing = 500 * time.Millisecond
)

// Push: with an external-push trigger and a polling interval of 30 s, from the
// level change at the coordinator to the Deployment leaving zero; from a changed
// depth to the changed replicas; and back to none after the cool-down.
var Push = Scenario{Name: "external-push", Alone: true, Limit: 6 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	const (
		soft     = 1000 // mark, in items; the trigger is active above it, and a replica is for as many
		polling  = 30 * time.Second
		coolDown = 3 * time.Second
	)
	if err := e.Store.SetCapacity(ctx, still, true); err != nil {
		return err
	}
	err := e.Install(ctx, Plan{
		Overlay: "overlays/external-push", Without: []string{"controller"},
		Job: usualJob(jobSettings{capacity: 10_000, soft: fmt.Sprint(soft), hard: "9500"}),
		Edits: []Edit{on("ScaledObject", "pipeline-burst",
			trigger(0, map[string]string{"targetValue": fmt.Sprint(soft), "activationValue": fmt.Sprint(soft)}),
			set(int64(coolDown.Seconds()), "spec", "cooldownPeriod"), quick,
		)},
	})
	if err != nil {
		return err
	}
	if err := e.awaitPods(ctx, "pipeline", 1); err != nil {
		return err
	}
	pipeline := "http://" + e.Node.Address(e.Namespace, "pipeline") + ":9400"
	e.Load.Pin([]string{pipeline + "/v1/items"})
	replicas, changes := e.Follow("pipeline-burst"), e.levelChanges(pipeline)
	if err := replicas.Is(ctx, 0, 60*time.Second); err != nil {
		return err
	}

	var waits []float64 // seconds
	for round := range pushRounds {
		if err := e.restartPolling(ctx, "pipeline-burst", 9+round%2, replicas); err != nil {
			return err
		}
		e.Load.Add(soft + 500)
		changing, cancel := within(ctx, 10*time.Second, "the level change")
		change, err := await(changing, changes, "soft")
		cancel()
		if err != nil {
			return err
		}
		// A poll may come 30 s after the last one: what comes sooner was pushed.
		leaving, cancel := within(ctx, polling/2, "leaving zero")
		left, err := replicas.Until(leaving, func(n int64) bool { return n > 0 })
		cancel()
		if err != nil {
			return err
		}
		if waits = append(waits, round3(left.Sub(change.At()).Seconds())); waits[round] < 0 {
			return fmt.Errorf("the first replica came %v s before the level change", waits)
		}
		e.Say("round %2d: %.3f s from the level change to the first replica", round+1, waits[round])
		if round == pushRounds-1 {
			break
		}
		if err := e.Store.SetCapacity(ctx, 1e6, false); err != nil {
			return err
		}
		if err := e.inactive(ctx, "pipeline-burst", coolDown); err != nil {
			return err
		}
		if err := e.Store.SetCapacity(ctx, still, true); err != nil {
			return err
		}
	}
	e.Figure("seconds_from_level_change", waits)
	e.Figure("median_seconds", median(waits))
	e.Figure("polling_interval_seconds", polling.Seconds())
	if median(waits) >= pushLimit.Seconds() {
		return fmt.Errorf("the median of %v s is %v s, want less than %v", waits, median(waits), pushLimit)
	}

	// Two replicas are there now, or will be. Each step is beyond the tenth that
	// an autoscaler tolerates.
	if err := replicas.Is(ctx, 2, 30*time.Second); err != nil {
		return err
	}
	limit := cluster.HPASync + scrapeEvery + scalerReadsEvery + writing
	var follows []float64
	for _, step := range []struct {
		items int
		want  int64
	}{{1000, 3}, {1000, 4}, {1000, 5}, {1500, 6}, {1500, 8}} {
		changed := time.Now()
		e.Load.Add(step.items)
		waiting, cancel := within(ctx, 30*time.Second, fmt.Sprintf("following the depth to %d replicas", step.want))
		at, err := replicas.Until(waiting, func(n int64) bool { return n == step.want })
		cancel()
		if err != nil {
			return err
		}
		follows = append(follows, round3(at.Sub(changed).Seconds()))
	}
	e.Say("replicas followed the depth within %v s", follows)
	e.Figure("seconds_from_changed_depth", follows)
	e.Figure("limit_seconds_from_changed_depth", limit.Seconds())
	if median(follows) > limit.Seconds() {
		return fmt.Errorf("the median of %v s from a changed depth to the changed replicas is %v s, want at most %v", follows, median(follows), limit)
	}

	// Nobody pushes that there is nothing to do any more: KEDA looks for itself.
	if err := e.Store.SetCapacity(ctx, 1e6, false); err != nil {
		return err
	}
	emptying, cancel := within(ctx, 20*time.Second, "the level change back")
	defer cancel()
	change, err := await(emptying, changes, "ok")
	if err != nil {
		return err
	}
	if err := replicas.Is(ctx, 0, polling+coolDown+10*time.Second); err != nil {
		return err
	}
	back := time.Since(change.At())
	e.Figure("seconds_to_none", round3(back.Seconds()))
	if back > polling+coolDown+2*time.Second {
		return fmt.Errorf("it took %v to go back to none, want one polling interval of %v and the cool-down of %v", back, polling, coolDown)
	}
	e.Say("no replicas %.1f s after the level fell, with a cool-down of %v", back.Seconds(), coolDown)
	return e.allWritten(ctx)
}}

// inactive waits until the scaler says that there is nothing to do, and KEDA's
// cool-down is over.
func (e *Env) inactive(ctx context.Context, scaledObject string, coolDown time.Duration) error {
	ctx, cancel := within(ctx, 30*time.Second, "becoming inactive")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		answer, err := e.explainOne(ctx, scaledObject)
		if err != nil {
			return err
		}
		if answer.Active || answer.Value == nil || *answer.Value > 0 {
			return fmt.Errorf("the last answer was %+v", answer)
		}
		o, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).Get(ctx, scaledObject, metav1.GetOptions{})
		if err != nil {
			return err
		}
		text, _, _ := unstructured.NestedString(o.Object, "status", "lastActiveTime")
		last, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("the last active time: %w", err)
		}
		if cool := time.Since(last); cool < coolDown+time.Second { // it is told in whole seconds
			return fmt.Errorf("active %v ago", cool)
		}
		return nil
	})
}

// restartPolling has KEDA begin anew with a ScaledObject by changing its spec:
// it polls at once, and not again before its interval is over. It returns when
// there are no replicas and the streams are open.
func (e *Env) restartPolling(ctx context.Context, scaledObject string, maxReplicas int, replicas *Track) error {
	ctx, cancel := within(ctx, 30*time.Second, "KEDA's beginning anew")
	defer cancel()
	opened := func() (float64, error) {
		return series(ctx, e.scalerHTTP()+"/metrics", "grpc_server_started_total", `grpc_method="StreamIsActive"`)
	}
	before, err := opened()
	if err != nil {
		return err
	}
	if err := e.touch(ctx, scaledObject, maxReplicas); err != nil {
		return err
	}
	if _, err := replicas.Until(ctx, func(n int64) bool { return n == 0 }); err != nil {
		return err
	}
	// KEDA gives an activation up when somebody else changes the Deployment at
	// the same moment, and looks again at its next poll.
	if err := e.settled(ctx, replicas.name); err != nil {
		return err
	}
	return cluster.Poll(ctx, func(ctx context.Context) error {
		open, err := series(ctx, e.scalerHTTP()+"/metrics", "headgate_scaler_streams", `stream="StreamIsActive"`)
		if err != nil {
			return err
		}
		now, err := opened()
		if err != nil {
			return err
		}
		if open != 1 || now <= before {
			return errors.New("the stream is not open again")
		}
		return nil
	})
}

// settled waits until a Deployment without replicas has none left, and its
// controller has nothing more to write.
func (e *Env) settled(ctx context.Context, deployment string) error {
	if err := e.awaitPods(ctx, deployment, 0); err != nil {
		return err
	}
	return e.Cluster.Await(ctx, cluster.Deployments, e.Namespace, deployment, func(o *cluster.Object) bool {
		observed, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
		left, _, _ := unstructured.NestedInt64(o.Object, "status", "replicas")
		return observed == o.GetGeneration() && left == 0
	})
}

// median is the middle of some numbers. One that a busy machine held up does not
// count.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return round3((sorted[(n-1)/2] + sorted[n/2]) / 2)
}

func round3(v float64) float64 { return round(v, 3) }
