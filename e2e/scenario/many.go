package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/internal/process"
)

const (
	manyObjects  = 200
	manyPolling  = 5 * time.Second
	manyMeasured = 40 * time.Second // eight polls of each
)

// cost is what a number of ScaledObjects costs, in processor seconds per minute.
type cost struct {
	Asked      float64 `json:"scaler_asked_per_minute"`
	Queries    float64 `json:"queries_per_minute"`
	Prometheus float64 `json:"prometheus_cpu_seconds_per_minute"`
	Operator   float64 `json:"operator_cpu_seconds_per_minute"`
	Scaler     float64 `json:"scaler_cpu_seconds_per_minute"`
}

// Many: 200 ScaledObjects on the scaler cost Prometheus as many queries as one,
// and 200 on KEDA's own trigger two hundred times as many. All poll at the same
// interval; nothing is to do, so that the autoscalers do not ask as well.
var Many = Scenario{Name: "many-scaled-objects", Alone: true, Limit: 10 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	err := e.Install(ctx, Plan{
		Overlay: "overlays/external", Without: []string{"controller"},
		Settings: map[string]string{"HEADGATE_SCALER_INTERVAL": "5s", "HEADGATE_SCALER_STALE_AFTER": "30s"},
		Edits: []Edit{on("ScaledObject", "pipeline-burst",
			set(int64(manyPolling.Seconds()), "spec", "pollingInterval"), set(int64(1), "spec", "cooldownPeriod"))},
	})
	if err != nil {
		return err
	}
	if err := e.Follow("pipeline-burst").Is(ctx, 0, 60*time.Second); err != nil {
		return err
	}
	one, err := e.measure(ctx)
	if err != nil {
		return err
	}
	e.Say("1 on the scaler: %+v", one)
	if err := e.many(ctx, e.ourTrigger("external", `coordinatorIds: bars, metric: queueDepth, targetValue: "2000", activationValue: "100"`)); err != nil {
		return err
	}
	ours, err := e.measure(ctx)
	if err != nil {
		return err
	}
	e.Say("%d on the scaler: %+v", manyObjects+1, ours)
	if err := e.none(ctx); err != nil {
		return err
	}
	e.Node.Hold(e.Namespace, scalerComponent)
	if err := e.many(ctx, e.kedasTrigger(2000, `, activationThreshold: "100"`)); err != nil {
		return err
	}
	kedas, err := e.measure(ctx)
	if err != nil {
		return err
	}
	e.Say("%d on KEDA's own trigger: %+v", manyObjects, kedas)
	e.Figure("polling_interval_seconds", manyPolling.Seconds())
	e.Figure("one_on_scaler", one)
	e.Figure("201_on_scaler", ours)
	e.Figure("200_on_kedas_own", kedas)
	// That nothing is asked of Prometheus counts only where KEDA asked the scaler.
	polls := time.Minute.Seconds() / manyPolling.Seconds()
	if least := 0.8 * manyObjects * polls; ours.Asked < least {
		return fmt.Errorf("KEDA asked the scaler %v times a minute for %d ScaledObjects, want at least %v", ours.Asked, manyObjects+1, least)
	}
	// A reading more or less may fall into what is measured.
	if slack := 2 * time.Minute.Seconds() / manyMeasured.Seconds(); ours.Queries > one.Queries+slack {
		return fmt.Errorf("%d ScaledObjects on the scaler make %v queries a minute, and one makes %v", manyObjects+1, ours.Queries, one.Queries)
	}
	if least := 0.8 * manyObjects * polls; kedas.Queries < least {
		return fmt.Errorf("%d ScaledObjects on KEDA's own trigger make %v queries a minute, want at least %v", manyObjects, kedas.Queries, least)
	}
	if ours.Prometheus >= kedas.Prometheus {
		return fmt.Errorf("Prometheus needs %v processor seconds a minute for %d ScaledObjects on the scaler, and %v for %d on KEDA's own trigger",
			ours.Prometheus, manyObjects+1, kedas.Prometheus, manyObjects)
	}
	return e.none(ctx)
}}

