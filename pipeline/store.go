package pipeline

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pipeline/source/ingest"
	"github.com/headgate/headgate/pipeline/source/replay"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/paced"
)

// store is the sink of a node. It is opened when the pipeline runs, and nothing
// is written to it before.
type store struct {
	node   job.Node
	sink   writequeue.Sink // nil until it is open
	closer io.Closer       // nil where there is nothing to close
}

// Write implements writequeue.Sink.
func (s *store) Write(ctx context.Context, batch []writequeue.Item) error {
	return s.sink.Write(ctx, batch)
}

// open opens it, with its pace. An error that no further try can mend is marked
// by writequeue.Permanent.
func (s *store) open(ctx context.Context) error {
	sink, closer, pace, err := OpenSink(ctx, s.node)
	if err != nil {
		return err
	}
	s.sink, s.closer = sink, closer
	if pace.Profile == nil {
		return nil
	}
	profile := *pace.Profile
	profile.Points = slices.Clone(profile.Points)
	for i := range profile.Points {
		profile.Points[i].At = time.Duration(float64(profile.Points[i].At) / pace.Speed)
	}
	s.sink, err = paced.New(sink, profile)
	return writequeue.Permanent(err)
}

func (s *store) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

const (
	// openTimeout bounds one try to open a store or a durable queue.
	openTimeout = 10 * time.Second

	// Between two tries.
	openAgainFirst, openAgainMost = 100 * time.Millisecond, 2 * time.Second

	// waitLogged is how often the log repeats what is waited for.
	waitLogged = time.Minute
)

// openAll opens the stores and then the durable queues, one after another. What
// cannot be reached is waited for, until ctx ends: a pipeline may well start before
// its store does. What no waiting mends is an error, such as a table that cannot be
// used.
func (p *Pipeline) openAll(ctx context.Context) error {
	for _, s := range p.stores {
		if err := p.openOne(ctx, "store", s.node.Name, s.open); err != nil {
			return unlessOver(ctx, err)
		}
	}
	p.storesOpen.Store(true)
	for _, d := range p.durables {
		if err := p.openOne(ctx, "durable queue", d.node, d.open); err != nil {
			return unlessOver(ctx, err)
		}
	}
	p.opened.Store(true)
	return nil
}

// unlessOver is the error, or nil where ctx's end is why there is one.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p *Pipeline) openOne(ctx context.Context, what, node string, open func(context.Context) error) error {
	var logged time.Time
	waits := func(err error, _ time.Duration) {
		if time.Since(logged) >= waitLogged {
			p.log.Warn("the "+what+" cannot be opened, it is waited for", "node", node, "error", err)
			logged = time.Now()
		}
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		within, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		return struct{}{}, open(within)
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: openAgainFirst, MaxInterval: openAgainMost, Multiplier: 2, RandomizationFactor: 0.3,
	}), backoff.WithMaxElapsedTime(0), backoff.WithNotify(waits))
	if err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	if !logged.IsZero() {
		p.log.Info("the "+what+" is open", "node", node)
	}
	return nil
}

// onceOpen refuses items as long as a store or a durable queue is waited for.
func (p *Pipeline) onceOpen(put replay.Put) replay.Put {
	return func(ctx context.Context, items []writequeue.Item) (int, error) {
		if !p.opened.Load() {
			return 0, ingest.ErrNotReady
		}
		return put(ctx, items)
	}
}
