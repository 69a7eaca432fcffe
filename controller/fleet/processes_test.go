package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/fleet"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

const (
	budget = 2000 // tokens per second, of all replicas together
	burst  = 70   // tokens, of each
)

const jobFile = `
mode: dag
name: bars
when_done: stay
dag:
  nodes:
    one: {type: synthetic, scale: 20, opens_after: 0s} # 5000 items per second
    two: {type: synthetic, scale: 20, opens_after: 0s}
    three: {type: synthetic, scale: 20, opens_after: 0s}
    gate: {type: gate, provider: ibkr}
    queue: {type: write_queue, dead_letter_path: dead.ndjson}
    store: {type: discard}
  edges: [[one, gate], [two, gate], [three, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: %d, burst: %d, initial_share: 0.005}
metrics: {listen: "%s"}
`

// town is where the pipelines run, each on an address of its own.
type town struct {
	t      *testing.T
	binary string
	port   string
	http   *http.Client

	mu        sync.Mutex
	addresses map[string]*pipeline
	journals  []string // of all that ever ran: what their provider gave out
}

// given is what the provider gave out at once.
type given struct {
	at time.Time
	n  int
}

type pipeline struct {
	process *exec.Cmd
	client  *client.Client
}

// LookupNetIP is the name server of the town.
func (w *town) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []netip.Addr
	for address := range w.addresses {
		all = append(all, netip.MustParseAddr(address))
	}
	return all, nil
}

// begin starts a pipeline, whose feeds have more items than the whole budget lets
// through. Its address is known before it listens.
func (w *town) begin(address string) {
	w.t.Helper()
	dir := w.t.TempDir()
	at := net.JoinHostPort(address, w.port)
	file := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, jobFile, budget, burst, at), 0o600); err != nil {
		w.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	p := &pipeline{process: exec.Command(w.binary, "run", file)}
	p.process.Dir, p.process.Stdout, p.process.Stderr = dir, log, log
	journal := filepath.Join(dir, "journal.csv")
	p.process.Env = append(os.Environ(), "HEADGATE_PIPELINE_GRANT_JOURNAL="+journal)
	if p.client, err = client.New("http://"+at, w.http); err != nil {
		w.t.Fatal(err)
	}
	if err := p.process.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.addresses[address] = p
	w.journals = append(w.journals, journal)
	w.mu.Unlock()
}

// end stops a pipeline as Kubernetes does, and takes its address away once it has
// ended.
func (w *town) end(address string) {
	w.mu.Lock()
	p := w.addresses[address]
	w.mu.Unlock()
	_ = p.process.Process.Signal(os.Interrupt)
	_ = p.process.Wait()
	w.mu.Lock()
	delete(w.addresses, address)
	w.mu.Unlock()
}

// settle waits until the replicas at work share the whole budget evenly.
func (w *town) settle(gate controller.Gate, replicas int) {
	w.t.Helper()
	even := float64(budget) / float64(replicas)
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		right := 0
		var clients []*client.Client
		w.mu.Lock()
		for _, p := range w.addresses {
			clients = append(clients, p.client)
		}
		w.mu.Unlock()
		for _, c := range clients {
			if s, err := c.State(w.t.Context(), "ibkr"); err == nil && math.Abs(s.EffectivePerSecond-even) < 0.001*budget {
				right++
			}
		}
		if right == replicas && right == len(clients) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s, err := gate.State(w.t.Context(), "ibkr")
	w.t.Fatalf("the %d replicas do not share the budget: %+v, %v", replicas, s, err)
}

// ledger is what the provider gave out in all, in the order in which it did.
func (w *town) ledger() (all []given) {
	w.t.Helper()
	for _, file := range w.journals {
		data, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			column := strings.Split(line, ",")
			if column[1] != "grant" {
				continue
			}
			at, err := strconv.ParseFloat(column[0], 64)
			n, countErr := strconv.Atoi(column[3])
			if err := errors.Join(err, countErr); err != nil {
				w.t.Fatal(err)
			}
			all = append(all, given{time.UnixMicro(int64(at * 1e6)), n})
		}
	}
	slices.SortFunc(all, func(a, b given) int { return a.at.Compare(b.at) })
	return all
}

// count is what was given out from one time to another.
func count(all []given, from, to time.Time) int {
	sum := 0
	for _, g := range all {
		if !g.at.Before(from) && g.at.Before(to) {
			sum += g.n
		}
	}
	return sum
}

