package backtest

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pour lets steps of a second go by.
func pour(q *queue, from, steps int, arrivals, allowed, drain float64) {
	for i := from; i < from+steps; i++ {
		q.flow(time.Unix(int64(i), 0), time.Unix(int64(i+1), 0), arrivals, allowed, drain)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(b)) }

func TestAQueueIsWhatArithmeticSays(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 0)
	q.capacity = 500
	pour(q, 0, 10, 100, 80, 50) // 80 of 100 come in, and 50 are taken
	if !near(q.depth, 300) || !near(q.held, 200) || !near(q.written, 500) || q.refused != 0 {
		t.Errorf("after 10 s: %+v", q)
	}
	pour(q, 10, 10, 0, 80, 50) // what was held back comes, and 50 are taken
	if !near(q.depth, 0) || !near(q.held, 0) || !near(q.written, 1000) {
		t.Errorf("after 20 s: %+v", q)
	}
	pour(q, 20, 10, 200, math.Inf(1), 100) // it is full after 5 s
	if !near(q.depth, 500) || !near(q.refused, 500) {
		t.Errorf("after 30 s: %v wait and %v were refused", q.depth, q.refused)
	}
}

func TestWaitsAreThoseOfAQueueInOrder(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 0)
	// A backlog of 1,000 builds up in 10 s; it is there for good then.
	pour(q, 0, 10, 200, math.Inf(1), 100)
	pour(q, 10, 1000, 100, math.Inf(1), 100)
	if got := quantile(q.waits, 0.5); math.Abs(got-10) > 0.1 {
		t.Errorf("half wait %v s, want 1000 items at 100 a second", got)
	}
	if got := quantile(q.waits, 0.0001); got > 0.3 {
		t.Errorf("the first wait %v s, want hardly at all", got)
	}
	if got := quantile(newQueue(time.Unix(0, 0), 0).waits, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing half wait %v s", got)
	}
}

func TestWhatPassesThroughAnEmptyQueueDoesNotWait(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 0)
	pour(q, 0, 100, 10, math.Inf(1), 50)
	if got := quantile(q.waits, 0.99); got > 1e-9 {
		t.Errorf("it waits %v s", got)
	}
}

func TestWhatWasThereAtFirstIsWritten(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 100)
	pour(q, 0, 10, 0, 0, 10)
	if !near(q.depth, 0) || !near(q.written, 100) || q.came != 0 {
		t.Errorf("got %+v", q)
	}
	if got := quantile(q.waits, 1); math.Abs(got-9.5) > 0.1 {
		t.Errorf("the last waited %v s", got)
	}
}

func TestTheRecordedQueueWaitsAsItsDepthSays(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 50)
	// What was measured does not add up by some items each second; the depth
	// counts.
	for i := range 1000 {
		q.follow(time.Unix(int64(i), 0), time.Unix(int64(i+1), 0), 103, 100, 50)
	}
	if got := quantile(q.waits, 0.5); math.Abs(got-0.5) > 0.01 {
		t.Errorf("half wait %v s, want 50 items at 100 a second", got)
	}
	if !near(q.written, 100_000) || !near(q.came, 103_000) {
		t.Errorf("%v came and %v were written", q.came, q.written)
	}
}

func TestAQueueThatResumesKeepsItsSums(t *testing.T) {
	q := newQueue(time.Unix(0, 0), 0)
	pour(q, 0, 10, 100, 80, 50)
	q.resume(time.Unix(1000, 0), 70)
	if q.held != 0 || q.depth != 70 || !near(q.written, 500) {
		t.Errorf("got %+v", q)
	}
	pour(q, 1000, 10, 0, 100, 10)
	if !near(q.depth, 0) || !near(q.written, 570) {
		t.Errorf("10 s later: %+v", q)
	}
	if got := quantile(q.waits[10:], 1); got > 10 {
		t.Errorf("the last waited %v s", got)
	}
}

func TestNoItemIsLostOrMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Float64Range(0, 100).Draw(t, "start")
		q := newQueue(time.Unix(0, 0), start)
		q.capacity = rapid.Float64Range(100, 1000).Draw(t, "capacity")
		arrived := 0.0
		for i := range rapid.IntRange(1, 50).Draw(t, "steps") {
			arrivals := rapid.Float64Range(0, 500).Draw(t, "arrivals")
			arrived += arrivals
			pour(q, i, 1, arrivals, rapid.Float64Range(0, 500).Draw(t, "allowed"), rapid.Float64Range(0, 500).Draw(t, "drain"))
			if sum := q.held + q.depth + q.written + q.refused; math.Abs(sum-arrived-start) > 1e-6*(1+arrived) {
				t.Fatalf("%v arrived, and %v are accounted for", arrived+start, sum)
			}
			if q.depth < 0 || q.held < -1e-9 || q.depth > q.capacity*(1+1e-9) {
				t.Fatalf("got %+v", q)
			}
		}
		waited := 0.0
		for _, w := range q.waits {
			if waited += w.items; w.seconds < 0 || w.seconds > 60 {
				t.Fatalf("a wait of %v s", w.seconds)
			}
		}
		if math.Abs(waited-q.written) > 1e-6*(1+arrived) {
			t.Fatalf("%v waited and %v were written", waited, q.written)
		}
	})
}