// many makes the ScaledObjects, each with a Deployment of its own, and waits
// until KEDA has taken all.
func (e *Env) many(ctx context.Context, trigger string) error {
	var b strings.Builder
	var names []string
	for i := range manyObjects {
		name := fmt.Sprintf("many-%d", i)
		names = append(names, name)
		b.WriteString(scaled{name: name, most: 10, polling: manyPolling, cool: time.Second, trigger: trigger}.yaml(e.Namespace))
	}
	if _, err := e.Cluster.ApplyYAML(ctx, b.String()); err != nil {
		return err
	}
	return e.ready(ctx, names)
}

// ready waits until KEDA has taken ScaledObjects.
func (e *Env) ready(ctx context.Context, names []string) error {
	ctx, cancel := within(ctx, 2*time.Minute, "being taken by KEDA")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		all, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).List(ctx, listAll)
		if err != nil {
			return err
		}
		left := slices.Clone(names)
		for i := range all.Items {
			if cluster.Condition(&all.Items[i], "Ready") == "True" {
				left = slices.DeleteFunc(left, func(name string) bool { return name == all.Items[i].GetName() })
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d of %d ScaledObjects are not ready: %v", len(left), len(names), left[:min(5, len(left))])
		}
		return nil
	})
}

// none deletes all ScaledObjects and waits until KEDA has let them go.
func (e *Env) none(ctx context.Context) error {
	objects := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace)
	if err := objects.DeleteCollection(ctx, metav1.DeleteOptions{}, listAll); err != nil {
		return fmt.Errorf("delete the ScaledObjects: %w", err)
	}
	ctx, cancel := within(ctx, 2*time.Minute, "letting the ScaledObjects go")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		all, err := objects.List(ctx, listAll)
		if err != nil {
			return err
		}
		if n := len(all.Items); n > 0 {
			return fmt.Errorf("%d ScaledObjects are left", n)
		}
		return nil
	})
}

// measure watches for a while what is asked and what it costs.
func (e *Env) measure(ctx context.Context) (cost, error) {
	before, err := e.counters()
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if !cluster.Pause(ctx, manyMeasured) {
		return cost{}, context.Cause(ctx)
	}
	after, err := e.counters()
	if err != nil {
		return cost{}, err
	}
	minutes := time.Since(began).Minutes()
	per := func(a, b float64) float64 { return round((b-a)/minutes, 2) }
	return cost{
		Asked: round((after.Asked-before.Asked)/minutes, 0), Queries: round((after.Queries-before.Queries)/minutes, 0), Prometheus: per(before.Prometheus, after.Prometheus),
		Operator: per(before.Operator, after.Operator), Scaler: per(before.Scaler, after.Scaler),
	}, nil
}

// counters are a cost since the processes began.
func (e *Env) counters() (c cost, err error) {
	if c.Queries, err = series(e.ctx, e.Prometheus.URL+"/metrics", "prometheus_http_requests_total", `handler="/api/v1/query"`); err != nil {
		return c, err
	}
	scalers := e.Node.Processes(e.Namespace, scalerComponent)
	if len(scalers) > 0 {
		if c.Asked, err = series(e.ctx, e.scalerHTTP()+"/metrics", "grpc_server_handled_total", `grpc_service="externalscaler.ExternalScaler"`); err != nil {
			return c, err
		}
	}
	for into, all := range map[*float64][]*process.Process{
		&c.Prometheus: {e.Prometheus.process}, &c.Operator: {e.Cluster.Operator}, &c.Scaler: scalers,
	} {
		for _, p := range all {
			used, err := p.CPU()
			if err != nil {
				return c, err
			}
			*into += used.Seconds()
		}
	}
	return c, nil
}
