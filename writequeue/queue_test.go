package writequeue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/writequeue"
)

func TestBatchesAreCutBySizeAndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Workers, c.BatchSize = 2, 3 })
		r.start(t)
		mustPut(t, r.Queue, items("a", 4))
		time.Sleep(100 * time.Millisecond)
		mustPut(t, r.Queue, items("b", 1))
		time.Sleep(10 * time.Second)
		mustPut(t, r.Queue, items("c", 1))
		time.Sleep(time.Second)
		want := []write{
			{0, []string{"a-0", "a-1", "a-2"}},
			{250 * time.Millisecond, []string{"a-3", "b-0"}},
			{10*time.Second + 350*time.Millisecond, []string{"c-0"}},
		}
		if diff := cmp.Diff(want, r.store.Writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestAFullQueueDoesNotWaitForItsBatchToFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity, c.BatchWait = 4, time.Hour })
		r.start(t)
		mustPut(t, r.Queue, items("a", 9))
		synctest.Wait()
		if got := r.Stats().Written; got != 8 {
			t.Errorf("%d items written without a wait, want two full queues of 4", got)
		}
	})
}

func TestRefusingQueueTakesWhatFits(t *testing.T) {
	r := newRig(t, newStore(nil), func(c *writequeue.Config) { c.Capacity, c.Overflow = 10, writequeue.Refuse })
	for _, step := range []struct {
		put, accepted int
		err           error
	}{{7, 7, nil}, {7, 3, writequeue.ErrFull}, {1, 0, writequeue.ErrFull}, {0, 0, nil}} {
		n, err := r.Put(context.Background(), items("a", step.put)...)
		if n != step.accepted || !errors.Is(err, step.err) {
			t.Errorf("Put(%d items) = %d, %v; want %d, %v", step.put, n, err, step.accepted, step.err)
		}
	}
	s := r.Stats()
	checkConserved(t, s)
	if s.Accepted != 10 || s.Refused != 5 || s.Dropped != 0 {
		t.Errorf("stats are %+v, want 10 accepted and 5 refused", s)
	}
}
