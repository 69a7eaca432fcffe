package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/promserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}))
}

// program is the controller as it runs, by its arguments and environment.
type program struct {
	mu     sync.Mutex
	stderr strings.Builder
	wrote  chan struct{} // has an element when there is more
}

func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.wrote <- struct{}{}:
	default:
	}
	return p.stderr.Write(text)
}

func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

var listening = regexp.MustCompile(`msg="Listening on".* address=(\S+)`)

// start runs the controller with that environment and returns its address. It
// is stopped by stop, which returns its exit status.
func start(t *testing.T, environ ...string) (address string, p *program, stop func() int) {
	t.Helper()
	p = &program{wrote: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	status := make(chan int, 1)
	go func() { status <- runMain(ctx, nil, environment{environ, io.Discard, p}) }()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-status
	})
	t.Cleanup(func() { stop() })
	limit := time.After(30 * time.Second)
	for {
		if match := listening.FindStringSubmatch(p.log()); match != nil {
			return "http://" + match[1], p, stop
		}
		select {
		case <-p.wrote:
		case s := <-status:
			status <- s // for stop
			t.Fatalf("the controller ended with status %d:\n%s", s, p.log())
		case <-limit:
			t.Fatalf("the controller does not listen after 30 s:\n%s", p.log())
		}
	}
}

func TestControllerFollowsAForeignDepthBySettingsAlone(t *testing.T) {
	// A coordinator that knows nothing of Headgate's series: all that is
	// scraped is one gauge under a name and a label of its own.
	var mu sync.Mutex
	backlog := 100
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "acme_write_backlog{queue=\"bars\"} %d\n", backlog)
	}))
	defer exporter.Close()
	prometheus := promserver.StartForTest(t, 200*time.Millisecond,
		promserver.Scrape{Job: "acme", Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}})

	quiet := slog.New(slog.DiscardHandler)
	gate := coordinator.New(coordinator.WithLogger(quiet))
	defer gate.Close()
	if err := gate.Register(coordinator.Provider{
		Name: "ibkr", BasePerSecond: 400, Burst: 10, FloorPerSecond: 1,
		FailMode: coordinator.FailSafe, SafeScale: 0.25, StartInFailMode: true,
	}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(httpapi.New(t.Context(), gate, feedback.NewBus(quiet), quiet, access.Everyone()))
	defer api.Close()

	address, program, stop := start(t,
		"HEADGATE_PROMETHEUS_URL="+prometheus.URL,
		"HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0",
		"HEADGATE_COORDINATOR_URL="+api.URL,
		"HEADGATE_COORDINATOR_IDS=bars",
		"HEADGATE_SERIES_DEPTH=acme_write_backlog",
		"HEADGATE_SERIES_CAPACITY=none", "HEADGATE_SERIES_SOFT=none", "HEADGATE_SERIES_HARD=none",
		"HEADGATE_SERIES_ACCEPTED=none", "HEADGATE_SERIES_WRITTEN=none", "HEADGATE_SERIES_DROPPED=none",
		"HEADGATE_COORDINATOR_LABEL=queue",
		"HEADGATE_SOFT_ENTER=5000", "HEADGATE_SOFT_EXIT=4000", "HEADGATE_HARD_ENTER=8000", "HEADGATE_HARD_EXIT=7000",
		"HEADGATE_COOL_DOWN=0s", "HEADGATE_INTERVAL=200ms", "HEADGATE_LEASE=1s", "HEADGATE_STALE_AFTER=2s",
		"HEADGATE_HOLDER=alpha",
	)

	// until waits for a scale at the coordinator that the owner put there.
	until := func(owner coordinator.Owner, scale float64, reason string) coordinator.Scale {
		t.Helper()
		poll := time.NewTicker(20 * time.Millisecond)
		defer poll.Stop()
		limit := time.After(30 * time.Second)
		for {
			state, err := gate.State("ibkr")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range state.Scales {
				if s.Owner == owner && s.Scale == scale && state.Scale == scale && strings.HasPrefix(s.Reason, reason) {
					return s
				}
			}
			select {
			case <-poll.C:
			case <-limit:
				t.Fatalf("the coordinator is at %+v, want a scale of %v of %s because of %q\n%s", state, scale, owner, reason, program.log())
			}
		}
	}
	for _, step := range []struct {
		backlog int
		scale   float64
	}{{100, 1}, {6000, 0.5}, {9000, 0}, {7500, 0}, {4500, 0.5}, {3000, 1}} {
		mu.Lock()
		backlog = step.backlog
		mu.Unlock()
		if s := until(coordinator.OwnerController, step.scale, "law"); s.Holder != "alpha" || s.ExpiresInSeconds == nil {
			t.Errorf("the scale in force is %+v, want a lease of alpha", s)
		}
	}

	var served struct {
		Decisions []struct {
			Changed     bool
			Level       string
			Scale       float64
			Outcome     string
			Explanation string
		}
	}
	// The coordinator has the scale a moment before the decision is on record.
	recorded := func() bool {
		fetch(t, address+"/v1/decisions", http.StatusOK, &served)
		return len(served.Decisions) > 0 && strings.Contains(served.Decisions[0].Explanation, "depth 3,000 not above 5,000")
	}
	for deadline := time.Now().Add(30 * time.Second); !recorded(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the newest decision is not the one in force: %+v", served.Decisions)
		}
	}
	fetch(t, address+"/-/ready", http.StatusOK, nil)

	// Without Prometheus the last scale is renewed until it is too old, and
	// then the fail mode; the lease lives on.
	if err := prometheus.Stop(); err != nil {
		t.Fatal(err)
	}
	until(coordinator.OwnerController, 1, "hold")
	until(coordinator.OwnerController, 0.5, "fail_mode")
	fetch(t, address+"/-/healthy", http.StatusOK, nil)

	// Without a controller the lease expires into the coordinator's fail mode.
	if status := stop(); status != exitOK {
		t.Errorf("exit status is %d, want 0", status)
	}
	until(coordinator.OwnerController, 0.25, "lease_expired")
}

