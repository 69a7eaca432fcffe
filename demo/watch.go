package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/internal/exposition"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// decision is what the demo reads of a row of the controller's /v1/decisions.
// A number that is not known is null there.
type decision struct {
	At          time.Time      `json:"at"`
	Changed     bool           `json:"changed"`
	Reason      string         `json:"reason"`
	Level       pressure.Level `json:"level"`
	Depth       *float64       `json:"depth"`
	Capacity    *float64       `json:"capacity"`
	SoftEnter   *float64       `json:"soft_enter"`
	HardEnter   *float64       `json:"hard_enter"`
	Arrivals    *float64       `json:"arrivals_per_second"`
	Drain       *float64       `json:"drain_per_second"`
	Age         *float64       `json:"age_seconds"`
	Outcome     string         `json:"outcome"`
	InForce     *float64       `json:"scale_in_force"`
	Effective   *float64       `json:"effective_per_second"`
	Explanation string         `json:"explanation"`
}

// decisions returns the controller's decisions, the newest first.
func (l *loop) decisions(ctx context.Context, limit int) ([]decision, error) {
	var answer struct {
		Decisions []decision `json:"decisions"`
	}
	query := url.Values{"target": {coordinatorID}, "limit": {fmt.Sprint(limit)}}
	if err := getJSON(ctx, l.controllerURL+"/v1/decisions?"+query.Encode(), &answer); err != nil {
		return nil, fmt.Errorf("read the decisions: %w", err)
	}
	return answer.Decisions, nil
}

func getJSON(ctx context.Context, url string, into any) error {
	response, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// get asks for an address. Any other answer than 200 is an error.
func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	return response, nil
}

// frame is what a viewer sees of a decision.
func (l *loop) frame(d decision, accepted, written float64) frame {
	at := d.At.Sub(l.started)
	return frame{
		at: at, level: d.Level,
		depth: number(d.Depth), capacity: number(d.Capacity),
		softEnter: number(d.SoftEnter), hardEnter: number(d.HardEnter),
		arrivals: number(d.Arrivals), drain: number(d.Drain),
		scale: number(d.InForce), allowed: number(d.Effective),
		storeTakes: l.rehearsal.storeTakes(at),
		accepted:   accepted, written: written,
	}
}

func number(n *float64) float64 {
	if n == nil {
		return math.NaN()
	}
	return *n
}

// totals are counts of items since the start, as Prometheus last saw them; NaN
// where it did not.
func (l *loop) totals(ctx context.Context, prometheus v1.API) (accepted, written float64) {
	count := func(series string) float64 {
		n, err := ask(ctx, prometheus, "sum("+series+")")
		if err != nil {
			return math.NaN() // a viewer sees the next one
		}
		return n
	}
	return count(metrics.ItemsAccepted), count(metrics.ItemsWritten)
}

// asking puts questions to the loop's Prometheus.
func (l *loop) asking() (v1.API, error) {
	client, err := api.NewClient(api.Config{Address: l.prometheus.URL})
	if err != nil {
		return nil, fmt.Errorf("ask prometheus: %w", err)
	}
	return v1.NewAPI(client), nil
}

// ask returns the one value of an expression, NaN where there is none.
func ask(ctx context.Context, prometheus v1.API, expression string) (float64, error) {
	value, _, _, err := prometheus.Query(ctx, expression, time.Time{})
	if err != nil {
		return 0, fmt.Errorf("ask prometheus for %s: %w", expression, err)
	}
	vector, isVector := value.(model.Vector)
	if !isVector || len(vector) != 1 {
		return math.NaN(), nil
	}
	return float64(vector[0].Value), nil
}

// queries is how many queries Prometheus has answered, as it counts itself.
func (l *loop) queries(ctx context.Context) (int, error) {
	families, err := exposition.Read(ctx, http.DefaultClient, l.prometheus.URL+"/metrics")
	if err != nil {
		return 0, fmt.Errorf("count the queries: %w", err)
	}
	return int(families.Sum("prometheus_http_requests_total", "handler", "/api/v1/query")), nil
}

// follow calls see for each new decision, until ctx ends. A controller that
// does not answer for a while is asked again: the loop itself has to stand
// that too.
func (l *loop) follow(ctx context.Context, see func(decision)) error {
	ticker := time.NewTicker(tickEvery / 4)
	defer ticker.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.pipeline.ended:
			return fmt.Errorf("the pipeline ended (%v): see %s", l.pipeline.err, l.pipeline.log)
		case <-l.controller.ended:
			return fmt.Errorf("the controller ended (%v): see %s", l.controller.err, l.controller.log)
		case <-ticker.C:
		}
		rows, err := l.decisions(ctx, 20)
		if err != nil {
			continue
		}
		for i := len(rows) - 1; i >= 0; i-- {
			if rows[i].At.After(last) {
				last = rows[i].At
				see(rows[i])
			}
		}
	}
}
