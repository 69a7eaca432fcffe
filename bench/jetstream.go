package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/discard"
	"github.com/headgate/headgate/writequeue/jetstream"
	"github.com/headgate/headgate/writequeue/jetstream/embedded"
)

// writerPerSecond is what the sink of one writer takes.
const writerPerSecond = 500

func jetstreamGroup() group {
	return group{
		name: "jetstream",
		about: fmt.Sprintf("Writer replicas, each a process of `pipeline`, drain one stream of a NATS server into a sink that takes %d rows/s of each. The peer is one replica, so many times. "+
			"Then replicas are killed and started while items are put in, with a real store: what it has is held against the keys that were accepted. "+
			"The last rows tell what durability costs: %d producers put 100 items at once, until the workers have written %v of them, or %v where each waits for the disk, to a sink that forgets them; the peer is the queue in memory.", writerPerSecond, producers, Figure(durableItems), Figure(durableItemsFull)),
		measure: measureJetStream,
	}
}

func measureJetStream(ctx context.Context, rounds int) ([]Row, error) {
	dir, err := os.MkdirTemp("", "headgate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	rows, err := replicaRows(ctx, dir, min(rounds, 3))
	if err != nil {
		return nil, err
	}
	comeAndGo, err := replicasComeAndGo(ctx, filepath.Join(dir, "come-and-go"))
	if err != nil {
		return nil, err
	}
	costs, err := durabilityCosts(ctx, dir, min(rounds, 5))
	return append(append(rows, comeAndGo), costs...), err
}

// replicaRows measures the drain of 1, 2 and 4 replicas.
func replicaRows(ctx context.Context, dir string, rounds int) ([]Row, error) {
	replicas := []int{1, 2, 4}
	drains := make([][]float64, rounds)
	for round := range drains {
		for _, n := range replicas {
			drain, err := drainOf(ctx, filepath.Join(dir, fmt.Sprintf("%d-%d", round, n)), n)
			if err != nil {
				return nil, fmt.Errorf("%d replicas: %w", n, err)
			}
			drains[round] = append(drains[round], drain)
		}
	}
	var rows []Row
	costs := make([]float64, len(replicas))
	for i, n := range replicas {
		// The round whose ratio is the median.
		sorted := slices.SortedFunc(slices.Values(drains), func(a, b []float64) int { return cmp.Compare(a[i]/a[0], b[i]/b[0]) })
		median := sorted[len(sorted)/2]
		costs[i] = median[i]
		if n > 1 {
			rows = append(rows, atLeast(0.8).against(fmt.Sprintf("JetStream queue, drain of %d writer replicas", n), "items/s",
				fmt.Sprintf("one replica, times %d", n), median[i], float64(n)*median[0]))
		}
	}
	rows[len(rows)-1].note = "drain: " + growth(replicas, costs)
	return rows, nil
}

// fleet is a server with writer replicas on it.
type fleet struct {
	dir     string
	server  *embedded.Server
	put     *jetstream.Queue
	writers []*process.Process
	listens []string // addresses of the writers
	close   func() error
}

const writerJob = `name: bars
dag:
  nodes:
    queue: {type: write_queue, capacity: 1000000, workers: 2, batch_size: 50, batch_wait: 50ms, durable: nats, durable_part: write, durable_redeliver_after: 2s}
    store: {%s}
  edges: [[queue, store]]
`

func newFleet(ctx context.Context, dir, store string) (*fleet, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), fmt.Appendf(nil, writerJob, store), 0o644); err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	server, err := embedded.Start(embedded.Config{Directory: filepath.Join(dir, "queue"), Listen: "127.0.0.1:0"}, quiet)
	if err != nil {
		return nil, err
	}
	conn, err := server.Connect("bench", quiet)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	cfg := jetstream.DefaultConfig("bars")
	cfg.Queue.Capacity, cfg.Writes = 1_000_000, false
	queue, err := jetstream.New(ctx, cfg, conn, nil, nil, nil, nil)
	if err != nil {
		conn.Close()
		return nil, errors.Join(err, server.Close())
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- queue.Run(running) }()
	f := &fleet{dir: dir, server: server, put: queue}
	f.close = func() error {
		for _, w := range f.writers {
			w.Kill()
		}
		stop()
		err := <-ended
		conn.Close()
		return errors.Join(err, server.Close())
	}
	return f, nil
}

