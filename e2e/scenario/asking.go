package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// explanation is what GET /v1/explain of the scaler tells of one trigger, as
// far as the scenarios look at it.
type explanation struct {
	At           time.Time `json:"at"`
	Metric       string    `json:"metric"`
	Target       string    `json:"target"`
	Coordinators []string  `json:"coordinators"`
	AgeSeconds   *float64  `json:"age_seconds"`
	Level        string    `json:"level"`
	Depth        *float64  `json:"depth"`
	Capacity     *float64  `json:"capacity"`
	Arrivals     *float64  `json:"arrivals_per_second"`
	Drain        *float64  `json:"drain_per_second"`
	Replicas     int       `json:"replicas"`
	Plan         *struct {
		Wanted     *float64 `json:"wanted"`
		Replicas   int      `json:"replicas"`
		StoreBound bool     `json:"store_bound"`
	} `json:"plan"`
	Value      *float64 `json:"value"`
	Active     bool     `json:"active"`
	Guard      string   `json:"guard"`
	Autoscaler struct {
		Target         float64 `json:"target_value"`
		MetricType     string  `json:"metric_type"`
		Replicas       int     `json:"replicas"`
		AsAverageValue int     `json:"replicas_as_average_value"`
		AsValue        int     `json:"replicas_as_value"`
	} `json:"autoscaler"`
	Error string `json:"error"`
}

// scalerHTTP is the address of the scaler's HTTP server.
func (e *Env) scalerHTTP() string {
	return "http://" + e.Node.Address(e.Namespace, scalerComponent) + ":8081"
}

// explain asks the scaler why it answered a ScaledObject's triggers as it did.
func (e *Env) explain(ctx context.Context, scaledObject string) ([]explanation, error) {
	text, err := fetch(ctx, e.scalerHTTP()+"/v1/explain?scaledObject="+url.QueryEscape(e.Namespace+"/"+scaledObject))
	if err != nil {
		return nil, err
	}
	var body struct {
		Answers []explanation `json:"answers"`
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("read the explanation %s: %w", text, err)
	}
	return body.Answers, nil
}

// explainOne is explain where there is one trigger that was answered already.
func (e *Env) explainOne(ctx context.Context, scaledObject string) (explanation, error) {
	all, err := e.explain(ctx, scaledObject)
	if err != nil {
		return explanation{}, err
	}
	if len(all) != 1 {
		return explanation{}, fmt.Errorf("the scaler explains %d triggers of %s, want 1", len(all), scaledObject)
	}
	return all[0], nil
}

// series reads the series that a process exports, as a sum over those of one
// name that have the given labels, written as name="value" pairs.
func series(ctx context.Context, metricsURL, name string, labels ...string) (float64, error) {
	all, err := exported(ctx, metricsURL)
	if err != nil {
		return 0, err
	}
	return all.sum(name, labels...)
}

// families are all series that a process exports, by name.
type families map[string]*dto.MetricFamily

func exported(ctx context.Context, metricsURL string) (families, error) {
	text, err := fetch(ctx, metricsURL)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the series of %s: %w", metricsURL, err)
	}
	return all, nil
}

// sum is the sum over the series of one name that have the labels. A name that
// is not exported is an error.
func (f families) sum(name string, labels ...string) (float64, error) {
	metrics, err := f.with(name, labels...)
	sum := 0.0
	for _, m := range metrics {
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
	}
	return sum, err
}

// atMost is how many observations of a histogram did not exceed a bound, which
// has to be one of its buckets', and how many there are.
func (f families) atMost(bound float64, name string, labels ...string) (within, all uint64, err error) {
	metrics, err := f.with(name, labels...)
	for _, m := range metrics {
		all += m.GetHistogram().GetSampleCount()
		at := slices.IndexFunc(m.GetHistogram().GetBucket(), func(b *dto.Bucket) bool { return b.GetUpperBound() == bound })
		if at < 0 {
			return 0, 0, fmt.Errorf("the histogram %s has no bucket up to %v", name, bound)
		}
		within += m.GetHistogram().GetBucket()[at].GetCumulativeCount()
	}
	return within, all, err
}

func (f families) with(name string, labels ...string) ([]*dto.Metric, error) {
	family := f[name]
	if family == nil {
		return nil, fmt.Errorf("no series %s is exported", name)
	}
	return slices.DeleteFunc(slices.Clone(family.GetMetric()), func(m *dto.Metric) bool {
		has := map[string]bool{}
		for _, pair := range m.GetLabel() {
			has[fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue())] = true
		}
		return slices.ContainsFunc(labels, func(label string) bool { return !has[label] })
	}), nil
}

// levelChange is a coordinator's word that its level has changed.
type levelChange struct {
	Level string  `json:"level"`
	Depth int     `json:"queue_size"`
	TS    float64 `json:"ts"` // seconds since 1970
}

// At is when the coordinator saw it.
func (c levelChange) At() time.Time { return time.UnixMicro(int64(c.TS * 1e6)) }

// levelChanges follows a coordinator's stream of changes until the scenario
// ends. Each change is sent to the channel.
func (e *Env) levelChanges(url string) <-chan levelChange {
	changes := make(chan levelChange, 100)
	e.Go(func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/changes", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		kind := ""
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case name == "event":
				kind = value
			case name == "data" && kind == "feedback":
				var change levelChange
				if err := json.Unmarshal([]byte(value), &change); err != nil {
					return fmt.Errorf("read the change %s: %w", value, err)
				}
				changes <- change
			}
		}
		return fmt.Errorf("the stream of changes ended: %w", lines.Err())
	})
	return changes
}

// await receives until a change is to the level.
func await(ctx context.Context, changes <-chan levelChange, level string) (levelChange, error) {
	for {
		select {
		case change := <-changes:
			if strings.EqualFold(change.Level, level) {
				return change, nil
			}
		case <-ctx.Done():
			return levelChange{}, fmt.Errorf("no change to level %s: %w", level, context.Cause(ctx))
		}
	}
}
