// Package pipeline runs a job: sources bring items in, gates let them through
// as their providers' budgets allow, transforms change them, a write queue
// holds them and a store takes them. The queue's feedback throttles the gate by
// itself.
//
//	source -> gate -> transforms -> write queue -> sink
//	           ^                        |
//	           +------- feedback -------+
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/redisbudget"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pipeline/fastloop"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pipeline/journal"
	"github.com/headgate/headgate/writequeue"
)

// Options are what a pipeline has beside its job. All of them may be left
// zero.
type Options struct {
	Log          *slog.Logger
	Policies     map[string]NewPolicy // feedback policies by name, beside those of Policies
	GrantJournal string               // file of the grants; none where empty

	// For all servers: a Prometheus web configuration with TLS and users; whom
	// the servers let in, nil for everyone; and whether addresses that strangers
	// can reach may be without both.
	WebConfigFile        string
	Access               *access.Guard
	AllowUnauthenticated bool

	// Listening is told the addresses of the servers once their ports are open,
	// by the addresses that the job gives, for those who gave port 0. It must
	// not wait.
	Listening func(addresses map[string]string)
}

// Pipeline is a job at work. It is made by New and run once.
type Pipeline struct {
	job     *job.Job
	log     *slog.Logger
	options Options

	coordinator *coordinator.Coordinator
	bus         *feedback.Bus
	series      *series
	journal     *journal.Journal // nil for none
	granted     atomic.Uint64    // items

	sources []source
	queues  []queue
	marks   []writequeue.Marks // of the queues
	fast    *fastloop.Loop     // nil where the feedback follows events, or is off
	counted []counted
	served  map[string][]route.Route // by address
	stores  []*store
	budgets []*redisbudget.Budget // that are shared with other replicas

	durables []*durable // of the queues

	stopping    context.Context // ends when the sources are to stop
	stopSources context.CancelFunc
	serving     context.Context // ends when requests in progress are to end
	stopServing context.CancelFunc
	started     time.Time
	storesOpen  atomic.Bool // all stores are open
	opened      atomic.Bool // and all durable queues
	ready       atomic.Bool
}

// New makes a pipeline of a job: it opens the dead letters and the journal, but
// no port and no store, and starts nothing but the drawing of budgets that are
// shared. Run, or else Close, gives all of them
// back.
func New(ctx context.Context, j *job.Job, o Options) (*Pipeline, error) {
	p := &Pipeline{job: j, log: o.Log, options: o, series: newSeries(), served: map[string][]route.Route{}}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.options.Access == nil {
		p.options.Access = access.Everyone()
	}
	if err := CheckPorts(j, o); err != nil {
		return nil, fmt.Errorf("make the pipeline: %w", err)
	}
	p.stopping, p.stopSources = context.WithCancel(context.WithoutCancel(ctx))
	p.serving, p.stopServing = context.WithCancel(context.WithoutCancel(ctx))
	p.bus = feedback.NewBus(p.log)
	if o.GrantJournal != "" {
		var err error
		if p.journal, err = journal.Open(o.GrantJournal); err != nil {
			return nil, fmt.Errorf("make the pipeline: %w", err)
		}
	}
	observers := []coordinator.Option{coordinator.WithLogger(p.log), coordinator.WithGrantObserver(p.observe)}
	if p.journal != nil {
		observers = append(observers, coordinator.WithRateObserver(p.journal.Rate))
	}
	p.coordinator = coordinator.New(observers...)
	p.series.registry.MustRegister(p.coordinator, p.bus, p.options.Access)

	policies := Policies()
	maps.Copy(policies, o.Policies)
	if err := p.build(policies); err != nil {
		return nil, errors.Join(fmt.Errorf("make the pipeline: %w", err), p.Close())
	}
	p.serveAPI()
	return p, nil
}

// observe sees every grant of the coordinator, and must be quick.
func (p *Pipeline) observe(g coordinator.Grant) {
	p.granted.Add(uint64(g.N))
	if p.journal != nil {
		p.journal.Grant(g)
	}
}

// Coordinator is the pipeline's own, for programs that embed one.
func (p *Pipeline) Coordinator() *coordinator.Coordinator { return p.coordinator }

// Bus carries the queues' events, for programs that want to hear them too.
func (p *Pipeline) Bus() *feedback.Bus { return p.bus }

// Close gives back what New opened, where Run was not called.
func (p *Pipeline) Close() error {
	p.stopSources()
	p.stopServing()
	p.coordinator.Close()
	var errs []error
	for _, b := range p.budgets {
		errs = append(errs, b.Close())
	}
	for _, d := range p.durables {
		errs = append(errs, d.close())
	}
	for _, s := range p.stores {
		errs = append(errs, s.close())
	}
	if p.journal != nil {
		errs = append(errs, p.journal.Close())
	}
	return errors.Join(errs...)
}

