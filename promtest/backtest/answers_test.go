package backtest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/metrics"
)

// recordedFile is the record of a real run; see testdata/backtest/README.md.
const recordedFile = "../testdata/backtest/smoke.om"

func recordedSeries(t testing.TB) history {
	t.Helper()
	data, err := os.ReadFile(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{metrics.BaseRate, metrics.ScaleFactor}
	n := metrics.DefaultNames()
	names = append(names, n.Depth, n.Capacity, n.Soft, n.Hard, n.Accepted, n.Written, n.Dropped)
	h, err := parseOpenMetrics(recordedFile, data, names)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// counted is a ranger that counts its queries.
type counted struct {
	ranger
	queries int
}

func (c *counted) QueryRange(ctx context.Context, query string, r v1.Range, opts ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	c.queries++
	return c.ranger.QueryRange(ctx, query, r, opts...)
}

func TestInWindowsTheReaderReadsWhatItWouldHaveReadThen(t *testing.T) {
	h := recordedSeries(t)
	from, to, _ := h.span([]string{metrics.QueueDepth})
	quiet, names := slog.New(slog.DiscardHandler), []metrics.Names{metrics.DefaultNames()}
	for window, queries := range map[int]int{1: 75, 7: 11, windowTicks: 1} {
		const every = 700 * time.Millisecond
		source := &counted{ranger: h.querier()}
		a := &answers{source: source, every: every, end: to, window: window}
		windowed, err := metrics.NewReader(a, names, quiet)
		if err != nil {
			t.Fatal(err)
		}
		live := h.querier()
		instant, err := metrics.NewReader(live, names, quiet)
		if err != nil {
			t.Fatal(err)
		}
		for now := from; !now.After(to); now = now.Add(every) {
			a.now, live.Now = now, now
			got, err := windowed.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want, err := instant.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
				t.Fatalf("in windows of %d ticks, at %v: %s", window, now, diff)
			}
		}
		if diff := source.queries - queries; diff < -3 || diff > 3 {
			t.Errorf("in windows of %d ticks %d queries were asked, want some %d", window, source.queries, queries)
		}
	}
}

// tooLarge answers no more than so many steps.
type tooLarge struct {
	ranger
	most int
}

func (l *tooLarge) QueryRange(ctx context.Context, query string, r v1.Range, opts ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	if int(r.End.Sub(r.Start)/r.Step) >= l.most {
		return nil, nil, nil, metrics.ErrTooLarge
	}
	return l.ranger.QueryRange(ctx, query, r, opts...)
}

func TestWhereAnAnswerIsTooLargeLessIsAskedFor(t *testing.T) {
	h := recordedSeries(t)
	from, to, _ := h.span([]string{metrics.QueueDepth})
	for most, enough := range map[int]bool{20: true, 1: true, 0: false} {
		a := &answers{source: &tooLarge{h.querier(), most}, every: time.Second, end: to}
		var err error
		seen := 0
		for now := from; err == nil && !now.After(to); now = now.Add(time.Second) {
			a.now = now
			var v model.Value
			if v, _, _, err = a.Query(t.Context(), metrics.QueueDepth, now); err == nil {
				seen += len(v.(model.Vector))
			}
		}
		if enough && (err != nil || seen < 50) {
			t.Errorf("with %d steps at most: %d samples and %v", most, seen, err)
		}
		if !enough && !errors.Is(err, metrics.ErrTooLarge) {
			t.Errorf("of a single step that is too large the error is %v", err)
		}
	}
}

func TestHistogramsAreNoNumbers(t *testing.T) {
	at := model.TimeFromUnix(10)
	a := &answers{every: time.Second, until: time.Unix(20, 0), now: time.Unix(10, 0), values: []int{0}, hists: []int{0},
		streams: model.Matrix{{Histograms: []model.SampleHistogramPair{{Timestamp: at - 1000}, {Timestamp: at, Histogram: &model.SampleHistogram{Count: 3}}}}}}
	v, _, _, err := a.Query(t.Context(), "x", time.Time{})
	if err != nil || len(v.(model.Vector)) != 1 || v.(model.Vector)[0].Histogram.Count != 3 {
		t.Errorf("got %v and %v", v, err)
	}
}

type scalar struct{}

func (scalar) QueryRange(context.Context, string, v1.Range, ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	return &model.Scalar{}, nil, nil, nil
}

func TestAnAnswerThatIsNoMatrixIsAnError(t *testing.T) {
	a := &answers{source: scalar{}, every: time.Second, end: time.Unix(20, 0), now: time.Unix(10, 0)}
	if _, _, _, err := a.Query(t.Context(), "x", time.Time{}); err == nil {
		t.Error("a scalar is taken for a matrix")
	}
}
