// Package python_test runs the Python client and the pipeline that uses it, which
// docs/coming-from-python.md tells of, against real gates and a real Prometheus.
package python_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/internal/testserver"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/pipeline"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pipeline/journal"
	"github.com/headgate/headgate/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// python3 is a command that runs in this folder. Where there is no Python the
// test is skipped, or fails where testserver.Required says so.
func python3(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil && !testserver.Required() {
		t.Skip("skipped: no python3")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"headgate.py", "worker.py", "test_headgate.py"} {
		if _, err := os.ReadFile(file); err != nil { // so that the test is run again when it changes
			t.Fatal(err)
		}
	}
	process := exec.Command(path, append([]string{"-B"}, arguments...)...)
	process.SysProcAttr = &syscall.SysProcAttr{}
	testserver.EndWithParent(process.SysProcAttr, syscall.SIGKILL)
	return process
}

// gate is a gate alone at work.
type gate struct {
	*pipeline.Pipeline
	url  string
	stop func() pipeline.Summary
}

// begin starts a gate from a job file and waits until it listens.
func begin(t *testing.T, file string, options pipeline.Options, environ ...string) gate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, data, options, environ...)
}

func serve(t *testing.T, data []byte, options pipeline.Options, environ ...string) gate {
	t.Helper()
	j, err := job.Load(t.Context(), job.Input{
		Path: "gate.yaml", Data: data, Environ: environ, Policies: pipeline.PolicyNames(nil),
		Open: func(path string) (io.ReadCloser, error) { return os.Open(path) },
	})
	if err != nil {
		t.Fatal(err)
	}
	listening := make(chan map[string]string, 1)
	options.Listening = func(addresses map[string]string) { listening <- addresses }
	options.Log = wiring.Logger(settings.Log{Level: "warn", Format: "logfmt"}, t.Output())
	p, err := pipeline.New(t.Context(), j, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var summary pipeline.Summary
	done := make(chan struct{})
	go func() {
		defer close(done)
		if summary, err = p.Run(ctx); err != nil {
			t.Errorf("the gate ended with %v", err)
		}
	}()
	g := gate{Pipeline: p, stop: func() pipeline.Summary {
		cancel()
		<-done
		return summary
	}}
	t.Cleanup(func() { g.stop() })
	select {
	case addresses := <-listening:
		g.url = "http://" + addresses[j.Metrics.Listen]
	case <-done:
		t.FailNow()
	}
	return g
}

// state is what the provider ibkr is at.
func (g gate) state(t *testing.T) coordinator.State {
	t.Helper()
	state, err := g.Coordinator().State("ibkr")
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// The token stands in a file, as a gate wants it.
const token = "only-for-this-test"

const providers = `
mode: gate
name: python
providers:
  ibkr: {base_per_second: 600, burst: 200}
  slow: {base_per_second: 20, burst: 10}
  parked: {base_per_second: 600, burst: 10, floor_per_second: 0, fail_mode: open}
  broken: {base_per_second: 600, burst: 10, breaker_failures: 2, breaker_timeout: 1s}
feedback: {event_ttl: 1s}
metrics: {listen: 127.0.0.1:0}
`

func TestThePythonClientSpeaksEveryCallAndBacksOff(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"access.yaml": "clients: [{name: python, token_file: token, roles: [read, feed, apply]}]\n", "token": token,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	process := python3(t, "-m", "unittest", "-v", "test_headgate")
	guard, err := access.New(filepath.Join(dir, "access.yaml"), wiring.Logger(settings.Log{}, t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	g := serve(t, []byte(providers), pipeline.Options{Access: guard}, "HEADGATE_JOB_PROVIDERS_SLOW_START_IN_FAIL_MODE=false")
	process.Env = append(os.Environ(), "HEADGATE_URL="+g.url, "HEADGATE_TOKEN="+token)
	out, err := process.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("\nOK\n")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// worker is worker.py at work.
type worker struct {
	process *exec.Cmd
	address string // of its metrics
	lines   *bufio.Scanner
}

func work(t *testing.T, g gate, arguments ...string) worker {
	t.Helper()
	w := worker{process: python3(t, append([]string{"worker.py", "--gate", g.url, "--listen", "127.0.0.1:0"}, arguments...)...)}
	w.process.Stderr = t.Output()
	out, err := w.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.process.Process.Kill() }) // where it has not ended yet
	w.lines = bufio.NewScanner(out)
	line := w.line(t)
	address, metrics := strings.CutPrefix(line, "metrics on http://")
	if !metrics {
		t.Fatalf("the worker says %q", line)
	}
	w.address = strings.TrimSuffix(address, "/metrics")
	return w
}

func (w worker) line(t *testing.T) string {
	t.Helper()
	if !w.lines.Scan() {
		t.Fatalf("the worker says nothing more: %v", errors.Join(w.lines.Err(), w.process.Wait()))
	}
	return w.lines.Text()
}

// result is what a worker did.
type result struct {
	Fetched     uint64
	Written     uint64
	MostWaiting int `json:"most_waiting"`
}

// end waits for the worker, or tells it to end.
func (w worker) end(t *testing.T, tell bool) (r result) {
	t.Helper()
	if tell {
		if err := w.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	line := w.line(t)
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("the worker says %q: %v", line, err)
	}
	if err := w.process.Wait(); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	return r
}

func TestAPythonPipelineKeepsToItsBudgetAndItsQueueIsKeptFromFilling(t *testing.T) {
	grants := filepath.Join(t.TempDir(), "grants.csv")
	g := begin(t, "gate.yaml", pipeline.Options{GrantJournal: grants}, "HEADGATE_JOB_METRICS_LISTEN=127.0.0.1:0")
	w := work(t, g, "--fetchers", "16", "--seconds", "8")
	r := w.end(t, false)
	granted := g.state(t).Granted
	g.stop()

	// A fetcher that was told that its time is over may have been given its
	// tokens in the same moment.
	if r.Written != r.Fetched || r.Fetched > granted || granted-r.Fetched > 16*10 {
		t.Errorf("granted %d, fetched %d, written %d", granted, r.Fetched, r.Written)
	}
	// 600/s come and 300/s go, so without the gate the queue of 1000 is full in
	// less than four seconds. SOFT lets 300/s in.
	if r.MostWaiting < 500 || r.MostWaiting >= 800 {
		t.Errorf("%d items waited at the most, want SOFT, and not HARD", r.MostWaiting)
	}
	audit, err := journal.Read(grants)
	if err != nil {
		t.Fatal(err)
	}
	if audit.OverSeconds != 0 || audit.First.IsZero() {
		t.Errorf("the budget was exceeded: %+v", audit)
	}
}

func TestAPythonPipelineOutlivesARestartOfItsGate(t *testing.T) {
	g := begin(t, "gate.yaml", pipeline.Options{}, "HEADGATE_JOB_METRICS_LISTEN=127.0.0.1:0")
	w := work(t, g, "--drain", "2000")
	until(t, "tokens are taken", func() bool { return g.state(t).Granted > 500 })
	address := strings.TrimPrefix(g.url, "http://")
	g.stop()
	again := begin(t, "gate.yaml", pipeline.Options{}, "HEADGATE_JOB_METRICS_LISTEN="+address)
	until(t, "tokens are taken of the new one, at the full rate", func() bool {
		return again.state(t).Granted > 500 && again.state(t).Scale == 1
	})
	if r := w.end(t, true); r.Written != r.Fetched || r.Fetched < 1000 {
		t.Errorf("%+v, want more than the first gate gave, and all of it written", r)
	}
}

func TestAControllerThrottlesAPythonPipelineByItsOwnSeries(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "controller")
	if out, err := exec.Command("go", "build", "-o", binary, "../../../cmd/controller").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The feedback of the worker is not heard, so that nobody but the controller
	// throttles.
	g := begin(t, "gate.yaml", pipeline.Options{}, "HEADGATE_JOB_METRICS_LISTEN=127.0.0.1:0", "MDP_FB_ENABLE_FEEDBACK=false")
	w := work(t, g)
	prometheus := promserver.StartForTest(t, 250*time.Millisecond, promserver.Scrape{Job: "worker", Targets: []string{w.address}})

	variables, err := os.ReadFile("controller.env")
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(binary)
	process.Env = []string{
		"HEADGATE_PROMETHEUS_URL=" + prometheus.URL, "HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_INTERVAL=250ms", "HEADGATE_COOL_DOWN=1s",
	}
	for line := range strings.Lines(string(variables)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			process.Env = append(process.Env, strings.Replace(line, "http://127.0.0.1:9400", g.url, 1))
		}
	}
	process.Stderr = t.Output()
	process.SysProcAttr = &syscall.SysProcAttr{}
	testserver.EndWithParent(process.SysProcAttr, syscall.SIGKILL)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		if err := process.Wait(); err != nil {
			t.Errorf("the controller ended with %v", err)
		}
	})
	for _, scale := range []float64{1, 0.5} { // OK, and SOFT when the queue has filled
		until(t, fmt.Sprintf("the controller's scale is %v", scale), func() bool {
			for _, s := range g.state(t).Scales {
				if s.Owner == coordinator.OwnerController && s.Holder != "" && s.Scale == scale {
					return true
				}
			}
			return false
		})
	}
	w.end(t, true)
}

// until waits until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("waited a minute for this: %s", what)
		}
	}
}