// mostIn is the most that was given out in any span of that length.
func mostIn(all []given, span time.Duration) int {
	most, sum, first := 0, 0, 0
	for _, g := range all {
		sum += g.n
		for g.at.Sub(all[first].at) >= span {
			sum -= all[first].n
			first++
		}
		most = max(most, sum)
	}
	return most
}

// calm is a Prometheus whose queue is empty.
type calm struct{}

func (calm) Read(context.Context) (metrics.Snapshot, error) {
	now := time.Now()
	return metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{
		"bars": {CoordinatorID: "bars", Capacity: 1000, At: now, Newest: now},
	}}, nil
}

// Five pipelines, of which at first one runs, then all, and then two, give out no
// more than one may, and hardly less. It takes as long as HEADGATE_TEST_SHARES
// says in each of the three steady states, and the changes between them.
func TestProcessesThatComeAndGoShareOneBudget(t *testing.T) {
	steady, err := time.ParseDuration(os.Getenv("HEADGATE_TEST_SHARES"))
	if err != nil {
		t.Skip("HEADGATE_TEST_SHARES is not set, such as to 12s: how long each steady state is measured")
	}
	binary := filepath.Join(t.TempDir(), "pipeline")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/pipeline").CombinedOutput(); err != nil {
		t.Fatalf("build the pipeline: %v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	w := &town{t: t, binary: binary, port: port, http: &http.Client{Transport: transport}, addresses: map[string]*pipeline{}}

	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	gate, err := fleet.Dialer{HTTP: w.http, Log: log, Resolver: w}.Dial("dns+http://pipelines:"+port, []string{"bars"}, fleet.ShareEqually)
	if err != nil {
		t.Fatal(err)
	}
	loop := newLoop(t, gate, log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	address := func(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }
	w.begin(address(0))
	go func() { ended <- loop.Run(ctx) }()
	defer func() {
		for i := range 5 {
			if w.addresses[address(i)] != nil {
				w.end(address(i))
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	type phase struct {
		replicas int
		from, to time.Time
	}
	var phases []phase
	measure := func(replicas int) {
		w.settle(gate, replicas)
		from := time.Now()
		time.Sleep(steady)
		phases = append(phases, phase{replicas, from, time.Now()})
	}
	measure(1)
	for i := 1; i < 5; i++ {
		w.begin(address(i))
	}
	measure(5)
	for i := 2; i < 5; i++ {
		w.end(address(i))
	}
	measure(2)
	w.end(address(0))
	w.end(address(1))

	all := w.ledger()
	var report strings.Builder
	for _, p := range phases {
		used := float64(count(all, p.from, p.to)) / (budget * p.to.Sub(p.from).Seconds())
		fmt.Fprintf(&report, "%d replicas: %.4f of the budget; ", p.replicas, used)
		if used < 0.95 {
			t.Errorf("%d replicas gave out %.3f of the budget, want at least 0.95", p.replicas, used)
		}
	}
	over := float64(mostIn(all, 10*time.Second))/(10*budget) - 1
	fmt.Fprintf(&report, "at most %+.2f %% over it in any 10 s, %+.2f %% in any second",
		100*over, 100*(float64(mostIn(all, time.Second))/budget-1))
	t.Log(report.String())
	if over > 0.02 {
		t.Errorf("%.2f %% more than the budget in 10 s, want at most 2 %%", 100*over)
	}
}

// newLoop is a controller of the gate with short times.
func newLoop(t *testing.T, gate controller.Gate, log *slog.Logger) *controller.Controller {
	law, err := policy.NewStep(1, 0.5, 0)
	mark := func(percent float64) pressure.Mark { return pressure.Mark{Value: percent, Percent: true} }
	loop, newErr := controller.New(controller.Config{
		Interval: 500 * time.Millisecond, QueryTimeout: time.Second, ApplyTimeout: 250 * time.Millisecond, Holder: "a", Decisions: 10,
	}, calm{}, []controller.Target{{
		Name: "bars", CoordinatorIDs: []string{"bars"}, Names: metrics.DefaultNames(), Combine: controller.CombineWorst,
		Providers: []controller.Provider{{Name: "ibkr", URL: "dns+http://pipelines", Gate: gate, LawName: policy.StepName, Law: law}},
		SoftEnter: mark(50), SoftExit: mark(40), HardEnter: mark(80), HardExit: mark(70),
		Lease: 3 * time.Second, StaleAfter: 30 * time.Second, FailMode: coordinator.FailSafe, SafeScale: 0.5,
	}}, log)
	if err := errors.Join(err, newErr); err != nil {
		t.Fatal(err)
	}
	return loop
}
