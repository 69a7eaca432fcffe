package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/fleet"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/replicas"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

const (
	budget = 2000 // tokens per second, of all replicas together
	burst  = 70   // tokens, of each
)

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
	w, err := replicas.New(replicas.Config{
		Binary: binary, Dir: t.TempDir(), Most: 5, BasePerSecond: budget, Burst: burst, InitialShare: 0.005,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	gate, err := fleet.Dialer{HTTP: w.HTTP(), Log: log, Resolver: w}.Dial("dns+http://pipelines:"+w.Port(), []string{replicas.CoordinatorID}, fleet.ShareEqually)
	if err != nil {
		t.Fatal(err)
	}
	loop := newLoop(t, gate, log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	if err := w.Scale(1); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- loop.Run(ctx) }()
	defer func() {
		err := w.Close()
		cancel()
		if err := errors.Join(err, <-ended); err != nil {
			t.Error(err)
		}
	}()

	type phase struct {
		replicas int
		from, to time.Time
	}
	var phases []phase
	for _, n := range []int{1, 5, 2} {
		err := w.Scale(n)
		if err == nil {
			err = w.Await(t.Context(), time.Minute, "share the budget", w.ShareEvenly)
		}
		if err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		time.Sleep(steady)
		phases = append(phases, phase{n, from, time.Now()})
	}
	if err := w.Scale(0); err != nil {
		t.Fatal(err)
	}
	all, err := w.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	for _, p := range phases {
		used := float64(all.Between(p.from, p.to)) / (budget * p.to.Sub(p.from).Seconds())
		fmt.Fprintf(&report, "%d replicas: %.4f of the budget; ", p.replicas, used)
		if used < 0.95 {
			t.Errorf("%d replicas gave out %.3f of the budget, want at least 0.95", p.replicas, used)
		}
	}
	inTen, _ := all.MostIn(10 * time.Second)
	inOne, _ := all.MostIn(time.Second)
	over := float64(inTen)/(10*budget) - 1
	fmt.Fprintf(&report, "at most %+.2f %% over it in any 10 s, %+.2f %% in any second",
		100*over, 100*(float64(inOne)/budget-1))
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
