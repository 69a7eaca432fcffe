package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/internal/postgres"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/pipeline/journal"
)

const (
	provider      = "ibkr"
	coordinatorID = "bars"

	tick     = time.Second
	lease    = 5 * time.Second
	coolDown = 2 * time.Second
	stale    = 5 * time.Second

	// knownWithin is how soon the depth of a durable queue is known.
	knownWithin = time.Second

	// backWithin is how soon after a fault all has to be back to normal.
	backWithin = lease + coolDown + 3*tick

	base  = 500 // items per second of the provider
	burst = 50
)

// Setup is what a case may change before it begins.
type Setup struct {
	ItemsPerSecond int               // that are fed
	Sink           string            // postgres, or sqlite on a small disk of its own
	Job            map[string]string // keys of the job, by the names of their variables without HEADGATE_JOB_
	Controller     map[string]string // settings of both controllers
	SharedBudget   bool              // the provider draws from a budget on a Redis server, and another pipeline too

	SmallDisk bool // there is a small disk in disk/, also where the sink is not on it

	Durable bool // the job's queue outlives the pipeline
	Writers int  // processes that write in the pipeline's place; only with a durable queue

	// Instead of the controllers and of the scaler; see rivals.
	Naive bool
	KEDA  map[string]string // metadata of KEDA's own trigger; nil for Headgate's scaler
}

func defaultSetup() Setup {
	return Setup{ItemsPerSecond: 300, Sink: "postgres", Job: map[string]string{}, Controller: map[string]string{}}
}

const jobFile = `mode: dag
name: bars
when_done: stay
dag:
  nodes:
    items: {type: http, wait: 500ms}
    gate: {type: gate, provider: ibkr, batch: 20}
    queue:
      {type: write_queue, capacity: 2000, workers: 2, batch_size: 100, batch_wait: 100ms, dead_letter_path: dead.ndjson,
       retry_attempts: 1000, retry_max: 500ms, breaker_timeout: 500ms, write_timeout: 3s, drain_timeout: 20s}
    store: %s
  edges: [[items, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 500, burst: 50}
`

// World is everything at work.
type World struct {
	dir   string
	setup Setup
	bins  binaries
	store *postgres.Server
	began time.Time

	mounted bool // a small disk

	// The links may be spoilt: to the store, to Prometheus, and of each
	// controller to the pipeline.
	toStore, toPrometheus, fromA, fromB *link
	toRedis                             *link // nil where the budget is not shared
	forger                              *forger

	prometheus *promserver.Server
	prometheusAddress,
	pipelineAddress, scalerAddress string
	addressA, addressB, scalerHTTP string

	pipeline, a, b, scaler *process.Process
	controllers            map[string][]string // their environment, by name
	writers                []*process.Process  // of a durable queue, beside the pipeline
	queueAddress           string              // at which they reach it
	lives                  []*life             // of the pipeline, the last one is at work

	budget *sharedBudget // nil where it is not shared
	feed   *feed
	watch  *watch
	log    *os.File
	mu     sync.Mutex
}

// life is one process of the pipeline.
type life struct {
	journal, summary string
	killed           bool
	written          float64 // as it last said, where it was killed
}

