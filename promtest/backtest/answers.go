package backtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/metrics"
)

// windowTicks is how many ticks are asked for at once. Servers answer at most
// 11,000.
const windowTicks = 1000

// answers are those of one query at one tick after another, as instant queries
// would give them, asked for in windows. It is a metrics.Querier, and belongs to
// one goroutine.
type answers struct {
	source ranger
	every  time.Duration
	end    time.Time // of the last tick

	now time.Time // the tick that is asked for; it never goes back

	window  int       // ticks of one; 0 is windowTicks
	until   time.Time // the last tick of the present window; zero before the first
	streams model.Matrix
	values  []int // the next of each stream's values
	hists   []int
}

// Query is the answer at the present tick. Of one answers all queries must be
// the same; the time and the options count for nothing.
func (a *answers) Query(ctx context.Context, query string, _ time.Time, _ ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	var warnings v1.Warnings
	if a.until.IsZero() || a.now.After(a.until) {
		var err error
		if warnings, err = a.load(ctx, query); err != nil {
			return nil, nil, nil, err
		}
	}
	now := model.TimeFromUnixNano(a.now.UnixNano())
	var vector model.Vector
	for i, s := range a.streams {
		for a.values[i] < len(s.Values) && s.Values[a.values[i]].Timestamp < now {
			a.values[i]++
		}
		for a.hists[i] < len(s.Histograms) && s.Histograms[a.hists[i]].Timestamp < now {
			a.hists[i]++
		}
		if k := a.values[i]; k < len(s.Values) && s.Values[k].Timestamp == now {
			vector = append(vector, &model.Sample{Metric: s.Metric, Value: s.Values[k].Value, Timestamp: now})
		} else if k := a.hists[i]; k < len(s.Histograms) && s.Histograms[k].Timestamp == now {
			vector = append(vector, &model.Sample{Metric: s.Metric, Histogram: s.Histograms[k].Histogram, Timestamp: now})
		}
	}
	return vector, warnings, nil, nil
}

// load asks for the window that begins now. Where the answer is too large, a
// smaller one is asked for, and from then on.
func (a *answers) load(ctx context.Context, query string) (v1.Warnings, error) {
	if a.window == 0 {
		a.window = windowTicks
	}
	for {
		until := a.now.Add(time.Duration(a.window-1) * a.every)
		if until.After(a.end) {
			until = a.end
		}
		value, warnings, err := a.ask(ctx, query, v1.Range{Start: a.now, End: until, Step: a.every})
		if errors.Is(err, metrics.ErrTooLarge) && a.window > 1 {
			a.window /= 2
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask for %s to %s: %w", a.now.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339), err)
		}
		matrix, ok := value.(model.Matrix)
		if !ok {
			return nil, fmt.Errorf("the answer is a %T, want a matrix", value)
		}
		a.streams, a.until = matrix, until
		a.values, a.hists = make([]int, len(matrix)), make([]int, len(matrix))
		return warnings, nil
	}
}

func (a *answers) ask(ctx context.Context, query string, r v1.Range) (model.Value, v1.Warnings, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	value, warnings, _, err := a.source.QueryRange(ctx, query, r)
	return value, warnings, err
}
