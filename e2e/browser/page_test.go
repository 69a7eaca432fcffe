// Package browser_test looks at the status page of a real controller with a
// real browser, while a real Prometheus scrapes the coordinators.
package browser_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	// The controller is built by a command that the test cache knows nothing of:
	// with the page it knows of most that may change.
	"github.com/headgate/headgate/access"
	_ "github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/e2e/browser/chromium"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/internal/testserver"
	"github.com/headgate/headgate/pressure"
)

// browser is the one that all tests use; nil where there is none.
var browser context.Context

func TestMain(m *testing.M) {
	os.Exit(func() int {
		binary, err := chromium.Find()
		if errors.Is(err, chromium.ErrNoBinary) && !testserver.Required() {
			fmt.Println("skipped: no Chromium; tools/setup chromium installs it")
			return 0
		}
		if err == nil {
			var stop func()
			if browser, stop, err = chromium.Start(context.Background(), binary); err == nil {
				defer stop()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// Times of the loop under test.
const (
	scrapeEvery = time.Second
	tickEvery   = time.Second
)

// queues is what the coordinators export: depths that tests set, and counters
// that rise with time.
type queues struct {
	mu      sync.Mutex
	depths  map[string]float64
	started time.Time
}

func (q *queues) set(name string, depth float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.depths[name] = depth
}

func (q *queues) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := 1000 * time.Since(q.started).Seconds()
	for name, depth := range q.depths {
		fmt.Fprintf(w, "coordinator_queue_depth{coordinator_id=%q} %v\ncoordinator_queue_capacity{coordinator_id=%q} 10000\n", name, depth, name)
		fmt.Fprintf(w, "coordinator_items_accepted_total{coordinator_id=%q} %v\ncoordinator_items_written_total{coordinator_id=%q} %v\n", name, items, name, items)
	}
}

// longName is as long as a name may get, and has nowhere to break.
var longName = "market-data-" + strings.Repeat("equities", 6)

// world is everything around a page.
type world struct {
	queues  *queues
	gate    *coordinator.Coordinator
	address string // of the controller
	environ []string
	binary  string

	controller *exec.Cmd
	log        string // path

	coordinator string // address of the one
}

// newWorld starts Prometheus, coordinators and a controller with a target at
// each level, one without signals, one that is overridden and one that is
// disabled. All of it ends with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{queues: &queues{started: time.Now(), depths: map[string]float64{
		"bars": 300, "news": 6000, longName: 9000, "quotes": 100,
	}}}
	exporter := httptest.NewServer(w.queues)
	t.Cleanup(exporter.Close)
	prometheus := promserver.StartForTest(t, scrapeEvery,
		promserver.Scrape{Job: "pipeline", Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}})

	quiet := slog.New(slog.DiscardHandler)
	w.gate = coordinator.New(coordinator.WithLogger(quiet))
	t.Cleanup(w.gate.Close)
	targets := "targets:\n"
	for i, name := range []string{"bars", "news", longName, "quotes", "gone", "off"} {
		provider := fmt.Sprintf("provider-%d", i)
		if err := w.gate.Register(coordinator.Provider{Name: provider, BasePerSecond: 2000, Burst: 10, FloorPerSecond: 1, FailMode: coordinator.FailSafe, SafeScale: 0.5}); err != nil {
			t.Fatal(err)
		}
		targets += fmt.Sprintf("  - {target: %q, coordinator_ids: [%q], provider: %s, enabled: %v}\n", name, name, provider, name != "off")
	}
	if _, err := w.gate.Apply("provider-3", coordinator.ScaleRequest{
		Owner: coordinator.OwnerOperator, Holder: "jane", Scale: 0.25, Level: pressure.OK, Reason: "the store is migrated", TTL: time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	api := httptest.NewServer(httpapi.New(ctx, w.gate, feedback.NewBus(quiet), quiet, access.Everyone()))
	t.Cleanup(func() { cancel(); api.Close() })

	dir := t.TempDir()
	file := filepath.Join(dir, "targets.yaml")
	if err := os.WriteFile(file, []byte(targets), 0o644); err != nil {
		t.Fatal(err)
	}
	w.coordinator = api.URL
	var err error
	if w.address, err = process.FreeAddress(); err != nil {
		t.Fatal(err)
	}
	w.log = filepath.Join(dir, "controller.log")
	w.environ = []string{
		"HEADGATE_PROMETHEUS_URL=" + prometheus.URL, "HEADGATE_CONTROLLER_LISTEN=" + w.address, "HEADGATE_TARGETS_FILE=" + file,
		"HEADGATE_COORDINATOR_URL=" + api.URL, "HEADGATE_INTERVAL=" + tickEvery.String(), "HEADGATE_LEASE=10s", "HEADGATE_COOL_DOWN=0s",
	}
	w.binary = filepath.Join(dir, "controller")
	build := exec.Command("go", "build", "-C", "../..", "-o", w.binary, "./cmd/controller")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the controller: %v\n%s", err, out)
	}
	t.Cleanup(func() { w.stop(t) })
	w.start(t)
	return w
}