// newWorld starts everything and returns when all of it is ready.
func newWorld(ctx context.Context, dir string, bins binaries, store *postgres.Server, setup Setup) (_ *World, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "prometheus"), 0o755); err != nil {
		return nil, err
	}
	w := &World{dir: dir, setup: setup, bins: bins, store: store, began: time.Now(), controllers: map[string][]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.log, err = os.Create(filepath.Join(dir, "case.log")); err != nil {
		return nil, err
	}
	var addresses [6]string
	for i := range addresses {
		if addresses[i], err = process.FreeAddress(); err != nil {
			return nil, err
		}
	}
	w.pipelineAddress, w.prometheusAddress, w.scalerAddress = addresses[0], addresses[1], addresses[2]
	w.addressA, w.addressB, w.scalerHTTP = addresses[3], addresses[4], addresses[5]

	sink := "{type: sqlite, path: disk/bars.db}"
	if setup.Sink == "postgres" {
		if w.toStore, err = newLink("store", store.Address); err != nil {
			return nil, err
		}
		if err := w.makeDatabase(ctx); err != nil {
			return nil, err
		}
		sink = fmt.Sprintf("{type: postgres, url: 'postgres://postgres@%s/%s?sslmode=disable&connect_timeout=2'}", w.toStore.address(), w.database())
	}
	if setup.Sink == "sqlite" || setup.SmallDisk {
		if err := mountDisk(w.path("disk")); err != nil {
			return nil, err
		}
		w.mounted = true
	}
	if err := os.WriteFile(w.path("job.yaml"), fmt.Appendf(nil, jobFile, sink), 0o644); err != nil {
		return nil, err
	}
	if err := w.startPrometheus(ctx); err != nil {
		return nil, err
	}
	if w.forger, err = newForger("http://" + w.prometheusAddress); err != nil {
		return nil, err
	}
	if w.toPrometheus, err = newLink("prometheus", w.forger.address()); err != nil {
		return nil, err
	}
	if w.fromA, err = newLink("from a", w.pipelineAddress); err != nil {
		return nil, err
	}
	if w.fromB, err = newLink("from b", w.pipelineAddress); err != nil {
		return nil, err
	}
	if setup.Writers > 0 {
		if w.queueAddress, err = process.FreeAddress(); err != nil {
			return nil, err
		}
		setup.Job["DAG_NODES_QUEUE_DURABLE_LISTEN"] = w.queueAddress
		setup.Job["DAG_NODES_QUEUE_DURABLE_PART"] = "accept"
	}
	w.watch = newWatch(w.pipelineAddress, w.scalerAddress, w.say)
	w.feed = newFeed(w.pipelineAddress, setup.ItemsPerSecond)
	if setup.SharedBudget {
		if err := w.startBudget(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.startPipeline(ctx); err != nil {
		return nil, err
	}
	if err := w.startWriters(); err != nil {
		return nil, err
	}
	signals := "HEADGATE_PROMETHEUS_URL=http://" + w.toPrometheus.address()
	for name, c := range map[string]struct {
		link   *link
		listen string
	}{"a": {w.fromA, w.addressA}, "b": {w.fromB, w.addressB}} {
		if setup.Naive && name == "b" {
			continue // without leases there can be only one
		}
		w.controllers[name] = []string{
			signals, "HEADGATE_HOLDER=" + name, "HEADGATE_CONTROLLER_LISTEN=" + c.listen,
			"HEADGATE_COORDINATOR_URL=http://" + c.link.address(), "HEADGATE_COORDINATOR_IDS=" + coordinatorID,
			"HEADGATE_INTERVAL=" + tick.String(), "HEADGATE_LEASE=" + lease.String(), "HEADGATE_COOL_DOWN=" + coolDown.String(),
			"HEADGATE_STALE_AFTER=" + stale.String(), "HEADGATE_QUERY_TIMEOUT=800ms", "HEADGATE_APPLY_TIMEOUT=500ms",
		}
		for variable, value := range setup.Controller {
			w.controllers[name] = append(w.controllers[name], variable+"="+value)
		}
	}
	if err := errors.Join(w.startController("a"), w.startController("b")); err != nil {
		return nil, err
	}
	if setup.KEDA != nil {
		return w, w.startKEDA()
	}
	w.scaler, err = process.Start(process.Spec{Name: "scaler", Binary: bins.scaler, Log: dir, Env: []string{
		signals, "HEADGATE_SCALER_LISTEN=" + w.scalerHTTP, "HEADGATE_SCALER_GRPC_LISTEN=" + w.scalerAddress,
		"HEADGATE_SCALER_INTERVAL=" + tick.String(), "HEADGATE_SCALER_STALE_AFTER=" + stale.String(), "HEADGATE_QUERY_TIMEOUT=800ms",
	}})
	return w, err
}

func (w *World) path(name string) string { return filepath.Join(w.dir, name) }

func (w *World) database() string {
	return strings.NewReplacer("-", "_", "@", "_").Replace(filepath.Base(w.dir))
}

// makeDatabase makes an empty database of the case's name.
func (w *World) makeDatabase(ctx context.Context) error {
	return w.sql(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+w.database())
		return err
	})
}

// sql does something in a database of the store, past the link.
func (w *World) sql(ctx context.Context, database string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, w.store.URL(database))
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}

func (w *World) startPrometheus(ctx context.Context) (err error) {
	log, err := os.OpenFile(w.path("prometheus.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	w.prometheus, err = promserver.Start(ctx, promserver.Config{
		Binary: w.bins.prometheus, Dir: w.path("prometheus"), Address: w.prometheusAddress, Interval: tick, Log: log,
		Scrapes: []promserver.Scrape{{Job: "pipeline", Targets: []string{w.pipelineAddress}}},
	})
	return err
}

