package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pipeline/source/ingest"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/deadletter"
	"github.com/headgate/headgate/writequeue/jetstream"
	"github.com/headgate/headgate/writequeue/jetstream/embedded"
)

// durable is a queue that outlives the process. Like a store it is opened when
// the pipeline runs. Until then nobody knows how deep it is, and it has no series.
type durable struct {
	node     string
	settings *job.WriteQueue
	sink     writequeue.Sink        // nil where this process does not write
	dead     writequeue.DeadLetters // the same
	publish  func(pressure.Event)
	registry prometheus.Registerer
	log      *slog.Logger

	server *embedded.Server // nil where the queue lives elsewhere, or before it is open
	conn   *nats.Conn       // nil before it is open
	opened atomic.Pointer[jetstream.Queue]
	found  atomic.Uint64 // items that waited when it was opened
}

// durable makes a durable queue in front of a sink, which is nil where this
// process does not write.
func (p *Pipeline) durable(node string, s *job.WriteQueue, sink writequeue.Sink) (*durable, error) {
	d := &durable{node: node, settings: s, publish: p.bus.Publish, registry: p.series.registry, log: p.log}
	if s.Writes() {
		dead, err := deadletter.NewFile(s.DeadLetterPath)
		if err != nil {
			return nil, err
		}
		d.sink, d.dead = sink, dead
	}
	return d, nil
}

// open reaches the queue. An error that no further try can mend is marked by
// writequeue.Permanent.
func (d *durable) open(ctx context.Context) error {
	if err := d.connect(); err != nil {
		return err
	}
	q, err := jetstream.New(ctx, d.settings.JetStream(), d.conn, d.sink, d.dead, d.publish, d.log)
	if err != nil {
		d.conn.Close()
		d.conn = nil
		if len(invalid.All(err)) > 0 { // such as a stream of somebody else's
			return writequeue.Permanent(err)
		}
		return err
	}
	if err := d.registry.Register(q); err != nil {
		return writequeue.Permanent(err)
	}
	d.found.Store(q.Stats().Waiting)
	d.opened.Store(q)
	return nil
}

// connect starts the server within the process where the queue lives there, and
// connects.
func (d *durable) connect() error {
	s := d.settings
	if s.Kind == job.Servers {
		conn, err := jetstream.Connect(s.Address(), "headgate "+s.CoordinatorID, d.log)
		if errors.Is(err, nats.ErrAuthorization) {
			return writequeue.Permanent(err)
		}
		d.conn = conn
		return err
	}
	if d.server == nil {
		server, err := embedded.Start(embedded.Config{
			Directory: s.Directory, Listen: s.Listen, SyncAlways: s.Synchronous == "full",
		}, d.log)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) {
			return writequeue.Permanent(err)
		}
		if err != nil {
			return err
		}
		d.server = server
	}
	var err error
	d.conn, err = d.server.Connect("headgate "+s.CoordinatorID, d.log)
	return err
}

// close gives back what open took. What the queue holds stays in it.
func (d *durable) close() error {
	if d.conn != nil {
		d.conn.Close()
	}
	if d.server == nil {
		return nil
	}
	if err := d.server.Close(); err != nil {
		return fmt.Errorf("durable queue of node %s: %w", d.node, err)
	}
	return nil
}

// Put is the queue's own once it is open.
func (d *durable) Put(ctx context.Context, items ...writequeue.Item) (int, error) {
	q := d.opened.Load()
	if q == nil {
		return 0, ingest.ErrNotReady
	}
	return q.Put(ctx, items...)
}

// Run runs the queue, which is open.
func (d *durable) Run(ctx context.Context) error { return d.opened.Load().Run(ctx) }

// Empty is the queue's own once it is open.
func (d *durable) Empty(ctx context.Context) (bool, error) {
	q := d.opened.Load()
	if q == nil {
		return false, ingest.ErrNotReady
	}
	return q.Empty(ctx)
}

// Stats is the queue's own once it is open.
func (d *durable) Stats() writequeue.Stats {
	if q := d.opened.Load(); q != nil {
		return q.Stats()
	}
	return writequeue.Stats{
		CoordinatorID: d.settings.CoordinatorID, Capacity: uint64(d.settings.Capacity), Durable: &writequeue.Durable{},
	}
}

// Health is the queue's own once it is open.
func (d *durable) Health() writequeue.Health {
	if q := d.opened.Load(); q != nil {
		return q.Health()
	}
	return writequeue.NewHealth(false, []string{writequeue.HealthQueueUnreachable})
}
