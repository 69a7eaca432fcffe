package backtest

import (
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/headgate/headgate/promtest/engine"
	"github.com/headgate/headgate/promtest/fixture"
)

// lookBack is how long a sample without a successor counts, as Prometheus has
// it by default.
const lookBack = 5 * time.Minute

// series is one series with its samples. Once sorted, their times rise.
type series struct {
	labels labels.Labels
	at     []int64 // milliseconds since 1970
	values []float64
}

func (s *series) add(at int64, v float64) {
	s.at, s.values = append(s.at, at), append(s.values, v)
}

// sort brings the samples into the order of their times. Of several at one time
// the last that was added counts.
func (s *series) sort() {
	if !slices.IsSorted(s.at) {
		sort.Stable(byTime{s})
	}
	kept := 0
	for i := range s.at {
		if i+1 < len(s.at) && s.at[i+1] == s.at[i] {
			continue
		}
		s.at[kept], s.values[kept] = s.at[i], s.values[i]
		kept++
	}
	s.at, s.values = s.at[:kept], s.values[:kept]
}

type byTime struct{ *series }

func (b byTime) Len() int           { return len(b.at) }
func (b byTime) Less(i, j int) bool { return b.at[i] < b.at[j] }
func (b byTime) Swap(i, j int) {
	b.at[i], b.at[j] = b.at[j], b.at[i]
	b.values[i], b.values[j] = b.values[j], b.values[i]
}

// history is samples in memory. It implements storage.Queryable, and is not
// changed once it is asked.
type history []*series

// span is the time of the first and of the last sample of the series with one
// of the names. It is not ok where there is none.
func (h history) span(names []string) (first, last time.Time, ok bool) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range h {
		if len(s.at) > 0 && slices.Contains(names, s.labels.Get(model.MetricNameLabel)) {
			from, to, ok = min(from, s.at[0]), max(to, s.at[len(s.at)-1]), true
		}
	}
	return time.UnixMilli(from), time.UnixMilli(to), ok
}

// mostSamples that one query may look at; some hundred times of what a window
// of ticks over a thousand series needs.
const mostSamples = 1_000_000_000

// querier evaluates expressions over the history.
func (h history) querier() *engine.Querier {
	return &engine.Querier{Queryable: h, Engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: mostSamples, Timeout: queryTimeout, LookbackDelta: lookBack, Parser: fixture.Parser(),
	})}
}

// Querier implements storage.Queryable.
func (h history) Querier(from, to int64) (storage.Querier, error) {
	return selection{history: h, from: from, to: to}, nil
}

// selection is the samples of a history between two times.
type selection struct {
	history  history
	from, to int64
}

func (s selection) Select(_ context.Context, sorted bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []*series
	for _, one := range s.history {
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.labels.Get(m.Name)) }) {
			continue
		}
		first, _ := slices.BinarySearch(one.at, s.from)
		end, _ := slices.BinarySearch(one.at, s.to+1)
		if first < end {
			found = append(found, &series{one.labels, one.at[first:end], one.values[first:end]})
		}
	}
	if sorted {
		slices.SortFunc(found, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	}
	return &seriesSet{all: found}
}

func (selection) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

func (selection) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

func (selection) Close() error { return nil }

// seriesSet iterates over series.
type seriesSet struct {
	all  []*series
	next int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series.
func (s *series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(s)
}

// Len implements storage.Samples.
func (s *series) Len() int { return len(s.at) }

// Get implements storage.Samples.
func (s *series) Get(i int) chunks.Sample { return point{s.at[i], s.values[i]} }

// point is one sample. There are no histograms.
type point struct {
	at    int64 // milliseconds since 1970
	value float64
}

func (p point) T() int64                      { return p.at }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.value }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }
