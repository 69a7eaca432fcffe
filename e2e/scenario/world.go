// Package scenario holds the scenarios: each sets up its own namespace with the
// shipped manifests, its own Prometheus and its own store on one shared
// cluster, and checks one promise.
package scenario

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/e2e/load"
	"github.com/headgate/headgate/e2e/node"
	"github.com/headgate/headgate/internal/postgres"
	"github.com/headgate/headgate/internal/process"
)

// World is what all scenarios share.
type World struct {
	Cluster    *cluster.Cluster
	Node       *node.Node
	Postgres   *postgres.Server
	Programs   map[string]string // as servers.Build returns them
	Prometheus string            // path of the server
	Deploy     string            // folder of the manifests
	Root       string            // of the repository
	Binaries   string            // folder of the product's programs
	Dir        string            // for what the scenarios keep
	Progress   io.Writer
}

// NewWorld starts what all scenarios share. The node runs until ctx ends.
func NewWorld(ctx context.Context, dir, root, prometheus string, programs map[string]string, progress io.Writer) (_ *World, err error) {
	w := &World{
		Programs: programs, Prometheus: prometheus, Dir: dir, Progress: progress,
		Root: root, Deploy: filepath.Join(root, "deploy"), Binaries: filepath.Join(dir, "bin"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Stop())
		}
	}()
	// As they are now: somebody may build them anew while the scenarios run.
	if err := copyFiles(w.Binaries, filepath.Join(root, "bin"), "controller", "external-scaler", "pipeline"); err != nil {
		return nil, err
	}
	if w.Cluster, err = cluster.Start(ctx, filepath.Join(dir, "cluster"), programs, progress); err != nil {
		return nil, err
	}
	started := time.Now()
	if w.Postgres, err = postgres.Start(ctx, filepath.Join(dir, "postgres"),
		"fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=400"); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "headgate: cluster: PostgreSQL: %.1f s\n", time.Since(started).Seconds())
	logs, err := os.Create(filepath.Join(dir, "node.log"))
	if err != nil {
		return nil, err
	}
	w.Node, err = node.New(w.Cluster.Client, filepath.Join(dir, "pods"), w.Binaries, slog.New(slog.NewTextHandler(logs, nil)))
	return w, err
}

// copyFiles copies programs from one folder into another, which it makes.
func copyFiles(to, from string, names ...string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("%w; make build makes it", err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends what NewWorld started.
func (w *World) Stop() error {
	if w.Postgres != nil {
		w.Postgres.Stop()
	}
	if w.Cluster != nil {
		return w.Cluster.Stop()
	}
	return nil
}

// Manifests renders a kustomization under deploy/keda.
func (w *World) Manifests(ctx context.Context, folder string) ([]*cluster.Object, error) {
	command := exec.CommandContext(ctx, w.Programs["kustomize"], "build", filepath.Join(w.Deploy, "keda", folder))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("render %s: %w: %s", folder, err, stderr.Bytes())
	}
	return cluster.ParseYAML(text)
}

// Env is one scenario's surroundings.
type Env struct {
	*World
	Name       string
	Namespace  string
	Prometheus *Prometheus
	Store      *Store
	Load       *load.Generator
	Figures    map[string]any // what the scenario measured

	ctx     context.Context
	faults  *faults
	dir     string
	started time.Time
	group   sync.WaitGroup
	mu      sync.Mutex
	failed  []error
}

// Say reports progress.
func (e *Env) Say(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(e.Progress, "headgate: %-22s %5.1f s  %s\n", e.Name, time.Since(e.started).Seconds(), fmt.Sprintf(format, args...))
}

// Figure keeps a number for the final report.
func (e *Env) Figure(name string, value any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Figures[name] = value
}

// Go runs something beside the scenario, until it ends. Its error fails the
// scenario.
func (e *Env) Go(f func(context.Context) error) {
	e.group.Go(func() {
		if err := f(e.ctx); err != nil && e.ctx.Err() == nil {
			e.mu.Lock()
			e.failed = append(e.failed, err)
			e.mu.Unlock()
		}
	})
}

// Scenario is one promise that is checked.
type Scenario struct {
	Name   string
	Alone  bool // it measures time, so nothing runs beside it
	Faults bool // its Prometheus scrapes through a proxy that can spoil series
	Limit  time.Duration

	// Namespace is where it runs; one of its name where empty.
	Namespace string

	Run func(ctx context.Context, e *Env) error
}

// Result is how a scenario went.
type Result struct {
	Seconds float64        `json:"seconds"`
	Passed  bool           `json:"passed"`
	Error   string         `json:"error,omitempty"`
	Figures map[string]any `json:"figures,omitempty"`
}

// Check runs one scenario.
func (w *World) Check(ctx context.Context, s Scenario) Result {
	started := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, s.Limit, fmt.Errorf("the scenario's limit of %v is over", s.Limit))
	defer cancel()
	running, stop := context.WithCancel(limited)
	e := &Env{
		World: w, Name: s.Name, Namespace: cmp.Or(s.Namespace, "headgate-"+s.Name), Figures: map[string]any{},
		ctx: running, dir: filepath.Join(w.Dir, "scenarios", s.Name), started: started,
	}
	e.Say("begins")
	err := func() error {
		if err := e.open(running, s.Faults); err != nil {
			return err
		}
		return s.Run(running, e)
	}()
	stop()
	e.group.Wait()
	err = errors.Join(append([]error{err}, e.failed...)...)
	result := Result{Seconds: round(time.Since(started).Seconds(), 1), Passed: err == nil, Figures: e.Figures}
	if err != nil {
		result.Error = err.Error()
		e.Say("FAILED: %v\n%s", err, e.tails())
	} else {
		e.Say("holds: %v", e.Figures)
	}
	closing, cancelClosing := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelClosing()
	if err := e.close(closing); err != nil {
		e.Say("could not be cleared away: %v", err)
	}
	return result
}

