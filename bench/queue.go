package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/discard"
)

const (
	producers = 4
	consumers = 4
)

func queueGroup() group {
	return group{
		name: "queue",
		about: fmt.Sprintf("%d producers put items, so many at once, into a queue of the default settings, whose %d workers write batches to a sink that forgets them. "+
			"The peer is a Go channel of items with the same room and as many consumers. The queue counts, watches its depth and times each item besides.", producers, consumers),
		measure: measureQueue,
	}
}

func measureQueue(ctx context.Context, rounds int) ([]Row, error) {
	var rows []Row
	for _, each := range []int{10, 100, 1000} {
		through, err := byTurns(ctx, rounds, contender{"headgate", throughQueue(each)}, contender{"channel", throughChannel})
		if err != nil {
			return nil, err
		}
		ours, theirs := medianRound(through, 0, 1)
		row := atLeast(3).against(fmt.Sprintf("queue to the discard sink, %d producers, %v items a put", producers, Figure(each)), "items/s",
			"buffered channel of items", 1e9/ours.nsPerOp, 1e9/theirs.nsPerOp)
		row.note = fmt.Sprintf("%d allocations an item", ours.allocsPerOp)
		rows = append(rows, row)
	}
	single, err := byTurns(ctx, rounds, contender{"headgate", throughQueue(1)}, contender{"channel", throughChannel})
	if err != nil {
		return nil, err
	}
	ours, theirs := medianRound(single, 0, 1)
	rows[0].note += fmt.Sprintf("; put one by one, %.2f times the channel's items/s", theirs.nsPerOp/ours.nsPerOp)
	return rows, nil
}

// newItems makes items with keys that nobody else has.
func newItems(prefix string, n int) []writequeue.Item {
	items := make([]writequeue.Item, n)
	for i := range items {
		items[i] = writequeue.Item{Key: fmt.Sprintf("%s-%08d", prefix, i), Time: epoch, Payload: []byte(`{"close": 187.2, "volume": 1200}`)}
	}
	return items
}

// noLetters is for sinks that take everything.
type noLetters struct{}

func (noLetters) Append(context.Context, []writequeue.Letter) error {
	return errors.New("an item could not be written")
}

// throughQueue is the way of an item through the queue.
func throughQueue(each int) func(b *testing.B) {
	return func(b *testing.B) {
		cfg := writequeue.DefaultConfig("bars-coord")
		cfg.Workers = consumers
		q, err := writequeue.New(cfg, discard.Sink{}, noLetters{}, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		batch := newItems("a", each)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		b.ReportAllocs()
		b.ResetTimer()
		inParallel(producers, (b.N+each-1)/each, func() {
			if _, err := q.Put(ctx, batch...); err != nil {
				b.Error(err)
			}
		})
		stop()
		err = <-ended
		b.StopTimer()
		if s := q.Stats(); err != nil || s.Written != s.Accepted {
			b.Fatalf("%+v, %v", s, err)
		}
	}
}

// throughChannel is the way of an item through a channel.
func throughChannel(b *testing.B) {
	items := make(chan writequeue.Item, writequeue.DefaultConfig("").Capacity)
	var all sync.WaitGroup
	for range consumers {
		all.Go(func() {
			for range items {
			}
		})
	}
	item := newItems("a", 1)[0]
	b.ResetTimer()
	inParallel(producers, b.N, func() { items <- item })
	close(items)
	all.Wait()
}