// startPipeline starts a pipeline where none runs, and waits until it is ready.
func (w *World) startPipeline(ctx context.Context) error {
	n := len(w.lives)
	l := &life{journal: w.path(fmt.Sprintf("grants-%d.csv", n)), summary: w.path(fmt.Sprintf("summary-%d.json", n))}
	env := []string{"HEADGATE_JOB_METRICS_LISTEN=" + w.pipelineAddress, "HEADGATE_PIPELINE_GRANT_JOURNAL=" + l.journal}
	for key, value := range w.setup.Job {
		env = append(env, "HEADGATE_JOB_"+key+"="+value)
	}
	var err error
	w.pipeline, err = process.Start(process.Spec{
		Name: "pipeline", Binary: w.bins.pipeline, Args: []string{"run", w.path("job.yaml"), "--summary", l.summary}, Env: env, Log: w.dir,
	})
	if err != nil {
		return err
	}
	w.lives = append(w.lives, l)
	return w.await(ctx, 30*time.Second, "the pipeline to be ready", func() bool {
		response, err := http.Get("http://" + w.pipelineAddress + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, w.pipeline.Ended())
}

// killPipeline ends it at once.
func (w *World) killPipeline() {
	l := w.lives[len(w.lives)-1]
	w.feed.expectTrouble()
	l.killed, l.written = true, w.watch.last().written
	w.pipeline.Kill()
	w.watch.forget()
}

func (w *World) startController(name string) error {
	spec := process.Spec{Name: "controller-" + name, Binary: w.bins.controller, Log: w.dir, Env: w.controllers[name]}
	if w.controllers[name] == nil {
		return nil
	}
	if w.setup.Naive {
		spec = w.naive()
	}
	p, err := process.Start(spec)
	if name == "a" {
		w.a = p
	} else {
		w.b = p
	}
	return err
}

// loops are the controllers that there are.
func (w *World) loops() []*process.Process {
	if w.b == nil {
		return []*process.Process{w.a}
	}
	return []*process.Process{w.a, w.b}
}

// leader is the controller that holds the lease, and the other one.
func (w *World) leader() (name string, holds, other *process.Process) {
	if w.watch.last().holder() == "b" {
		return "b", w.b, w.a
	}
	return "a", w.a, w.b
}

// begin waits until the gate is open by a controller's word and the scaler
// answers, and feeds.
func (w *World) begin(ctx context.Context) error {
	w.watch.start()
	var ended []<-chan struct{}
	for _, p := range append(w.loops(), w.pipeline, w.scaler) {
		ended = append(ended, p.Ended())
	}
	if err := w.await(ctx, 30*time.Second, "the gate to be open and the scaler to answer", func() bool { return w.watch.last().normal() && w.watch.scalerAnswers() }, ended...); err != nil {
		return err
	}
	w.feed.start()
	return pause(ctx, calm)
}

// recover waits until all is back to normal, the scaler's answers too, and returns
// by how much that was too late. The time counts from when the queue is no longer
// under pressure.
func (w *World) recover(ctx context.Context) (late time.Duration, err error) {
	from := time.Now()
	err = w.await(ctx, time.Minute, "all to be back to normal", func() bool {
		s := w.watch.last()
		if s.depth > 1000 || !s.answered {
			from = time.Now()
		}
		return s.answered && s.at.After(from) && s.normal() && w.watch.scalerAnswers()
	})
	return max(0, time.Since(from)-backWithin), err
}

// end stops everything in good order, and counts.
func (w *World) end(ctx context.Context) (t Tally, err error) {
	fed, err := w.feed.stop(ctx)
	t.Accepted = fed.accepted
	if err != nil {
		return t, err
	}
	// A durable queue is looked at some times a second, so an older depth may be
	// that of before the last items.
	known := time.Now().Add(knownWithin)
	if err := w.await(ctx, 30*time.Second, "the queue to be empty", func() bool {
		s := w.watch.last()
		return s.answered && s.depth == 0 && (!w.setup.Durable || s.at.After(known))
	}); err != nil {
		return t, err
	}
	w.watch.stop()
	if err := w.stopWriters(); err != nil {
		return t, err
	}
	for _, p := range append([]*process.Process{w.pipeline, w.scaler}, w.loops()...) {
		if err := p.Stop(40 * time.Second); err != nil {
			return t, err
		}
		if p.Err() != nil {
			return t, fmt.Errorf("%s ended badly (%w), see %s", p.Name, p.Err(), p.LogPath)
		}
	}
	if w.budget != nil { // its journal is whole then
		if err := w.budget.other.Scale(0); err != nil {
			return t, err
		}
	}
	return w.count(ctx, t, fed)
}

// summary is what a pipeline leaves behind.
type summary struct {
	Accepted     int `json:"accepted"`
	Written      int `json:"written"`
	Waiting      int `json:"waiting"`
	Dropped      int `json:"dropped"`
	DeadLettered int `json:"dead_lettered"`

	Conserved bool            `json:"conserved"`
	Durable   *durableSummary `json:"durable"` // nil where the queue is in memory
}

// found is what waited in a durable queue before.
func (s summary) found() int {
	if s.Durable == nil {
		return 0
	}
	return s.Durable.Found
}

// count holds what was sent, what the pipeline says and what the store has
// against one another.
func (w *World) count(ctx context.Context, t Tally, fed fed) (Tally, error) {
	var errs []error
	var all summary
	killed, writtenByKilled := false, 0
	for _, l := range w.lives {
		if audit, err := journal.Read(l.journal); err == nil {
			t.OverBudgetSeconds += audit.OverSeconds
		} else if !l.killed { // one that was killed may have no whole line
			errs = append(errs, err)
		}
		if l.killed {
			killed, writtenByKilled = true, writtenByKilled+int(l.written)
			continue
		}
		data, err := os.ReadFile(l.summary)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var s summary
		if err := json.Unmarshal(data, &s); err != nil {
			errs = append(errs, err)
		}
		became := s.Written + s.Waiting + s.Dropped + s.DeadLettered
		adds := s.Accepted == became
		if s.Durable != nil {
			// What a durable queue could not note to be done with is written once more.
			// Of one that is shared a process cannot answer for what others did.
			adds = w.setup.Writers > 0 || s.found()+s.Accepted <= became
		}
		if !adds || !s.Conserved {
			errs = append(errs, fmt.Errorf("a pipeline's counts do not add up: %+v", s))
		}
		all.Accepted, all.Written, all.Dropped, all.DeadLettered = all.Accepted+s.Accepted, all.Written+s.Written, all.Dropped+s.Dropped, all.DeadLettered+s.DeadLettered
	}
	if w.budget != nil {
		var own []string
		for _, l := range w.lives {
			own = append(own, l.journal)
		}
		over, err := w.budget.audit(own)
		t.OverBudgetSeconds += over
		errs = append(errs, err)
	}
	rows, distinct, err := w.rows(ctx)
	if err != nil {
		return t, errors.Join(append(errs, err)...)
	}
	if w.setup.Durable {
		counted, err := w.countDurable(t, fed, rows, distinct, all.DeadLettered)
		return counted, errors.Join(append(errs, err)...)
	}
	t.Duplicated = rows - distinct
	if killed {
		// What was in the memory of one that was killed is gone; what it had said
		// to be written is not.
		t.Lost = max(0, writtenByKilled+all.Written-distinct)
		w.say("%d items were said to be taken, %d rows are there, %d were written by those that were killed", fed.accepted, rows, writtenByKilled)
	} else {
		t.Lost = max(0, fed.accepted-distinct-all.Dropped-all.DeadLettered)
		if all.Accepted != fed.accepted || all.Written != rows {
			errs = append(errs, fmt.Errorf("the client counts %d accepted items and the store %d rows, the pipeline %+v", fed.accepted, rows, all))
		}
	}
	return t, errors.Join(errs...)
}

// rows counts what is in the store.
func (w *World) rows(ctx context.Context) (rows, distinct int, err error) {
	const count = "SELECT count(*), count(DISTINCT key) FROM items"
	if w.setup.Sink == "sqlite" {
		return sqliteRows(ctx, w.path("disk/bars.db"), count)
	}
	err = w.sql(ctx, w.database(), func(conn *pgx.Conn) error { return conn.QueryRow(ctx, count).Scan(&rows, &distinct) })
	return rows, distinct, err
}

// close ends whatever is left.
func (w *World) close() error {
	if w.watch != nil {
		w.watch.stop()
	}
	if w.feed != nil {
		w.feed.abandon()
	}
	for _, p := range []*process.Process{w.pipeline, w.a, w.b, w.scaler} {
		if p != nil {
			p.Kill()
		}
	}
	w.killWriters()
	var err error
	if w.budget != nil {
		err = w.budget.close()
	}
	if w.prometheus != nil {
		_ = syscall.Kill(w.prometheus.PID(), syscall.SIGCONT)
		err = errors.Join(err, w.prometheus.Stop())
	}
	if w.forger != nil {
		w.forger.close()
	}
	for _, l := range []*link{w.toStore, w.toPrometheus, w.fromA, w.fromB, w.toRedis} {
		if l != nil {
			l.cut()
		}
	}
	if w.mounted {
		err = errors.Join(err, syscall.Unmount(w.path("disk"), 0))
	}
	if w.log != nil {
		err = errors.Join(err, w.log.Close())
	}
	return err
}

// say writes into the case's log.
func (w *World) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.log, "%6.2f s  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// await looks again and again until something is so. It gives up at the limit,
// and when one of the channels is closed.
func (w *World) await(ctx context.Context, limit time.Duration, what string, is func() bool, ended ...<-chan struct{}) error {
	begin := time.Now()
	for !is() {
		if time.Since(begin) > limit {
			return fmt.Errorf("waited %v for %s: %v", limit, what, w.watch.last())
		}
		for _, e := range ended {
			select {
			case <-e:
				return fmt.Errorf("waited for %s, and it ended: see %s", what, w.dir)
			default:
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s: %w: %v", what, err, w.watch.last())
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
