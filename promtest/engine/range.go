package engine

import (
	"context"
	"fmt"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
)

// QueryRange evaluates the expression at each step of a range, as a server's
// /api/v1/query_range does. Options count for nothing.
func (q *Querier) QueryRange(ctx context.Context, expr string, r v1.Range, _ ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	query, err := q.Engine.NewRangeQuery(ctx, q.Queryable, nil, expr, r.Start, r.End, r.Step)
	if err != nil {
		return nil, nil, nil, err
	}
	defer query.Close()
	result := query.Exec(ctx)
	warnings, infos := result.Warnings.AsStrings(expr, 0, 0)
	if result.Err != nil {
		return nil, warnings, infos, result.Err
	}
	value, ok := result.Value.(promql.Matrix)
	if !ok {
		return nil, warnings, infos, fmt.Errorf("the answer is a %T, want a matrix", result.Value)
	}
	return matrix(value), warnings, infos, nil
}

func matrix(from promql.Matrix) model.Matrix {
	all := make(model.Matrix, len(from))
	for i, s := range from {
		stream := &model.SampleStream{Metric: metric(s.Metric), Values: make([]model.SamplePair, len(s.Floats))}
		for k, p := range s.Floats {
			stream.Values[k] = model.SamplePair{Timestamp: model.Time(p.T), Value: model.SampleValue(p.F)}
		}
		for _, p := range s.Histograms {
			stream.Histograms = append(stream.Histograms, model.SampleHistogramPair{Timestamp: model.Time(p.T), Histogram: sampleHistogram(p.H)})
		}
		all[i] = stream
	}
	return all
}
