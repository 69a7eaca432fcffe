package writequeue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/writequeue"
)

func TestAReceiptTellsWhatBecameOfItsItemsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(func(_ context.Context, _ int, batch []writequeue.Item) error {
			if slices.ContainsFunc(batch, func(i writequeue.Item) bool { return strings.HasPrefix(i.Key, "poison") }) {
				return writequeue.Permanent(errBroken)
			}
			return nil
		})
		r := newRig(t, s, func(c *writequeue.Config) { c.Capacity, c.BatchSize, c.Workers = 5, 2, 1 })
		r.start(t)
		ctx, receipt := writequeue.WithReceipt(t.Context())
		mustPut(t, r.Queue, items("other", 2)) // within the same moment, so that they could be one run
		// More than fit at once, so that the producer waits for room in between.
		if n, err := r.Put(ctx, slices.Concat(items("a", 8), items("poison", 1), items("b", 2))...); n != 11 || err != nil {
			t.Fatalf("%d accepted, %v", n, err)
		}
		mustPut(t, r.Queue, items("poison-other", 1))
		fate, err := receipt.Wait(t.Context())
		if want := (writequeue.Fate{Written: 10, DeadLettered: 1}); fate != want || err != nil {
			t.Errorf("%+v, %v; want %+v", fate, err, want)
		}
	})
}

func TestAReceiptWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(10*time.Second)), func(c *writequeue.Config) { c.BatchSize, c.Workers = 2, 1 })
		r.start(t)
		ctx, receipt := writequeue.WithReceipt(t.Context())
		begin := time.Now()
		if _, err := r.Put(ctx, items("a", 4)...); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if fate, err := receipt.Wait(short); !errors.Is(err, context.DeadlineExceeded) || fate.Written != 2 {
			t.Errorf("after 15 s: %+v, %v; want the first batch written", fate, err)
		}
		fate, err := receipt.Wait(t.Context())
		if took := time.Since(begin); fate.Written != 4 || err != nil || took != 20*time.Second {
			t.Errorf("%+v, %v after %v; want 4 written after 20s", fate, err, took)
		}
	})
}

func TestAReceiptTellsWhatWasDroppedAndWhatAStopBuries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newStore(slow(time.Hour)), func(c *writequeue.Config) {
			c.Capacity, c.Overflow, c.BatchSize, c.Workers, c.DrainTimeout = 4, writequeue.DropOldest, 2, 1, 0
		})
		ctx, receipt := writequeue.WithReceipt(t.Context())
		if n, err := r.Put(ctx, items("a", 6)...); n != 6 || err != nil { // two of them are dropped at once
			t.Fatalf("%d accepted, %v", n, err)
		}
		mustPut(t, r.Queue, items("other", 1)) // which drops one more
		r.start(t)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		fate, err := receipt.Wait(t.Context())
		if want := (writequeue.Fate{DeadLettered: 3, Dropped: 3}); fate != want || err != nil {
			t.Errorf("%+v, %v; want %+v", fate, err, want)
		}
	})
}

func TestAPutWithoutAReceiptAllocatesNothingForOne(t *testing.T) {
	cfg := writequeue.DefaultConfig("bars-coord")
	cfg.Overflow, cfg.Capacity = writequeue.DropOldest, 1000
	q, err := writequeue.New(cfg, newStore(nil), &letterbox{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	batch := items("a", 10)
	for range 1000 { // until the ring has its size
		mustPut(t, q, batch)
	}
	if allocations := testing.AllocsPerRun(1000, func() {
		if _, err := q.Put(ctx, batch...); err != nil {
			t.Fatal(err)
		}
	}); allocations > 0 {
		t.Errorf("%v allocations a put", allocations)
	}
}