// open makes the namespace and what stands in it for the outside.
func (e *Env) open(ctx context.Context, withFaults bool) error {
	var err error
	if err = os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	_, err = e.Cluster.ApplyYAML(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels: {pod-security.kubernetes.io/enforce: restricted}
`, e.Namespace))
	if err != nil {
		return err
	}
	folder := filepath.Join(e.dir, "prometheus")
	proxy := ""
	if withFaults {
		if e.faults, err = startFaults(); err != nil {
			return err
		}
		proxy = e.faults.URL
	}
	if e.Prometheus, err = startPrometheus(ctx, e.World.Prometheus, folder, proxy); err != nil {
		return err
	}
	if err := e.Node.ScrapeInto(e.Namespace, filepath.Join(folder, "targets.json")); err != nil {
		return err
	}
	if e.Store, err = newStore(ctx, e.Postgres, e.Namespace); err != nil {
		return err
	}
	e.Load = load.New(e.itemURLs, slog.New(slog.NewTextHandler(e.Progress, nil)))
	e.Go(e.Load.Run)
	return nil
}

// itemURLs are where the live pipelines take items.
func (e *Env) itemURLs() []string {
	var urls []string
	for _, component := range []string{"pipeline", "pipeline-burst"} {
		for _, pod := range e.Node.Pods(e.Namespace, component) {
			urls = append(urls, "http://"+pod.Address(9400)+"/v1/items")
		}
	}
	return urls
}

// close ends what the scenario left running. Its ScaledObjects go first, for
// KEDA asks about them until then.
func (e *Env) close(ctx context.Context) error {
	all, err := e.Cluster.Dynamic.Resource(cluster.ScaledObjects).Namespace(e.Namespace).List(ctx, listAll)
	if err == nil {
		for _, o := range all.Items {
			err = errors.Join(err, e.Cluster.Delete(ctx, cluster.ScaledObjects, e.Namespace, o.GetName()))
		}
	}
	if e.Store != nil { // what still waits is to be written soon
		err = errors.Join(err, e.Store.SetCapacity(ctx, 1e9, false))
	}
	err = errors.Join(err, e.Cluster.Client.CoreV1().Namespaces().Delete(ctx, e.Namespace, deleteNow))
	err = errors.Join(err, e.Node.Await(ctx, e.Namespace))
	if e.Prometheus != nil {
		err = errors.Join(err, e.Prometheus.Stop())
	}
	if e.faults != nil {
		err = errors.Join(err, e.faults.Stop())
	}
	if e.Store != nil {
		e.Store.pool.Close()
	}
	return err
}

// tails are the ends of the logs that may tell why the scenario failed.
func (e *Env) tails() string {
	var b strings.Builder
	paths := append(e.Node.Logs(e.Namespace), filepath.Join(e.dir, "prometheus", "prometheus.log"))
	for _, path := range paths {
		fmt.Fprintf(&b, "--- the end of %s\n%s\n", path, process.Tail(path, 12))
	}
	operator := filepath.Join(e.Cluster.Logs(), "keda-operator.log")
	fmt.Fprintf(&b, "--- %s on this namespace\n", operator)
	var lines []string
	for line := range strings.Lines(process.Tail(operator, 2000)) {
		if strings.Contains(line, e.Namespace) {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	b.WriteString(strings.Join(lines[max(0, len(lines)-15):], "\n"))
	return b.String()
}
