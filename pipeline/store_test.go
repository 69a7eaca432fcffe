package pipeline_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/pipeline"
)

// stored is a job with a store of that type and keys.
const stored = `
name: bars
dag:
  nodes:
    in: {type: http}
    gate: {type: gate}
    queue: {type: write_queue, batch_wait: 1ms, dead_letter_path: %s/dead.ndjson}
    store: {%s}
  edges: [[in, gate], [gate, queue], [queue, store]]
providers: {ibkr: {base_per_second: 1000, burst: 100}}
`

func TestAPipelineWaitsForItsStore(t *testing.T) {
	server, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := launch(t, dir, fmt.Sprintf(stored, dir, fmt.Sprintf("type: postgres, url: 'postgres://postgres@%s%s?sslmode=disable'", address, server.Path)), pipeline.Options{})

	if got := r.until(t, "/-/ready", http.StatusServiceUnavailable); !strings.Contains(got, "waiting for the store") {
		t.Errorf("readiness says %s", got)
	}
	r.until(t, "/-/healthy", http.StatusOK)
	if got := r.post(t, items("early", 3)); got.Status != http.StatusServiceUnavailable || got.Retry == "" || got.Accepted != 0 {
		t.Errorf("got %+v before the store is there, want 503 with Retry-After", got)
	}

	r.saying(t, "the store cannot be opened, it is waited for") // so that the next try is another one
	forward(t, address, filepath.Join(server.Query().Get("host"), ".s.PGSQL.5432"))
	r.saying(t, "the store is open")
	r.until(t, "/-/ready", http.StatusOK)
	if got := r.post(t, items("late", 3)); got.Accepted != 3 {
		t.Errorf("got %+v once the store is there", got)
	}
	http.DefaultClient.CloseIdleConnections()
	if s := r.end(t); s.Written != 3 || !s.Conserved {
		t.Errorf("summary %+v, want 3 written", s)
	}
}

// forward lets what connects to an address reach a Unix socket, until the test
// ends.
func forward(t *testing.T, address, socket string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", socket)
			if err != nil {
				from.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
				all.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					from.Close()
					to.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
}

func TestAPipelineThatWaitsForItsStoreStopsAtOnce(t *testing.T) {
	// A server that takes connections and never says a word.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := t.TempDir()
	r := launch(t, dir, fmt.Sprintf(stored, dir, "type: postgres, url: 'postgres://postgres@"+listener.Addr().String()+"/bars?sslmode=disable'"), pipeline.Options{})
	r.until(t, "/-/ready", http.StatusServiceUnavailable)
	asked := time.Now()
	s := r.end(t)
	if took := time.Since(asked); took > 3*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if s.Accepted != 0 || !s.Conserved {
		t.Errorf("summary %+v", s)
	}
}

func TestAStoreThatNoWaitingMendsIsAnErrorAtOnce(t *testing.T) {
	server := pgtest.Database(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte(strings.Repeat("not rows\n", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ store, want string }{
		{"type: sqlite, path: " + dir + "/notes.txt", "not a database"},
		{"type: postgres, url: '" + strings.Replace(server, "/test_", "/gone_", 1) + "'", "does not exist"},
		{"type: postgres, table: pg_catalog.pg_class, url: '" + server + "'", "no unique index"},
	} {
		r := launch(t, dir, fmt.Sprintf(stored, dir, c.store), pipeline.Options{})
		<-r.done
		if r.err == nil || !strings.Contains(r.err.Error(), "node store: ") || !strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.store, r.err, c.want)
		}
		r.err = nil // as it should be
	}
}
