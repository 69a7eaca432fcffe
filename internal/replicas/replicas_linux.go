// Package replicas runs pipelines that share one provider's budget, each a process
// with an address of its own, and counts what they let through together.
package replicas

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/exposition"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/pipeline/journal"
)

const (
	// Provider is whose budget they share, and CoordinatorID what each calls its
	// queue.
	Provider, CoordinatorID = "ibkr", "bars"

	stopLimit = 30 * time.Second
)

// Config says what the pipelines are.
type Config struct {
	Binary string // of the pipeline
	Dir    string // an existing folder for their files
	Most   int    // of them at once

	BasePerSecond, Burst int     // of the provider
	InitialShare         float64 // that one starts with
	RedisURL             string  // of the server with the budget; "" where they have shares of it
}

// jobFile has feeds that have more items than the whole budget lets through, about
// 15,000 a second.
const jobFile = `mode: dag
name: %s
when_done: stay
dag:
  nodes:
    one: {type: synthetic, scale: 20, opens_after: 0s}
    two: {type: synthetic, scale: 20, opens_after: 0s}
    three: {type: synthetic, scale: 20, opens_after: 0s}
    gate: {type: gate, provider: %s}
    queue: {type: write_queue, dead_letter_path: dead.ndjson}
    store: {type: discard}
  edges: [[one, gate], [two, gate], [three, gate], [gate, queue], [queue, store]]
providers:
  %s: {base_per_second: %d, burst: %d, initial_share: %v, redis_url: "%s"}
metrics: {listen: "%s"}
`

// Fleet is the pipelines. Its methods may be called by several goroutines at once.
type Fleet struct {
	config    Config
	addresses []string // of those that may be
	port      string
	http      *http.Client

	mu       sync.Mutex
	running  map[string]*member // by address
	journals []string           // of all that ever ran
}

type member struct {
	process *process.Process
	client  *client.Client
}

// New returns a fleet of which none runs yet. Close ends it.
func New(c Config) (*Fleet, error) {
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		config: c, port: strconv.Itoa(port), running: map[string]*member{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 10 * time.Second},
	}
	for i := range c.Most {
		f.addresses = append(f.addresses, net.JoinHostPort(fmt.Sprintf("127.0.0.%d", i+1), f.port))
	}
	return f, nil
}

// Addresses are those of all that may run, and Port is the port of each.
func (f *Fleet) Addresses() []string { return slices.Clone(f.addresses) }

// Port is the port of each.
func (f *Fleet) Port() string { return f.port }

// HTTP is the client that the fleet is asked by.
func (f *Fleet) HTTP() *http.Client { return f.http }

// LookupNetIP is a name server that has the addresses of those that run for every
// name.
func (f *Fleet) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []netip.Addr
	for address := range f.running {
		all = append(all, netip.MustParseAddrPort(address).Addr())
	}
	return all, nil
}

// Scale starts the pipelines that are wanting, and stops those that are too many,
// as Kubernetes does: the newest first, and all at once.
func (f *Fleet) Scale(replicas int) error {
	var ending sync.WaitGroup
	errs := make([]error, len(f.addresses))
	for i, address := range f.addresses {
		f.mu.Lock()
		runs := f.running[address]
		f.mu.Unlock()
		switch {
		case i < replicas && runs == nil:
			errs[i] = f.begin(address)
		case i >= replicas && runs != nil:
			ending.Go(func() { errs[i] = f.end(address, runs) })
		}
	}
	ending.Wait()
	return errors.Join(errs...)
}

// begin starts a pipeline. Its address is known before it listens.
func (f *Fleet) begin(address string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := filepath.Join(f.config.Dir, fmt.Sprintf("pipeline-%d", len(f.journals)))
	file, grants := filepath.Join(dir, "job.yaml"), filepath.Join(dir, "grants.csv")
	job := fmt.Appendf(nil, jobFile, CoordinatorID, Provider, Provider,
		f.config.BasePerSecond, f.config.Burst, f.config.InitialShare, f.config.RedisURL, address)
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, job, 0o600)); err != nil {
		return err
	}
	c, err := client.New("http://"+address, f.http)
	if err != nil {
		return err
	}
	p, err := process.Start(process.Spec{
		Name: "pipeline", Binary: f.config.Binary, Args: []string{"run", file}, Log: dir,
		Env: []string{"HEADGATE_PIPELINE_GRANT_JOURNAL=" + grants},
	})
	if err != nil {
		return err
	}
	f.running[address] = &member{p, c}
	f.journals = append(f.journals, grants)
	return nil
}

// end stops a pipeline, and takes its address away once it has ended.
func (f *Fleet) end(address string, m *member) error {
	err := m.process.Stop(stopLimit)
	if err == nil && m.process.Err() != nil {
		err = fmt.Errorf("the pipeline at %s ended badly: %w: %s", address, m.process.Err(), process.Tail(m.process.LogPath, 5))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, address)
	return err
}

// Close ends those that still run.
func (f *Fleet) Close() error {
	err := f.Scale(0)
	f.http.CloseIdleConnections()
	return err
}

// States are those of the pipelines that run and answer, and how many run.
func (f *Fleet) States(ctx context.Context) (states []coordinator.State, running int) {
	f.mu.Lock()
	var clients []*client.Client
	for _, m := range f.running {
		clients = append(clients, m.client)
	}
	f.mu.Unlock()
	for _, c := range clients {
		if s, err := c.State(ctx, Provider); err == nil {
			states = append(states, s)
		}
	}
	return states, len(clients)
}

// Await waits until the pipelines that run all answer, and stand as they are to.
func (f *Fleet) Await(ctx context.Context, limit time.Duration, what string, is func([]coordinator.State) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		states, running := f.States(ctx)
		if len(states) == running && is(states) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %d pipelines that %s: %+v", limit, running, what, states)
		}
	}
}

// ShareEvenly reports whether all have the same share of the whole budget.
func (f *Fleet) ShareEvenly(states []coordinator.State) bool {
	even := float64(f.config.BasePerSecond) / float64(len(states))
	return !slices.ContainsFunc(states, func(s coordinator.State) bool {
		return math.Abs(s.EffectivePerSecond-even) >= 0.001*float64(f.config.BasePerSecond)
	})
}

// DrawFreely reports whether all draw from the shared budget as much as there is.
func (f *Fleet) DrawFreely(states []coordinator.State) bool {
	return !slices.ContainsFunc(states, func(s coordinator.State) bool {
		return s.Shared == nil || s.Shared.State != coordinator.SharedConnected || s.EffectivePerSecond != float64(f.config.BasePerSecond)
	})
}

// Sum adds a series up over the pipelines that run.
func (f *Fleet) Sum(ctx context.Context, series string) (sum float64, err error) {
	f.mu.Lock()
	var running []string
	for address := range f.running {
		running = append(running, address)
	}
	f.mu.Unlock()
	for _, address := range running {
		families, err := exposition.Read(ctx, f.http, "http://"+address+"/metrics")
		if err != nil {
			return 0, err
		}
		sum += families.Sum(series)
	}
	return sum, nil
}

// Ledger is what the provider let through in all. It is complete once all have
// ended.
func (f *Fleet) Ledger() (journal.Ledger, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return journal.ReadAll(Provider, f.journals...)
}
