package writequeue

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/metrics"
)

// TestWaitsAreWhatTheLibraryMakesOfSingleObservations compares the histogram
// with the client library's, which sees each item by itself.
func TestWaitsAreWhatTheLibraryMakesOfSingleObservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		library := metrics.NewHistogram(metrics.QueueWait)
		one := library.WithLabelValues("bars")
		ours := newWaits("bars")
		const now = time.Hour
		for range rapid.IntRange(0, 8).Draw(t, "batches") {
			var runs []run
			for range rapid.IntRange(1, 30).Draw(t, "runs") {
				waited := time.Duration(rapid.OneOf(
					rapid.Int64Range(0, 1000), rapid.Int64Range(0, int64(time.Second)), rapid.Int64Range(0, int64(now)),
					rapid.SampledFrom([]int64{int64(time.Millisecond), int64(time.Second), int64(2 * time.Second), int64(now)}),
				).Draw(t, "waited"))
				r := run{rapid.IntRange(1, 5).Draw(t, "items"), now - waited}
				runs = append(runs, r)
				for range r.n {
					one.Observe((now - r.accepted).Seconds())
				}
			}
			ours.observe(runs, now)
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
