package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/route/routetest"
	"github.com/headgate/headgate/pipeline"
)

// secretStore is a job whose store has a password, and cannot be reached.
const secretStore = `
mode: dag
name: secret-store
when_done: stay
dag:
  nodes:
    ticks: {type: http, path: /v1/ticks}
    ibkr: {type: gate}
    queue: {type: write_queue, capacity: 1000, dead_letter_path: DIR/dead.ndjson}
    store: {type: postgres, url: "postgres://ann:SECRET@127.0.0.1:1/bars?connect_timeout=1", table: bars}
  edges: [[ticks, ibkr], [ibkr, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 100, burst: 10}
metrics: {listen: "OWN"}
`

func TestThePipelineTellsNoSecret(t *testing.T) {
	dir := t.TempDir()
	own, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, replace ...string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		text := strings.NewReplacer(append(replace, "DIR", dir, "OWN", own, "SECRET", routetest.Secret)...).Replace(secretStore)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("job.yaml")
	access := "HEADGATE_PIPELINE_ACCESS_FILE=" + accesstest.File(t)
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
	}{
		{"--help", []string{"--help"}, []string{access}},
		{"check", []string{"check", good}, nil},
		{"an address of a store that is none", []string{"check", write("url.yaml", "postgres://", "postgres//")}, nil},
		{"an address of a store with a wrong port", []string{"check", write("port.yaml", ":1/bars", ":x/bars")}, nil},
		{"an address of a store by a variable", []string{"check", good}, []string{"HEADGATE_JOB_DAG_NODES_STORE_URL=mysql://ann:" + routetest.Secret + "@x/"}},
		{"an access file that is none", []string{good}, []string{"HEADGATE_PIPELINE_ACCESS_FILE=" + good}},
		{"a web configuration that is none", []string{good}, []string{"HEADGATE_PIPELINE_WEB_CONFIG_FILE=" + good}},
		{"dead letters for a store that is away", []string{"replay-dead-letters", good}, nil},
	} {
		var said output
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		run(ctx, c.args, c.environ, &said, &said)
		if ctx.Err() != nil {
			t.Errorf("%s: it was started", c.name)
		}
		cancel()
		routetest.KeepsSecrets(t, c.name, said.String())
	}

	_, j, err := load(t.Context(), arguments{job: good}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(t.Context(), j, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	routes := p.Served()[own]
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var said output
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{good}, []string{access, "HEADGATE_LOG_LEVEL=debug"}, &said, &said) }()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(said.String(), "store"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the store is not missed:\n%s", said.String())
		}
	}
	routetest.KeepsSecrets(t, "the pipeline's port", routetest.Told(t, "http://"+own, routes))
	cancel()
	<-ended
	routetest.KeepsSecrets(t, "the log", said.String())
}