// start starts the controller and waits until it has seen the signals.
func (w *world) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.controller = exec.Command(w.binary)
	w.controller.Env, w.controller.Stderr = w.environ, log
	if err := w.controller.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(t, "the controller sees all coordinators", func() bool {
		response, err := http.Get(w.url() + "v1/status?condition=lost")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return strings.Contains(string(body), `"lost":1,`) // the one that is gone
	})
}

// stop stops the controller, if it runs.
func (w *world) stop(t *testing.T) {
	t.Helper()
	if w.controller == nil {
		return
	}
	if err := w.controller.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := w.controller.Wait(); err != nil {
		t.Errorf("the controller ended with %v", err)
	}
	w.controller = nil
}

func (w *world) url() string { return "http://" + w.address + "/" }

// until waits for something, for a minute at most.
func (w *world) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !so() {
		select {
		case <-poll.C:
		case <-limit:
			log, _ := os.ReadFile(w.log)
			t.Fatalf("after a minute it is not so that %s; the controller's log:\n%s", what, log)
		}
	}
}

// open opens the page in a tab of its own, looked at like that, and waits until
// all of it is shown.
func (w *world) open(t *testing.T, look chromium.Look) (page context.Context, record *chromium.Record) {
	t.Helper()
	page, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	page, cancel := context.WithTimeout(page, 2*time.Minute)
	t.Cleanup(cancel)
	record, err := chromium.Listen(page)
	if err != nil {
		t.Fatal(err)
	}
	err = chromedp.Do(page, look.Set(), chromedp.Navigate(w.url()),
		chromedp.WaitVisible("#targets tbody tr"), chromedp.WaitVisible("#charts canvas"), chromedp.WaitVisible("#loop dd"))
	if err != nil {
		t.Fatalf("open the page: %v; console: %v", err, record.Faults())
	}
	return page, record
}

// evaluate evaluates an expression in the page.
func evaluate[T any](t *testing.T, page context.Context, expression string) T {
	t.Helper()
	value, err := chromedp.Run(page, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// poll waits until an expression is true in the page.
func poll(t *testing.T, page context.Context, expression string) {
	t.Helper()
	if _, err := chromedp.Run(page, chromedp.Poll[bool](expression)); err != nil {
		t.Fatalf("wait for %s: %v; the page says:\n%s", expression, err, evaluate[string](t, page, "document.body.innerText"))
	}
}

var looks = map[string]chromium.Look{
	"a phone in light":   {Width: 375, Height: 812, Phone: true},
	"a phone in dark":    {Width: 375, Height: 812, Phone: true, Dark: true},
	"a desktop in light": {Width: 1440, Height: 900},
	"a desktop in dark":  {Width: 1440, Height: 900, Dark: true},
}

// leaks are what a test may not leave running; the browser's own goroutines
// run from the first test to the last.
func leaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
}