// start starts a writer in the n-th place.
func (f *fleet) start(n int) error {
	binary, err := sibling("pipeline")
	if err != nil {
		return err
	}
	listen, err := process.FreeAddress()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("writer-%d", n)
	p, err := process.Start(process.Spec{
		Name: name, Binary: binary, Args: []string{"run", "job.yaml"}, Log: f.dir,
		Env: []string{
			"HEADGATE_JOB_METRICS_LISTEN=" + listen, "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_URL=" + f.server.URL(),
			"HEADGATE_JOB_DAG_NODES_QUEUE_DEAD_LETTER_PATH=" + name + ".ndjson",
		},
	})
	if err == nil && n < len(f.writers) {
		f.writers[n] = p
	} else if err == nil {
		f.writers = append(f.writers, p)
		f.listens = append(f.listens, listen)
	}
	return err
}

// settled is how many items some writer has written.
func (f *fleet) settled() uint64 {
	s := f.put.Stats()
	return s.Durable.Stored - min(s.Waiting, s.Durable.Stored)
}

// until waits until something is so.
func until(ctx context.Context, limit time.Duration, what string, is func() bool) error {
	for begin := time.Now(); !is(); {
		if time.Since(begin) > limit {
			return fmt.Errorf("waited %v for %s", limit, what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// drainOf measures how many items a second so many replicas take once all work.
func drainOf(ctx context.Context, dir string, replicas int) (perSecond float64, err error) {
	f, err := newFleet(ctx, dir, fmt.Sprintf("type: discard, pace_per_second: %d", writerPerSecond))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	const seconds = 5
	for part := range slices.Chunk(newItems("a", replicas*writerPerSecond*(seconds+15)), 1000) {
		if _, err := f.put.Put(ctx, part...); err != nil {
			return 0, err
		}
	}
	for n := range replicas {
		if err := f.start(n); err != nil {
			return 0, err
		}
	}
	for _, address := range f.listens {
		if err := awaitReady(ctx, address); err != nil {
			return 0, err
		}
	}
	warm := f.settled() + uint64(replicas*writerPerSecond)
	if err := until(ctx, time.Minute, "all writers to work", func() bool { return f.settled() > warm }); err != nil {
		return 0, err
	}
	begin, before := time.Now(), f.settled()
	if err := until(ctx, time.Minute, "the time to be over", func() bool { return time.Since(begin) >= seconds*time.Second }); err != nil {
		return 0, err
	}
	return float64(f.settled()-before) / time.Since(begin).Seconds(), nil
}

// replicasComeAndGo kills and starts three writers at random while items come in,
// and counts what the store has in the end.
func replicasComeAndGo(ctx context.Context, dir string) (row Row, err error) {
	f, err := newFleet(ctx, dir, "type: sqlite, path: items.db, busy_timeout: 30s")
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for n := range 3 {
		if err := f.start(n); err != nil {
			return row, err
		}
	}
	random := rand.New(rand.NewPCG(6, 6))
	kills := 0
	accepted := map[string]bool{}
	next := time.Now().Add(time.Second)
	for part := range slices.Chunk(newItems("a", 40_000), 100) {
		if _, err := f.put.Put(ctx, part...); err != nil {
			return row, err
		}
		for _, item := range part {
			accepted[item.Key] = true
		}
		if err := until(ctx, time.Minute, "the next batch", func() bool { return f.put.Stats().Waiting < 4000 || time.Now().After(next) }); err != nil {
			return row, err
		}
		if time.Now().After(next) {
			n := random.IntN(3)
			f.writers[n].Kill()
			kills++
			if err := f.start(n); err != nil {
				return row, err
			}
			next = time.Now().Add(time.Duration(200+random.IntN(800)) * time.Millisecond)
		}
	}
	if err := until(ctx, 2*time.Minute, "the queue to be empty", func() bool {
		empty, err := f.put.Empty(ctx)
		return err == nil && empty && f.put.Stats().Waiting == 0
	}); err != nil {
		return row, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "items.db"))
	if err != nil {
		return row, err
	}
	defer db.Close()
	found, err := db.QueryContext(ctx, "SELECT key FROM items")
	if err != nil {
		return row, err
	}
	defer found.Close()
	total, wrong := 0, 0
	for found.Next() {
		var key string
		if err := found.Scan(&key); err != nil {
			return row, err
		}
		total++
		if !accepted[key] { // there twice, or never accepted
			wrong++
		}
		delete(accepted, key)
	}
	row = exactly(1).against("JetStream queue, rows while replicas come and go", "rows", "items accepted", float64(total), float64(total-wrong+len(accepted)))
	row.note = fmt.Sprintf("%d kills; %d items lost, %d doubled", kills, len(accepted), wrong)
	return row, errors.Join(err, found.Err())
}

// How many items go through the durable queue in one measurement: many, so that the
// wait for the last batch says little, and fewer where each waits for the disk.
const (
	durableItems     = 20_000
	durableItemsFull = 2_000
)

// durabilityCosts holds the durable queue within the process against the one in
// memory. There is no bar on it.
func durabilityCosts(ctx context.Context, dir string, rounds int) ([]Row, error) {
	const each = 100
	all := make([][]result, rounds)
	for round := range all {
		memory, err := byTurns(ctx, 1, contender{"in memory", throughQueue(each)})
		if err != nil {
			return nil, err
		}
		all[round] = memory[0]
		for i, n := range []int{durableItems, durableItemsFull} {
			took, err := throughJetStream(ctx, filepath.Join(dir, fmt.Sprintf("cost-%d-%d", round, i)), n, each, n == durableItemsFull)
			if err != nil {
				return nil, err
			}
			all[round] = append(all[round], result{nsPerOp: float64(took.Nanoseconds()) / float64(n)})
		}
	}
	var rows []Row
	for i, name := range []string{"normal", "full"} {
		ours, theirs := medianRound(all, i+1, 0)
		row := none().against("durable queue, embedded, synchronous "+name, "items/s", "queue in memory", 1e9/ours.nsPerOp, 1e9/theirs.nsPerOp)
		row.note = fmt.Sprintf("%.1f µs an item, and %.2f µs in memory", ours.nsPerOp/1e3, theirs.nsPerOp/1e3)
		rows = append(rows, row)
	}
	return rows, nil
}

// throughJetStream is the way of all items through the durable queue.
func throughJetStream(ctx context.Context, dir string, n, each int, syncAlways bool) (took time.Duration, err error) {
	quiet := slog.New(slog.DiscardHandler)
	server, err := embedded.Start(embedded.Config{Directory: dir, SyncAlways: syncAlways}, quiet)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	conn, err := server.Connect("bench", quiet)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	cfg := jetstream.DefaultConfig("bars-coord")
	cfg.Queue.Workers, cfg.Shared = consumers, false
	q, err := jetstream.New(ctx, cfg, conn, discard.Sink{}, noLetters{}, nil, nil)
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	batches := make(chan []writequeue.Item, n/each)
	for part := range slices.Chunk(newItems("a", n), each) {
		batches <- part
	}
	failed := make(chan error, n/each)
	begin := time.Now()
	inParallel(producers, n/each, func() {
		if _, err := q.Put(ctx, <-batches...); err != nil {
			failed <- err
		}
	})
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	err = until(ctx, 5*time.Minute, "all to be written", func() bool { return q.Stats().Written >= uint64(n) })
	return time.Since(begin), err
}
