// Package series makes what the write queues export, so that the queue in memory
// and the durable one tell the same under the same names.
package series

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headgate/headgate/metrics"
)

// Waits is a histogram, of classic and native buckets, of how long items were in
// the queue. The client library's takes one observation at a time; this one takes
// those of a whole run at once, which have the same value.
type Waits struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	bounds []float64 // upper ones of the classic buckets, rising
	made   time.Time

	mu      sync.Mutex
	sum     float64
	classic []uint64 // one more than bounds: what is above all of them
	zeros   uint64   // of those, what is no wait at all

	// native counts by bucket: number k holds what is above 2^((k-1)/2^schema) and
	// at most 2^(k/2^schema).
	native map[int]uint64
	schema int32
}

const (
	// Buckets grow by less than a tenth, as those of the other histograms; where
	// there would be too many of them two become one.
	finestSchema = 3
	mostNative   = 100
)

// NewWaits returns the histogram of the queue of that coordinator.
func NewWaits(id string) *Waits {
	series, _ := metrics.Find(metrics.QueueWait)
	label, value := metrics.LabelCoordinatorID, id
	return &Waits{
		desc:    metrics.Desc(metrics.QueueWait),
		labels:  []*dto.LabelPair{{Name: &label, Value: &value}},
		bounds:  series.Buckets,
		made:    time.Now(),
		classic: make([]uint64, len(series.Buckets)+1),
		native:  map[int]uint64{},
		schema:  finestSchema,
	}
}

// Observe counts items that were written now, in so many runs. Of each, run tells
// the number of its items and how long they waited.
func (w *Waits) Observe(runs int, run func(i int) (items int, waited time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range runs {
		items, waited := run(i)
		w.add(waited.Seconds(), uint64(items))
	}
}

// add counts n items that waited so many seconds. w.mu is held.
func (w *Waits) add(seconds float64, n uint64) {
	seconds = max(0, seconds)
	w.sum += seconds * float64(n)
	i, _ := slices.BinarySearch(w.bounds, seconds)
	w.classic[i] += n
	if seconds == 0 {
		w.zeros += n
		return
	}
	before := len(w.native)
	w.native[int(math.Ceil(math.Ldexp(math.Log2(seconds), int(w.schema))))] += n
	if len(w.native) > max(before, mostNative) {
		w.coarsen()
	}
}

// coarsen makes one native bucket of two.
func (w *Waits) coarsen() {
	coarse := make(map[int]uint64, len(w.native))
	for k, n := range w.native {
		coarse[(k+1)>>1] += n
	}
	w.native = coarse
	w.schema--
}

// Desc implements prometheus.Metric.
func (w *Waits) Desc() *prometheus.Desc { return w.desc }

// Write implements prometheus.Metric.
func (w *Waits) Write(out *dto.Metric) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum, zeros, schema, threshold := w.sum, w.zeros, w.schema, prometheus.DefNativeHistogramZeroThreshold
	h := &dto.Histogram{
		SampleSum: &sum, ZeroCount: &zeros, Schema: &schema, ZeroThreshold: &threshold,
		CreatedTimestamp: timestamppb.New(w.made),
	}
	var count uint64
	for i, n := range w.classic {
		count += n
		if i < len(w.bounds) {
			upTo := count
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: &upTo, UpperBound: &w.bounds[i]})
		}
	}
	h.SampleCount = &count
	h.PositiveSpan, h.PositiveDelta = spans(w.native)
	out.Label, out.Histogram = w.labels, h
	return nil
}

// spans are native buckets as they are exposed: in spans of neighbours, each
// count as the difference to the one before. One or two empty buckets cost less
// than another span.
func spans(native map[int]uint64) (all []*dto.BucketSpan, deltas []int64) {
	next, before := 0, int64(0)
	add := func(count int64) {
		*all[len(all)-1].Length++
		deltas = append(deltas, count-before)
		before = count
	}
	for _, k := range slices.Sorted(maps.Keys(native)) {
		gap := int32(k - next)
		if len(all) == 0 || gap > 2 {
			offset := gap
			all = append(all, &dto.BucketSpan{Offset: &offset, Length: new(uint32)})
			gap = 0
		}
		for range gap {
			add(0)
		}
		add(int64(native[k]))
		next = k + 1
	}
	return all, deltas
}
