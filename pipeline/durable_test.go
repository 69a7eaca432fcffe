package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/pipeline"
	"github.com/headgate/headgate/pipeline/job"
)

// kept is a job whose queue outlives it; its store takes what the profile says.
const kept = `
name: bars
dag:
  nodes:
    in: {type: http, wait: 2s}
    gate: {type: gate}
    queue: {type: write_queue, capacity: 100, workers: 1, batch_size: 10, batch_wait: 1ms, write_timeout: 100ms, drain_timeout: 0s,
      dead_letter_path: %[1]s/dead.ndjson, %[2]s}
    store: {type: sqlite, path: %[1]s/bars.db, %[3]s}
  edges: [[in, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 100000, burst: 1000, floor_per_second: 100000}
`

const (
	stalled = "pace_file: stalled.csv"
	quick   = "pace_per_second: 100000"
)

// keeping is kept in a folder of its own, with these keys of the queue.
func keeping(t *testing.T, keys string) (dir string, file func(pace string) string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stalled.csv"), []byte("0,0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	keys = strings.ReplaceAll(keys, "DIR", dir)
	return dir, func(pace string) string { return fmt.Sprintf(kept, dir, keys, pace) }
}

const embedded = "durable: embedded, durable_directory: DIR/queue"

func TestWhatWaitsInADurableQueueOutlivesThePipeline(t *testing.T) {
	dir, file := keeping(t, embedded)
	first := run(t, dir, file(stalled), pipeline.Options{})
	if got := first.post(t, items("a", 60)); got.Accepted != 60 {
		t.Fatalf("got %+v", got)
	}
	first.scales(t, "ibkr", 0.5) // by the depth of the whole queue
	s := first.end(t)
	if s.Accepted != 60 || s.Waiting != 60 || s.Written != 0 || s.DeadLettered != 0 || !s.Conserved || s.Durable.Taken != s.Durable.GivenBack {
		t.Errorf("summary %+v, %+v", s, s.Durable)
	}
	if rows(t, dir) != 0 || letters(t, dir) != 0 {
		t.Errorf("%d rows, %d letters", rows(t, dir), letters(t, dir))
	}

	second := run(t, dir, file(quick), pipeline.Options{})
	if got := second.post(t, items("b", 40)); got.Accepted != 40 {
		t.Fatalf("got %+v", got)
	}
	// What was accepted already makes no second item.
	if got := second.post(t, items("a", 60)); got.Status != http.StatusAccepted {
		t.Errorf("sent again: got %+v", got)
	}
	untilRows(t, dir, 100)
	s = second.end(t)
	if s.Durable.Found != 60 || s.Accepted != 40 || s.Durable.Repeated != 60 || s.Written != 100 || s.Waiting != 0 || !s.Conserved {
		t.Errorf("summary %+v, %+v", s, s.Durable)
	}
}

// untilRows waits until the database has so many rows.
func untilRows(t *testing.T, dir string, want int) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); rows(t, dir) != want; <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d rows, want %d", rows(t, dir), want)
		}
	}
}

// childVariable makes the test's program run a job instead of the tests.
const childVariable = "HEADGATE_TEST_PIPELINE_JOB"

// child runs a job for ever, for tests that kill it.
func child(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	j, err := job.Load(context.Background(), job.Input{
		Path: path, Data: data, Environ: os.Environ(), Policies: pipeline.PolicyNames(nil),
		Open: func(path string) (io.ReadCloser, error) { return os.Open(path) },
	})
	if err != nil {
		return err
	}
	p, err := pipeline.New(context.Background(), j, pipeline.Options{Log: slog.Default()})
	if err != nil {
		return err
	}
	_, err = p.Run(context.Background())
	return err
}

func TestWhatADurableQueueAcceptedSurvivesKills(t *testing.T) {
	dir, file := keeping(t, embedded)
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(file("pace_per_second: 500")), 0o644); err != nil {
		t.Fatal(err)
	}
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for life := range 4 {
		p := exec.CommandContext(t.Context(), self)
		p.Stderr = t.Output()
		p.Env = append(os.Environ(), childVariable+"="+filepath.Join(dir, "job.yaml"), "HEADGATE_JOB_METRICS_LISTEN="+address)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		at := &running{url: "http://" + address, done: make(chan struct{})}
		at.until(t, "/-/ready", http.StatusOK)
		for i := range 5 + 3*life {
			accepted += at.post(t, items(fmt.Sprint(life, "-", i), 30)).Accepted
		}
		if life == 3 {
			untilRows(t, dir, accepted)
		}
		if err := p.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err == nil {
			t.Error("it was over before it was killed")
		}
		http.DefaultClient.CloseIdleConnections()
	}
	if accepted == 0 || rows(t, dir) != accepted || letters(t, dir) != 0 {
		t.Errorf("%d rows and %d letters, and %d items were accepted", rows(t, dir), letters(t, dir), accepted)
	}
}

