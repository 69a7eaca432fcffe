package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue/internal/levels"
)

// consumerName is that of the one consumer by which all processes take items.
const consumerName = "writers"

// prepare makes the stream and the consumer where they are not there, and gives
// those that are there the present settings.
func (q *Queue) prepare(ctx context.Context) error {
	if err := q.prepareStream(ctx); err != nil {
		return err
	}
	if !q.cfg.Writes {
		return nil
	}
	if !q.cfg.Shared && q.consumer == nil {
		// Nobody else has items in its hands. So what an earlier life of this process
		// was killed with is there again at once.
		if err := q.js.DeleteConsumer(ctx, q.cfg.Stream, consumerName); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("release what consumer %s of stream %s had: %w", consumerName, q.cfg.Stream, err)
		}
	}
	consumer, err := q.js.CreateOrUpdateConsumer(ctx, q.cfg.Stream, jetstream.ConsumerConfig{
		Durable:   consumerName,
		AckPolicy: jetstream.AckExplicitPolicy,
		AckWait:   q.cfg.RedeliverAfter,
		// The hands of all processes together have no bound of their own: each has
		// its workers', and the stream has one for all.
		MaxAckPending: -1,
		MaxDeliver:    -1,
	})
	if err != nil {
		return fmt.Errorf("make consumer %s of stream %s: %w", consumerName, q.cfg.Stream, err)
	}
	q.consumer = consumer
	return nil
}

func (q *Queue) prepareStream(ctx context.Context) error {
	want := jetstream.StreamConfig{
		Name:        q.cfg.Stream,
		Description: "write queue of " + q.cfg.Queue.CoordinatorID,
		Subjects:    []string{q.subject},
		Retention:   jetstream.WorkQueuePolicy,
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     int64(q.cfg.Queue.Capacity),
		Storage:     jetstream.FileStorage,
		Replicas:    q.cfg.StreamReplicas,
		Duplicates:  q.cfg.DuplicatesWithin,
	}
	stream, err := q.js.Stream(ctx, q.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		// Where another process makes it at the same time, it is the same one.
		if _, err := q.js.CreateStream(ctx, want); err != nil {
			return fmt.Errorf("make stream %s: %w", q.cfg.Stream, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", q.cfg.Stream, err)
	}
	is := stream.CachedInfo().Config
	if is.Retention != want.Retention || is.Discard != want.Discard || is.Storage != want.Storage ||
		len(is.Subjects) != 1 || is.Subjects[0] != q.subject {
		return invalid.New("stream", q.cfg.Stream, "a stream that is a write queue of Headgate's, or none yet")
	}
	if is.MaxMsgs == want.MaxMsgs && is.Replicas == want.Replicas && is.Duplicates == want.Duplicates {
		return nil
	}
	q.log.Info("stream gets other settings, for all processes that share it", "stream", q.cfg.Stream,
		"capacity", want.MaxMsgs, "capacity_before", is.MaxMsgs, "replicas", want.Replicas, "duplicates_within", want.Duplicates)
	is.MaxMsgs, is.Replicas, is.Duplicates = want.MaxMsgs, want.Replicas, want.Duplicates
	if _, err := q.js.UpdateStream(ctx, is); err != nil {
		return fmt.Errorf("change stream %s: %w", q.cfg.Stream, err)
	}
	return nil
}

// look asks the servers for the whole queue, and judges its depth.
func (q *Queue) look(ctx context.Context) error {
	q.looking.Lock()
	defer q.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	q.mu.Lock()
	known := q.since
	q.mu.Unlock()
	stream, err := q.js.Stream(ctx, q.cfg.Stream) // brings its state along
	now := time.Now()
	if err != nil {
		q.mu.Lock()
		before := q.seen.failing
		q.seen.failing = err
		q.mu.Unlock()
		if before == nil && ctx.Err() == nil {
			q.log.Warn("durable queue does not answer", "error", err)
		}
		return fmt.Errorf("look at stream %s: %w", q.cfg.Stream, err)
	}
	info := stream.CachedInfo()
	q.see(sight{at: now, waiting: info.State.Msgs, stored: info.State.LastSeq, capacity: uint64(max(0, info.Config.MaxMsgs))}, known)
	return nil
}

// see takes in what the servers told, which has those that this process had put
// in by then.
func (q *Queue) see(s sight, known uint64) {
	q.mu.Lock()
	before := q.seen
	q.seen = s
	q.since -= known
	q.maxDepth = max(q.maxDepth, s.waiting)
	if s.capacity != before.capacity {
		q.judge.SetThresholds(q.cfg.Queue.Marks.Thresholds(int(s.capacity)))
	}
	if !before.at.IsZero() && s.settled() > before.settled() {
		q.ready = true // some process writes
	}
	q.announce()
	if before.failing != nil {
		q.log.Info("durable queue answers again")
	}
	q.unlockAndPublish()
}

// announce holds the depth against the marks and notes what is to be told. q.mu
// is held.
func (q *Queue) announce() {
	note := func(reason string) {
		q.outbox.Add(q.judge.Event(reason, int(q.seen.waiting), int(q.seen.capacity)))
	}
	if reason, crossed := q.judge.Observe(q.seen.at, int(q.seen.waiting)); crossed {
		note(reason)
	}
	if q.ready && !q.judge.Announced() {
		note(levels.ReasonStoreReady)
	}
}

// unlockAndPublish hands the noted events on and gives q.mu back.
func (q *Queue) unlockAndPublish() {
	if !q.outbox.Idle() {
		q.outbox.Publish(&q.mu)
	}
	q.mu.Unlock()
}

// watch looks at the whole queue until ctx ends.
func (q *Queue) watch(ctx context.Context) {
	ticker := time.NewTicker(q.cfg.LookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = q.look(ctx) // told, and tried again
		case <-ctx.Done():
			return
		}
	}
}
