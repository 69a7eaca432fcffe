// Package engine lets the product's reader ask a PromQL engine in this process,
// over samples that are not served by anybody.
package engine

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
)

// Querier answers instant queries as a server's /api/v1/query does. It is a
// metrics.Querier, and belongs to one goroutine.
type Querier struct {
	Engine    *promql.Engine
	Queryable storage.Queryable

	// Now is the server's clock: the time of a query that says none.
	Now time.Time
}

// Query evaluates the expression at a time, or Now where that is zero. Options
// count for nothing.
func (q *Querier) Query(ctx context.Context, expr string, at time.Time, _ ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	if at.IsZero() {
		at = q.Now
	}
	query, err := q.Engine.NewInstantQuery(ctx, q.Queryable, nil, expr, at)
	if err != nil {
		return nil, nil, nil, err
	}
	defer query.Close()
	result := query.Exec(ctx)
	warnings, infos := result.Warnings.AsStrings(expr, 0, 0)
	if result.Err != nil {
		return nil, warnings, infos, result.Err
	}
	switch value := result.Value.(type) {
	case promql.Vector:
		return vector(value), warnings, infos, nil
	case promql.Scalar:
		return &model.Scalar{Value: model.SampleValue(value.V), Timestamp: model.Time(value.T)}, warnings, infos, nil
	default:
		return nil, warnings, infos, fmt.Errorf("the answer is a %T, want a vector or a scalar", value)
	}
}

func vector(from promql.Vector) model.Vector {
	all := make(model.Vector, len(from))
	for i, s := range from {
		all[i] = &model.Sample{Metric: metric(s.Metric), Value: model.SampleValue(s.F), Timestamp: model.Time(s.T)}
		if s.H != nil {
			all[i].Histogram = sampleHistogram(s.H)
		}
	}
	return all
}

func metric(from labels.Labels) model.Metric {
	m := make(model.Metric, from.Len())
	from.Range(func(l labels.Label) { m[model.LabelName(l.Name)] = model.LabelValue(l.Value) })
	return m
}

// sampleHistogram has the count and the sum; nobody here looks at buckets.
func sampleHistogram(h *histogram.FloatHistogram) *model.SampleHistogram {
	return &model.SampleHistogram{Count: model.FloatString(h.Count), Sum: model.FloatString(h.Sum)}
}
