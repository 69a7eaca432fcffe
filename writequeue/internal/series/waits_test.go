package series_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/writequeue/internal/series"
)

// TestWaitsAreWhatTheLibraryMakesOfSingleObservations compares the histogram
// with the client library's, which sees each item by itself.
func TestWaitsAreWhatTheLibraryMakesOfSingleObservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		library := metrics.NewHistogram(metrics.QueueWait)
		one := library.WithLabelValues("bars")
		ours := series.NewWaits("bars")
		const now = time.Hour
		for range rapid.IntRange(0, 8).Draw(t, "batches") {
			type run struct {
				n      int
				waited time.Duration
			}
			var runs []run
			for range rapid.IntRange(1, 30).Draw(t, "runs") {
				waited := time.Duration(rapid.OneOf(
					rapid.Int64Range(0, 1000), rapid.Int64Range(0, int64(time.Second)), rapid.Int64Range(0, int64(now)),
					rapid.SampledFrom([]int64{int64(time.Millisecond), int64(time.Second), int64(2 * time.Second), int64(now)}),
				).Draw(t, "waited"))
				r := run{rapid.IntRange(1, 5).Draw(t, "items"), waited}
				runs = append(runs, r)
				for range r.n {
					one.Observe(r.waited.Seconds())
				}
			}
			ours.Observe(len(runs), func(i int) (int, time.Duration) { return runs[i].n, runs[i].waited })
		}
		var got, want dto.Metric
		if err := ours.Write(&got); err != nil {
			t.Fatal(err)
		}
		if err := one.(interface{ Write(*dto.Metric) error }).Write(&want); err != nil {
			t.Fatal(err)
		}
		if len(want.Histogram.PositiveSpan) == 1 && want.Histogram.PositiveSpan[0].GetLength() == 0 {
			want.Histogram.PositiveSpan = nil // a mark where nothing was observed
		}
		if diff := cmp.Diff(&want, &got, protocmp.Transform(), cmpopts.EquateApprox(1e-9, 0),
			protocmp.IgnoreFields(&dto.Histogram{}, "created_timestamp")); diff != "" {
			t.Fatalf("histogram (-library +ours):\n%s", diff)
		}
	})
}
