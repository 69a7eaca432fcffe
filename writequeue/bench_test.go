package writequeue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/discard"
)

// BenchmarkPut is the way of an item from one of four producers through the
// queue into a store that takes everything, with so many items a Put. One
// operation is one item; the peer is the plain Go channel, which has neither
// counters nor batches nor a store behind it.
func BenchmarkPut(b *testing.B) {
	const producers = 4
	for _, each := range []int{1, 10, 100} {
		batch := items("a", each)
		b.Run(fmt.Sprintf("queue/%d", each), func(b *testing.B) {
			cfg := writequeue.DefaultConfig("bars-coord")
			q, err := writequeue.New(cfg, discard.Sink{}, &letterbox{}, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- q.Run(ctx) }()
			b.ReportAllocs()
			b.ResetTimer()
			inParallel(producers, b.N/each/producers, func() {
				if _, err := q.Put(ctx, batch...); err != nil {
					b.Error(err)
				}
			})
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
			b.StopTimer()
			if s := q.Stats(); s.Written != s.Accepted {
				b.Errorf("%+v", s)
			}
		})
	}
	b.Run("channel/1", func(b *testing.B) {
		items := make(chan writequeue.Item, 10_000)
		var consumers sync.WaitGroup
		for range 4 {
			consumers.Go(func() {
				for range items {
				}
			})
		}
		item := writequeue.Item{Key: "a"}
		b.ReportAllocs()
		b.ResetTimer()
		inParallel(producers, b.N/producers, func() { items <- item })
		close(items)
		consumers.Wait()
	})
}

// inParallel calls f n times in each of so many goroutines.
func inParallel(goroutines, n int, f func()) {
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range n {
				f()
			}
		})
	}
	all.Wait()
}
