package scenario

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
)

// mostReplicas is the maximum of the shipped ScaledObjects, where a plain depth
// trigger ends up.
const mostReplicas = 10

// sizing is one way to size the fleet "pipeline" under more items than the
// store takes.
type sizing struct {
	overlay string
	trigger map[string]string
	shared  bool    // the store's capacity is shared by all writers, so more of them are no use
	rows    float64 // per second, of the store or of each writer
	items   float64 // per second that arrive
}

// start brings a fleet of one up, which carries what arrives, then slows the
// store down. It returns the fleet's replicas.
func (e *Env) start(ctx context.Context, s sizing) (*Track, error) {
	err := e.Install(ctx, Plan{
		Overlay: s.overlay, Without: []string{"controller"}, Job: usualJob(jobSettings{capacity: 4000}),
		Edits: []Edit{on("ScaledObject", "pipeline", trigger(0, s.trigger), set(int64(2), "spec", "pollingInterval"), quick, remove("spec", "fallback"),
			// Or the fleet shrinks for a moment while it learns what one replica drains.
			set(int64(10), "spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown", "stabilizationWindowSeconds"),
		)},
	})
	if err != nil {
		return nil, err
	}
	if err := e.awaitPods(ctx, "pipeline", 1); err != nil {
		return nil, err
	}
	replicas := e.Follow("pipeline")
	e.Load.Set(s.items)
	carrying, cancel := within(ctx, 30*time.Second, "carrying what arrives")
	defer cancel()
	err = cluster.Poll(carrying, func(ctx context.Context) error {
		written, err := e.Prometheus.Value(ctx, `sum(rate(coordinator_items_written_total[5s]))`)
		if err != nil {
			return err
		}
		if written < 0.9*s.items || replicas.Now() != 1 {
			return fmt.Errorf("%v rows/s by %d replicas", written, replicas.Now())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return replicas, e.Store.SetCapacity(ctx, s.rows, s.shared)
}

// Triggers of the metrics that size a fleet, so quick that a scenario takes a
// minute.
func sizingTrigger(more map[string]string) map[string]string {
	all := map[string]string{"drainWithin": "10s", "settle": "4s"}
	for key, value := range more {
		all[key] = value
	}
	return all
}

const (
	desired  = "overlays/fallback"          // desiredReplicas
	relative = "overlays/relative-pressure" // relativePressure
)

// storeBound are the signals of a store that takes 400 rows a second from all
// writers together, while three times as many arrive.
func storeBound(overlay string, more map[string]string) sizing {
	return sizing{overlay: overlay, trigger: sizingTrigger(more), shared: true, rows: 400, items: 1200}
}

// writerBound is a store that takes 200 rows a second from each writer, while
// eight writers' worth arrives.
func writerBound(overlay string) sizing {
	return sizing{overlay: overlay, trigger: sizingTrigger(nil), rows: 200, items: 1500}
}

// StoreBoundDepth: a plain depth trigger adds writers to a store that is
// overloaded, up to the maximum. It is what the others are shown beside.
var StoreBoundDepth = Scenario{Name: "store-bound-depth", Limit: 4 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	s := storeBound("overlays/prometheus", nil)
	s.trigger = map[string]string{"threshold": "500"}
	replicas, err := e.start(ctx, s)
	if err != nil {
		return err
	}
	if err := replicas.Is(ctx, mostReplicas, 2*time.Minute); err != nil {
		return err
	}
	e.Figure("replicas", path(replicas.All()))
	return e.figureDrain(ctx)
}}

// StoreBoundDesired and the three that follow: the scaler finds out that the
// store is the limit within a few steps, says so, and holds or steps back.
var (
	StoreBoundDesired          = storeBoundScenario("store-bound-desired", storeBound(desired, nil), "store_bound")
	StoreBoundDesiredStepBack  = storeBoundScenario("store-bound-desired-step-back", storeBound(desired, map[string]string{"whenStoreBound": "stepBack"}), "store_bound")
	StoreBoundRelative         = storeBoundScenario("store-bound-relative", storeBound(relative, nil), "store_bound")
	StoreBoundRelativeStepBack = storeBoundScenario("store-bound-relative-step-back", storeBound(relative, map[string]string{"whenStoreBound": "stepBack"}), "store_bound")
)

func storeBoundScenario(name string, s sizing, guard string) Scenario {
	const few = mostReplicas / 2
	return Scenario{Name: name, Limit: 4 * time.Minute, Run: func(ctx context.Context, e *Env) error {
		replicas, err := e.start(ctx, s)
		if err != nil {
			return err
		}
		began := time.Now()
		var why explanation
		finding, cancel := within(ctx, 2*time.Minute, "finding out that the store is the limit")
		defer cancel()
		err = cluster.Poll(finding, func(ctx context.Context) error {
			if why, err = e.explainOne(ctx, "pipeline"); err != nil {
				return err
			}
			if why.Plan == nil || !why.Plan.StoreBound || why.Guard != guard {
				return fmt.Errorf("replicas were %v, and the scaler explains %s", replicas.All(), describe(why))
			}
			return nil
		})
		if err != nil {
			return err
		}
		e.Say("found out after %.1f s: %s", time.Since(began).Seconds(), describe(why))
		e.Figure("seconds_to_verdict", round(time.Since(began).Seconds(), 1))
		most := slices.Max(replicas.All())
		if most > few || most < 2 {
			return fmt.Errorf("scale-out went to %d, want from 2 to %d: %v", most, few, replicas.All())
		}
		if err := e.saysStoreBound(ctx); err != nil {
			return err
		}
		stay := most
		if s.trigger["whenStoreBound"] == "stepBack" {
			back, cancel := within(ctx, 90*time.Second, "stepping back")
			defer cancel()
			if _, err := replicas.Until(back, func(n int64) bool { return n <= most/2 }); err != nil {
				return err
			}
			stay = replicas.Now()
			e.Say("stepped back from %d to %d", most, stay)
		}
		if err := replicas.Stays(ctx, stay, 20*time.Second); err != nil {
			return err
		}
		e.Figure("replicas", path(replicas.All()))
		e.Figure("guard", why.Guard)
		return e.figureDrain(ctx)
	}}
}

// saysStoreBound checks that the verdict is in the scaler's series and in its
// log too.
func (e *Env) saysStoreBound(ctx context.Context) error {
	bound, err := series(ctx, e.scalerHTTP()+"/metrics", "headgate_scaler_store_bound", fmt.Sprintf("scaled_object=%q", e.Namespace+"/pipeline"))
	if err != nil {
		return err
	}
	if bound != 1 {
		return fmt.Errorf("headgate_scaler_store_bound is %v, want 1", bound)
	}
	for _, log := range e.Node.Logs(e.Namespace) {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, `"store-bound guard"`) && strings.Contains(line, `"store_bound":true`) {
				return nil
			}
		}
	}
	return fmt.Errorf("no log tells of the store-bound guard")
}

