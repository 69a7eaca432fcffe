package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/route/routetest"
	"github.com/headgate/headgate/pipeline"
)

// output is what a command writes while it runs.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// twoPorts is a job whose sources are on the pipeline's own port and on another.
const twoPorts = `
mode: dag
name: two-ports
when_done: stay
dag:
  nodes:
    ticks: {type: http, path: /v1/ticks}
    bars: {type: http, path: /v1/bars, listen: "BARS"}
    ibkr: {type: gate}
    queue: {type: write_queue, capacity: 1000, dead_letter_path: DIR/dead.ndjson}
    store: {type: sqlite, path: DIR/two-ports.db}
  edges:
    - [ticks, ibkr]
    - [bars, ibkr]
    - [ibkr, queue]
    - [queue, store]
providers:
  ibkr: {base_per_second: 100000, burst: 10000}
metrics: {listen: "OWN"}
`

func TestEveryRouteOfThePipelineIsForThoseWithItsRole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "job.yaml")
	own, ownErr := process.FreeAddress()
	bars, barsErr := process.FreeAddress()
	if err := errors.Join(ownErr, barsErr); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("DIR", dir, "OWN", own, "BARS", bars).Replace(twoPorts)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, j, err := load(t.Context(), arguments{job: file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The list is of a pipeline that does not run: the one that does is the
	// command's own.
	p, err := pipeline.New(t.Context(), j, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lists := p.Served()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if len(lists) != 2 {
		t.Fatalf("routes are served at %d addresses, want 2", len(lists))
	}

	ctx, cancel := context.WithCancel(t.Context())
	var stderr output
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{file}, []string{"HEADGATE_PIPELINE_ACCESS_FILE=" + accesstest.File(t)}, io.Discard, &stderr)
	}()
	defer func() {
		cancel()
		if status := <-ended; status != exitOK {
			t.Errorf("exit status %d\n%s", status, stderr.String())
		}
	}()
	started := regexp.MustCompile(`msg="pipeline started"`)
	for deadline := time.Now().Add(30 * time.Second); !started.MatchString(stderr.String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the pipeline does not start:\n%s", stderr.String())
		}
	}
	for address, routes := range lists {
		routetest.Try(t, "http://"+address, routes)
	}
	routetest.Described(t, "../..", "pipeline", lists[own])
}