func fetch(t *testing.T, url string, status int, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		t.Errorf("%s answers %s, want %d", url, response.Status, status)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Errorf("%s: %v", url, err)
	}
}

func TestBadSettingsStartNothing(t *testing.T) {
	notYAML := filepath.Join(t.TempDir(), "client.yml")
	if err := os.WriteFile(notYAML, []byte("tls: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := "HEADGATE_COORDINATOR_IDS=bars"
	tests := []struct {
		name    string
		args    []string
		environ []string
		want    []string // each on the standard error
	}{
		{"an argument", []string{"--listen=:80"}, nil, []string{"unknown flag --listen", "--help"}},
		{"a variable that is none", nil, []string{ids, "HEADGATE_INTERVALL=1s"}, []string{"HEADGATE_INTERVALL"}},
		{"a duration that is none, beside a scale out of range", nil,
			[]string{ids, "HEADGATE_INTERVAL=soon", "MDP_FB_SCALE_SOFT=2"}, []string{"HEADGATE_INTERVAL", `"soon"`, "MDP_FB_SCALE_SOFT"}},
		{"soft above hard", nil, []string{ids, "HEADGATE_SOFT_ENTER=90%"}, []string{"soft_enter", "90%"}},
		{"no coordinator", nil, nil, []string{"coordinator_ids"}},
		{"addresses that are none", nil,
			[]string{ids, "HEADGATE_COORDINATOR_URL=bars", "HEADGATE_PROMETHEUS_URL=prom:9090"},
			[]string{"HEADGATE_COORDINATOR_URL", "HEADGATE_PROMETHEUS_URL"}},
		{"files that cannot be read", nil,
			[]string{ids, "HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE=" + notYAML, "HEADGATE_CONTROLLER_WEB_CONFIG_FILE=/none"},
			[]string{"HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE", "HEADGATE_CONTROLLER_WEB_CONFIG_FILE"}},
		{"marks in percent without a capacity", nil, []string{ids, "HEADGATE_SERIES_CAPACITY=none"}, []string{"capacity"}},
		{"a series' name that is none", nil, []string{ids, "HEADGATE_SERIES_DEPTH=my depth"}, []string{`"my depth"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			status := runMain(t.Context(), test.args, environment{test.environ, &stdout, &stderr})
			if status != exitSettings || stdout.String() != "" {
				t.Errorf("status %d, output %q; want status 2 and none", status, &stdout)
			}
			said := strings.ToLower(stderr.String())
			for _, want := range test.want {
				if !strings.Contains(said, strings.ToLower(want)) {
					t.Errorf("the error does not say %q:\n%s", want, &stderr)
				}
			}
		})
	}
}

func TestAnAddressInUseIsAFailure(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	var stderr strings.Builder
	status := runMain(t.Context(), nil, environment{[]string{
		"HEADGATE_COORDINATOR_IDS=bars",
		"HEADGATE_CONTROLLER_LISTEN=" + strings.TrimPrefix(taken.URL, "http://"),
	}, io.Discard, &stderr})
	if status != exitFailure || !strings.Contains(stderr.String(), "address already in use") {
		t.Errorf("status is %d:\n%s", status, &stderr)
	}
}

func TestHelpListsEverySetting(t *testing.T) {
	var help, short, stderr strings.Builder
	if status := runMain(t.Context(), []string{"--help"}, environment{nil, &help, &stderr}); status != exitOK || stderr.String() != "" {
		t.Errorf("status is %d: %s", status, &stderr)
	}
	for _, want := range []string{"HEADGATE_PROMETHEUS_URL", "HEADGATE_SOFT_ENTER", "MDP_FB_SCALE_SOFT", "HEADGATE_TARGETS_FILE"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("--help does not tell of %s", want)
		}
	}
	runMain(t.Context(), []string{"-h"}, environment{nil, &short, &stderr})
	if diff := cmp.Diff(help.String(), short.String()); diff != "" {
		t.Errorf("-h differs from --help:\n%s", diff)
	}
}

func TestControllerServesItsStatusPageAndStopsThoughSomebodyWatches(t *testing.T) {
	address, program, stop := start(t,
		"HEADGATE_PROMETHEUS_URL=http://127.0.0.1:1", "HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_COORDINATOR_IDS=bars",
		"HEADGATE_COORDINATOR_URL=http://127.0.0.1:1",
	)
	page, err := http.Get(address + "/")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(page.Body)
	page.Body.Close()
	if !strings.Contains(string(text), "<title>Headgate</title>") {
		t.Errorf("/ is answered with %s and %q", page.Status, text)
	}
	stream, err := http.Get(address + "/v1/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if status := stop(); status != exitOK {
		t.Errorf("exit status is %d, want %d", status, exitOK)
	}
	if log := program.log(); strings.Contains(log, "did not end in time") {
		t.Errorf("the stream held up the end:\n%s", log)
	}
}