// figureDrain keeps what the fleet drains at the end.
func (e *Env) figureDrain(ctx context.Context) error {
	drain, err := e.Prometheus.Value(ctx, `sum(rate(coordinator_items_written_total[10s]))`)
	if err != nil {
		return err
	}
	e.Figure("rows_per_second", round(drain, 0))
	return nil
}

// WriterBoundDesired and WriterBoundRelative: where each writer adds to the
// drain, scale-out goes on until what arrives is carried.
var (
	WriterBoundDesired  = writerBoundScenario("writer-bound-desired", writerBound(desired))
	WriterBoundRelative = writerBoundScenario("writer-bound-relative", writerBound(relative))
)

func writerBoundScenario(name string, s sizing) Scenario {
	enough := int64(s.items/s.rows) + 1
	return Scenario{Name: name, Limit: 5 * time.Minute, Run: func(ctx context.Context, e *Env) error {
		replicas, err := e.start(ctx, s)
		if err != nil {
			return err
		}
		began := time.Now()
		growing, cancel := within(ctx, 3*time.Minute, "growing")
		defer cancel()
		at, err := replicas.Until(growing, func(n int64) bool { return n >= enough })
		if err != nil {
			why, _ := e.explainOne(ctx, "pipeline")
			return fmt.Errorf("%w; the scaler explains %s", err, describe(why))
		}
		bound, err := e.Prometheus.Value(ctx, `max(max_over_time(headgate_scaler_store_bound[10m]))`)
		if err != nil {
			return err
		}
		if bound != 0 {
			return fmt.Errorf("the store was held to be the limit on the way: %v", replicas.All())
		}
		e.Figure("replicas", path(replicas.All()))
		e.Figure("seconds_to_enough", round(at.Sub(began).Seconds(), 1))
		e.Say("grew to %d, which carries what arrives: %v", replicas.Now(), replicas.All())
		return e.figureDrain(ctx)
	}}
}

// describe tells an explanation in a line.
func describe(x explanation) string {
	number := func(v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprint(round(*v, 2))
	}
	text := fmt.Sprintf("%s = %s by guard %q: level %s, depth %s, arrivals %s/s, drain %s/s, %d replicas",
		x.Metric, number(x.Value), x.Guard, x.Level, number(x.Depth), number(x.Arrivals), number(x.Drain), x.Replicas)
	if x.Plan != nil {
		text += fmt.Sprintf(", plan of %d, %s by the arithmetic alone", x.Plan.Replicas, number(x.Plan.Wanted))
	}
	if x.Error != "" {
		text += ", error " + x.Error
	}
	return text
}