func TestAcceptorsAndWritersAreProcessesOfTheirOwn(t *testing.T) {
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	const variable = "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_PART="
	dir, file := keeping(t, embedded+", durable_listen: '"+address+"'")

	acceptor := run(t, dir, file(quick), pipeline.Options{}, variable+"accept")
	if got := acceptor.post(t, items("a", 90)); got.Accepted != 90 {
		t.Fatalf("got %+v", got)
	}
	acceptor.scales(t, "ibkr", 0)
	if got := acceptor.until(t, "/metrics", http.StatusOK); !strings.Contains(got, `coordinator_queue_shared{coordinator_id="bars"} 1`) || strings.Contains(got, "coordinator_items_written_total{") {
		t.Errorf("series of the acceptor:\n%s", got)
	}

	remote := strings.Replace(file(quick), "durable: embedded, durable_directory: "+dir+"/queue, durable_listen: '"+address+"'", "durable: nats, durable_url: 'nats://"+address+"'", 1)
	writers := []*running{
		run(t, dir, remote, pipeline.Options{}, variable+"write"),
		run(t, dir, remote, pipeline.Options{}, variable+"write"),
	}
	acceptor.scales(t, "ibkr", 1)
	if got := acceptor.post(t, items("b", 90)); got.Accepted != 90 {
		t.Fatalf("got %+v", got)
	}
	untilRows(t, dir, 180)
	var written uint64
	for _, w := range writers {
		if got := w.post(t, items("c", 1)); got.Status != http.StatusNotFound {
			t.Errorf("a writer takes items: %+v", got)
		}
		s := w.end(t)
		if s.Accepted != 0 || !s.Conserved || s.Durable.Taken != s.Written+s.Durable.GivenBack {
			t.Errorf("summary of a writer %+v, %+v", s, s.Durable)
		}
		written += s.Written
	}
	if s := acceptor.end(t); written != 180 || s.Accepted != 180 || s.Written != 0 || s.Waiting != 0 || !s.Conserved {
		t.Errorf("%d were written, and the summary of the acceptor is %+v, %+v", written, s, s.Durable)
	}
	if !writers[0].log.has("nodes are left out") {
		t.Error("the log does not say what is left out")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAPipelineWaitsForTheServersOfItsQueue(t *testing.T) {
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dir, file := keeping(t, "durable: nats, durable_url: 'nats://"+address+"'")
	r := launch(t, dir, file(quick), pipeline.Options{})
	got := r.until(t, "/-/ready", http.StatusServiceUnavailable)
	for !strings.Contains(got, "waiting for the durable queue") || !strings.Contains(got, "queue_unreachable") {
		got = r.until(t, "/-/ready", http.StatusServiceUnavailable)
	}
	if got := r.post(t, items("early", 3)); got.Status != http.StatusServiceUnavailable || got.Retry == "" || got.Accepted != 0 {
		t.Errorf("got %+v before the queue is there, want 503 with Retry-After", got)
	}
	if got := r.until(t, "/metrics", http.StatusOK); strings.Contains(got, "coordinator_queue_depth{") {
		t.Error("there is a depth before anybody knows it")
	}

	natsServer(t, address, server.Options{})
	r.until(t, "/-/ready", http.StatusOK)
	if got := r.post(t, items("late", 3)); got.Accepted != 3 {
		t.Errorf("got %+v once the queue is there", got)
	}
	untilRows(t, dir, 3)
	http.DefaultClient.CloseIdleConnections()
	for _, said := range []string{"the durable queue cannot be opened, it is waited for", "the durable queue is open"} {
		if !r.log.has(said) {
			t.Errorf("the log does not say %q", said)
		}
	}
	r.end(t) // before the servers
}

func TestAPipelineThatWaitsForItsQueueStopsAtOnce(t *testing.T) {
	// A server that takes connections and never says a word.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir, file := keeping(t, "durable: nats, durable_url: 'nats://"+listener.Addr().String()+"'")
	r := launch(t, dir, file(quick), pipeline.Options{})
	r.until(t, "/-/ready", http.StatusServiceUnavailable)
	asked := time.Now()
	s := r.end(t)
	if took := time.Since(asked); took > 8*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if s.Accepted != 0 || !s.Conserved {
		t.Errorf("summary %+v", s)
	}
}

// natsServer runs a server at an address until the test ends.
func natsServer(t *testing.T, address string, options server.Options) {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	options.Host, options.Port, options.NoSigs = at.IP.String(), at.Port, true
	options.JetStream, options.StoreDir = true, t.TempDir()
	s, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
}

func TestAPasswordOfTheQueueStaysUntold(t *testing.T) {
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	const password = "hidden-password"
	natsServer(t, address, server.Options{Username: "bars", Password: password})
	dir, file := keeping(t, "durable: nats")
	const variable = "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_URL="

	wrong := launch(t, dir, file(quick), pipeline.Options{}, variable+"nats://bars:not-"+password+"@"+address)
	<-wrong.done
	if wrong.err == nil || !strings.Contains(wrong.err.Error(), "node queue: ") || !strings.Contains(wrong.err.Error(), "Authorization") {
		t.Errorf("with a wrong password: %v", wrong.err)
	}
	if wrong.err != nil && strings.Contains(wrong.err.Error(), password) {
		t.Errorf("the error tells the password: %v", wrong.err)
	}
	wrong.err = nil // as it should be

	right := run(t, dir, file(quick), pipeline.Options{}, variable+"nats://bars:"+password+"@"+address)
	if got := right.post(t, items("a", 3)); got.Accepted != 3 {
		t.Errorf("got %+v", got)
	}
	untilRows(t, dir, 3)
	for _, path := range []string{"/metrics", "/-/ready", "/-/healthy"} {
		if strings.Contains(right.until(t, path, http.StatusOK), password) {
			t.Errorf("%s tells the password", path)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	right.end(t)
	for _, r := range []*running{wrong, right} {
		if r.log.has(password) {
			t.Error("the log tells the password")
		}
	}
}

func TestAFolderThatAnotherProcessUsesIsWaitedFor(t *testing.T) {
	dir, file := keeping(t, embedded)
	first := run(t, dir, file(stalled), pipeline.Options{})
	second := launch(t, dir, file(quick), pipeline.Options{})
	first.post(t, items("a", 5))
	second.until(t, "/-/ready", http.StatusServiceUnavailable)
	first.end(t)
	second.until(t, "/-/ready", http.StatusOK)
	untilRows(t, dir, 5)
	http.DefaultClient.CloseIdleConnections()
}
