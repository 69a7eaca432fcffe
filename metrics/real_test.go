package metrics_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/config"

	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/metrics"
)

// exporter is one scraped process whose exposition a test sets.
type exporter struct {
	*httptest.Server
	mu   sync.Mutex
	text string
}

func newExporter(t *testing.T) *exporter {
	e := &exporter{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		fmt.Fprint(w, e.text)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *exporter) set(lines ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = strings.Join(lines, "\n") + "\n"
}

func (e *exporter) address() string { return strings.TrimPrefix(e.URL, "http://") }

const interval = 200 * time.Millisecond

func newReader(t *testing.T, url string, names ...metrics.Names) *metrics.Reader {
	t.Helper()
	api, err := metrics.NewAPI(url, config.DefaultHTTPClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := metrics.NewReader(api, names, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

// until reads until a snapshot of the coordinator is as wanted.
func until(t *testing.T, reader *metrics.Reader, id, want string, is func(o metrics.Observation, age time.Duration, ok bool) bool) metrics.Observation {
	t.Helper()
	tick := time.NewTicker(interval / 4)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	var last metrics.Observation
	for {
		snapshot, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o, ok := snapshot.Coordinators[id]
		if is(o, snapshot.Age(o), ok) {
			return o
		}
		last = o
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no snapshot in 30 s %s; the last one is %+v", want, last)
		}
	}
}

func exposition(depth, capacity, soft, hard, accepted, written int) []string {
	const label = `{coordinator_id="bars"}`
	line := func(name string, value int) string { return fmt.Sprintf("%s%s %d", name, label, value) }
	return []string{
		"# TYPE coordinator_items_accepted_total counter",
		"# TYPE coordinator_items_written_total counter",
		line("coordinator_queue_depth", depth), line("coordinator_queue_capacity", capacity),
		line("coordinator_backpressure_soft", soft), line("coordinator_backpressure_hard", hard),
		line("coordinator_items_accepted_total", accepted), line("coordinator_items_written_total", written),
	}
}

func TestRealPrometheusWithTwoReplicasUnderTheDefaultNames(t *testing.T) {
	a, b := newExporter(t), newExporter(t)
	a.set(exposition(300, 1000, 1, 0, 500, 200)...)
	b.set(exposition(200, 1000, 0, 0, 500, 300)...)
	server := promserver.StartForTest(t, interval,
		promserver.Scrape{Job: "bars", Targets: []string{a.address(), b.address()}})
	reader := newReader(t, server.URL, metrics.DefaultNames(), foreign())

	o := until(t, reader, "bars", "with two replicas", func(o metrics.Observation, _ time.Duration, ok bool) bool {
		return ok && len(o.Replicas) == 2 && o.Drain.Known
	})
	got := []any{o.Depth, o.Capacity, o.HasLevel, o.Level.String(), o.Arrivals, o.Missing}
	want := []any{500.0, 2000.0, true, "SOFT", known(0), []string{"coordinator_items_dropped_total"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observation (-want +got):\n%s", diff)
	}

	// The rate is by the samples' own times: whatever the pace of reading, the
	// rises between distinct samples add up to what was counted.
	stop := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for start := time.Now(); ; {
			select {
			case now := <-tick.C:
				a.set(exposition(300, 1000, 1, 0, 500+int(1000*now.Sub(start).Seconds()), 200)...)
			case <-stop:
				return
			}
		}
	})
	until(t, reader, "bars", "with 1000 arrivals a second", func(o metrics.Observation, _ time.Duration, ok bool) bool {
		return ok && o.Arrivals.Known && o.Arrivals.PerSecond > 900 && o.Arrivals.PerSecond < 1100
	})
	close(stop)
	feeding.Wait()

	// A restarted process counts from 0 again; no rate is negative or huge.
	a.set(exposition(300, 1000, 1, 0, 40, 0)...)
	until(t, reader, "bars", "after the reset", func(o metrics.Observation, _ time.Duration, ok bool) bool {
		if ok && o.Arrivals.PerSecond > 2000 {
			t.Fatalf("arrivals are %v/s after a reset to 40", o.Arrivals.PerSecond)
		}
		return ok && o.Arrivals.Known && o.Arrivals.PerSecond > 0 && o.Arrivals.PerSecond <= 40/(interval.Seconds()/2)
	})

	// A failed scrape leaves a stale marker: the replica is gone at once, long
	// before the look-back of five minutes.
	b.Close()
	o = until(t, reader, "bars", "with one replica", func(o metrics.Observation, _ time.Duration, ok bool) bool {
		return ok && len(o.Replicas) == 1
	})
	if o.Depth != 300 || o.Replicas[0].Instance != a.address() {
		t.Errorf("what is left is %+v, want replica %s with depth 300", o, a.address())
	}
	a.Close()
	until(t, reader, "bars", "without the coordinator", func(_ metrics.Observation, _ time.Duration, ok bool) bool { return !ok })
}

func TestRealPrometheusWithNothingButAForeignDepth(t *testing.T) {
	e := newExporter(t)
	e.set(`acme_write_backlog{queue="bars"} 4200`, `acme_write_backlog{queue="ticks"} 7`, `unrelated{queue="bars"} 1`)
	server := promserver.StartForTest(t, interval, promserver.Scrape{Job: "acme", Targets: []string{e.address()}})
	names := foreign()
	names.Matchers = `job="acme"`
	reader := newReader(t, server.URL, metrics.DefaultNames(), names)

	o := until(t, reader, "bars", "of the foreign depth", func(o metrics.Observation, age time.Duration, ok bool) bool {
		return ok && age < 2*interval
	})
	if o.Depth != 4200 || o.HasLevel || o.Drain.Known || o.Missing != nil {
		t.Errorf("observation is %+v, want nothing but a depth of 4200", o)
	}

	// A depth that comes with the time at which it was measured leaves no stale
	// marker behind; its age tells.
	e.set(fmt.Sprintf(`acme_write_backlog{queue="trades"} 4300 %d`, time.Now().UnixMilli()))
	until(t, reader, "trades", "that is old", func(o metrics.Observation, age time.Duration, ok bool) bool {
		return ok && o.Depth == 4300 && age > 5*interval
	})
}

func TestRealPrometheusAnswersAQueryForNothing(t *testing.T) {
	server := promserver.StartForTest(t, interval)
	snapshot, err := newReader(t, server.URL, metrics.DefaultNames()).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Coordinators) != 0 || time.Since(snapshot.ReadAt).Abs() > time.Minute {
		t.Errorf("snapshot is %+v, want an empty one of now", snapshot)
	}
}

// A value that is taken for newer than it is would be decided on beyond the stale
// limit. Prometheus hangs and wakes up in the middle of scrapes and queries here.
func TestRealPrometheusThatHangsGivesNoValueThatIsOlderThanItsTime(t *testing.T) {
	began := time.Now()
	tells := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "coordinator_queue_depth{coordinator_id=\"bars\"} %d\n", time.Since(began).Milliseconds())
	}))
	defer tells.Close()
	server := promserver.StartForTest(t, interval, promserver.Scrape{Job: "bars", Targets: []string{strings.TrimPrefix(tells.URL, "http://")}})
	reader := newReader(t, server.URL, metrics.DefaultNames())
	until(t, reader, "bars", "with a depth", func(_ metrics.Observation, _ time.Duration, ok bool) bool { return ok })

	hanging, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var hangs sync.WaitGroup
	hangs.Go(func() {
		for n := 1; hanging.Err() == nil; n++ {
			_ = syscall.Kill(server.PID(), syscall.SIGSTOP)
			<-time.After(time.Duration(100+n*53%400) * time.Millisecond)
			_ = syscall.Kill(server.PID(), syscall.SIGCONT)
			<-time.After(time.Duration(50+n*37%300) * time.Millisecond)
		}
	})
	defer hangs.Wait()
	for hanging.Err() == nil {
		asking, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		asked := time.Now()
		snapshot, err := reader.Read(asking)
		cancel()
		if err != nil {
			continue // it hangs
		}
		o := snapshot.Coordinators["bars"]
		told := began.Add(time.Duration(o.Depth) * time.Millisecond)
		if asOf := asked.Add(-snapshot.Age(o)); asOf.Sub(told) > 50*time.Millisecond {
			t.Errorf("a value counts as one of %v after it was told", asOf.Sub(told))
		}
	}
}