// Run runs the job until ctx ends, or all sources have come to their end and
// the job is to stop then, or something fails. First it waits for the stores and
// the durable queues; see openAll. In the end it stops, in this order: the sources;
// the queues, each of which is emptied within its time limit and gives what is left
// to the dead letters, but for a durable one, which keeps it; the HTTP servers; the
// durable queues' servers; the stores.
//
// When the sources ended by themselves the queues are emptied without a limit
// before that, until ctx ends. A job that writes what other processes put into a
// queue has no end of its own.
func (p *Pipeline) Run(ctx context.Context) (Summary, error) {
	p.started = time.Now()
	servers, err := p.listen()
	if err != nil {
		return p.Summary(), errors.Join(err, p.Close())
	}
	guarding := start(context.WithoutCancel(ctx), p.options.Access.Run)
	opening := start(ctx, p.openAll)
	select {
	case <-opening.done:
		err = opening.err
	case err = <-servers.failed:
		opening.stop()
		<-opening.done
	}
	if err == nil && p.opened.Load() {
		err = p.work(ctx, servers)
	}
	p.stopSources()
	p.stopServing() // streams would go on for ever
	err = errors.Join(err, servers.shutdown(p.job.Metrics.ShutdownTimeout))
	guarding.stop()
	<-guarding.done
	err = errors.Join(err, p.Close())

	summary := p.Summary()
	summary.log(p.log)
	if !summary.Conserved {
		err = errors.Join(err, errors.New("items are not accounted for: what was accepted, or taken out of a durable queue, is not the sum of what became of it"))
	}
	return summary, err
}

// work lets the sources and the queues work, once the stores are open, and stops
// them.
func (p *Pipeline) work(ctx context.Context, servers *servers) error {
	queues := p.startQueues(ctx)
	sources := p.startSources()
	p.ready.Store(true)
	p.log.Info("pipeline started", "name", p.job.Name, "nodes", len(p.job.Nodes), "address", servers.addresses[p.job.Metrics.Listen])

	err := p.wait(ctx, servers, queues, sources)

	p.ready.Store(false)
	p.stopSources()
	<-sources.done
	queues.stop()
	<-queues.done
	return errors.Join(err, queues.err)
}

// wait returns when the pipeline is to stop, with the error that is why.
func (p *Pipeline) wait(ctx context.Context, servers *servers, queues, sources *task) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-servers.failed:
		return err
	case <-queues.done:
		return errors.New("the write queues ended before their time")
	case <-sources.done:
	}
	if sources.err != nil {
		return sources.err
	}
	p.log.Info("all sources have come to their end", "when_done", p.job.WhenDone)
	// What is asked is whether the queues are empty. They tell nobody when that
	// comes about, and a twentieth of a second matters to nobody here.
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for p.job.WhenDone == "stay" || !p.empty(ctx) {
		select {
		case <-ctx.Done():
			return nil
		case err := <-servers.failed:
			return err
		case <-queues.done:
			return errors.New("the write queues ended before their time")
		case <-ticker.C:
		}
	}
	return nil
}

// empty reports whether it is known that nothing waits in any queue.
func (p *Pipeline) empty(ctx context.Context) bool {
	for _, q := range p.queues {
		if is, err := q.Empty(ctx); err != nil || !is {
			return false // a durable queue that does not answer says so in the log
		}
	}
	return true
}

// task is goroutines that are stopped and waited for together.
type task struct {
	stop context.CancelFunc
	done chan struct{} // closed when all have ended
	err  error         // of all of them; to be read after done
}

// start runs functions until they end by themselves or are stopped.
func start(ctx context.Context, functions ...func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{stop: cancel, done: make(chan struct{})}
	errs := make([]error, len(functions))
	var group sync.WaitGroup
	for i, f := range functions {
		group.Go(func() { errs[i] = f(ctx) })
	}
	go func() {
		group.Wait()
		cancel()
		t.err = errors.Join(errs...)
		close(t.done)
	}()
	return t
}

// forever is for what has nothing to do but must not end.
func forever(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// startQueues lets the queues work. They go on when ctx ends, until stopped.
func (p *Pipeline) startQueues(ctx context.Context) *task {
	run := []func(context.Context) error{forever}
	for _, q := range p.queues {
		run = append(run, q.Run)
	}
	if p.fast != nil {
		run = append(run, p.fast.Run)
	}
	return start(context.WithoutCancel(ctx), run...)
}

// startSources lets the sources bring items in until they are to stop. One that
// fails stops the others. Those that wait for requests never come to an end, nor do
// other processes that put items into a queue, nor a gate alone, whose items are
// elsewhere.
func (p *Pipeline) startSources() *task {
	var run []func(context.Context) error
	if p.job.Mode == job.ModeGate || p.someQueue(func(q *job.WriteQueue) bool { return !q.Accepts() }) {
		run = append(run, forever)
	}
	for _, s := range p.sources {
		if s.run == nil {
			run = append(run, forever)
			continue
		}
		run = append(run, func(ctx context.Context) error {
			err := s.run(ctx)
			if err != nil {
				p.stopSources()
				return fmt.Errorf("source %s: %w", s.name, err)
			}
			return nil
		})
	}
	return start(p.stopping, run...)
}
