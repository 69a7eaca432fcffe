package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
)

// A backlog that does not move of itself: a store that takes next to nothing,
// and a target of a thousand items, so that each thousand more is a replica
// more.
const (
	still     = 2 // rows per second
	perStep   = 1000
	firstStep = 2900 // three replicas; what trickles away leaves it at three
)

const depthQuery = `sum(coordinator_queue_depth{coordinator_id="bars"})`

// installStill installs the external overlay with a backlog that does not move
// of itself, and waits for three replicas.
func (e *Env) installStill(ctx context.Context, p Plan) (*Track, error) {
	if p.Overlay == "" {
		p.Overlay = "overlays/external"
	}
	p.Without = append(p.Without, "controller")
	p.Edits = append([]Edit{on("ScaledObject", "pipeline-burst",
		trigger(0, map[string]string{"targetValue": fmt.Sprint(perStep)}),
		// The cool-down stays as it is shipped, longer than the faults: KEDA takes a
		// look that it breaks off for an idle one, and would scale to none after it.
		set(int64(2), "spec", "pollingInterval"), quick,
	)}, p.Edits...)
	if err := e.Store.SetCapacity(ctx, still, true); err != nil {
		return nil, err
	}
	if err := e.Install(ctx, p); err != nil {
		return nil, err
	}
	if err := e.awaitPods(ctx, "pipeline", 1); err != nil {
		return nil, err
	}
	e.Load.Pin([]string{"http://" + e.Node.Address(e.Namespace, "pipeline") + ":9400/v1/items"})
	e.Load.Add(firstStep)
	return e.Follow("pipeline-burst"), nil
}

// SignalsLost: Prometheus killed, series gone stale, NaN and absent, of all
// replicas or of one: replicas stay, and control resumes. KEDA's own trigger on the same series, with its
// defaults, is shown beside it.
var SignalsLost = Scenario{Name: "signals-lost", Limit: 6 * time.Minute, Faults: true, Run: func(ctx context.Context, e *Env) error {
	ours, err := e.installStill(ctx, Plan{})
	if err != nil {
		return err
	}
	kedasOwn := scaled{
		name: "kedas-own", replicas: 1, most: 10, polling: 2 * time.Second, cool: 5 * time.Second, trigger: e.kedasTrigger(perStep, ""),
	}
	if _, err := e.Cluster.ApplyYAML(ctx, kedasOwn.yaml(e.Namespace)); err != nil {
		return err
	}
	kedas := e.Follow("kedas-own")
	n := int64(3)
	for _, t := range []*Track{ours, kedas} {
		if err := t.Is(ctx, n, 40*time.Second); err != nil {
			return err
		}
	}
	e.Say("%d replicas by both triggers", n)

	var fell []string // what made KEDA's own trigger fall to the minimum
	for _, lost := range []struct {
		what       string
		begin, end func(context.Context) error
	}{
		{"prometheus killed", func(context.Context) error { e.Prometheus.Kill(); return nil }, e.Prometheus.Start},
		{"series stale", e.spoil(frozen), e.spoil(noFault)},
		{"series NaN", e.spoil(notANumber), e.spoil(noFault)},
		{"series absent", e.spoil(nothingLeft), e.spoil(noFault)},
		{"series of one replica absent", e.spoil(emptyLeft), e.spoil(noFault)},
	} {
		began := time.Now()
		if err := lost.begin(ctx); err != nil {
			return err
		}
		// The autoscaler has to have noticed: that it holds is shown only then.
		err := e.Cluster.Await(ctx, cluster.Autoscalers, e.Namespace, "keda-hpa-pipeline-burst", func(o *cluster.Object) bool {
			return cluster.Condition(o, "ScalingActive") == "False"
		})
		if err != nil {
			return fmt.Errorf("%s: %w", lost.what, err)
		}
		noticed := time.Since(began)
		if err := ours.Stays(ctx, n, 12*time.Second); err != nil {
			return fmt.Errorf("%s: %w", lost.what, err)
		}
		least := slices.Min(kedas.Since(began))
		if least == 0 {
			fell = append(fell, lost.what)
		}
		// Whether control resumes is seen only when there is something to do.
		n++
		if err := e.backlog(ctx, n*perStep-50); err != nil {
			return err
		}
		if err := lost.end(ctx); err != nil {
			return err
		}
		ended := time.Now()
		if err := ours.Is(ctx, n, 40*time.Second); err != nil {
			return fmt.Errorf("%s, and back: %w", lost.what, err)
		}
		resumed := time.Since(ended)
		if err := kedas.Is(ctx, n, 40*time.Second); err != nil {
			return fmt.Errorf("%s, and back, KEDA's own trigger: %w", lost.what, err)
		}
		e.Figure(lost.what, map[string]any{
			"ours_least": slices.Min(ours.Since(began)), "kedas_own_least": least,
			"noticed_seconds": round(noticed.Seconds(), 1), "resumed_seconds": round(resumed.Seconds(), 1),
		})
		e.Say("%s: ours stayed at %d, KEDA's own trigger fell to %d", lost.what, n-1, least)
	}
	e.Figure("ours", path(ours.All()))
	e.Figure("kedas_own", path(kedas.All()))
	if slices.Min(ours.All()[slices.Index(ours.All(), 3):]) < 3 {
		return fmt.Errorf("replicas fell though nothing asked for it: %v", ours.All())
	}
	// It errs too where Prometheus gives no answer, and believes a sample of any
	// age; NaN and nothing are zero to it, and a part is the whole.
	if want := []string{"series NaN", "series absent", "series of one replica absent"}; !slices.Equal(fell, want) {
		return fmt.Errorf("KEDA's own trigger fell to the minimum by %q, want %q: %v", fell, want, kedas.All())
	}
	return nil
}}

// backlog offers what is missing to a number of items that wait.
func (e *Env) backlog(ctx context.Context, items int64) error {
	rows, err := e.Store.Rows(ctx)
	if err != nil {
		return err
	}
	e.Load.Add(int(items - (e.Load.Accepted() - rows)))
	return nil
}

// spoil is a step that sets what becomes of the series.
func (e *Env) spoil(to fault) func(context.Context) error {
	return func(context.Context) error {
		e.faults.Set(to)
		return nil
	}
}
