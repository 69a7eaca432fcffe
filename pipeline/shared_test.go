package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/redistest"
	"github.com/headgate/headgate/pipeline"
	"github.com/headgate/headgate/pipeline/journal"
)

const (
	sharedBudget = 2000 // tokens per second, of all replicas
	sharedBurst  = 200
	sharedPart   = 0.5 // of a replica that cannot reach the server; two of them have all of it
)

// shares is a replica's job: its feed has more items than the whole budget lets
// through. The fast loop opens its gate at the first write.
const shares = `
name: bars
when_done: stay
dag:
  nodes:
    one: {type: synthetic, scale: 20, opens_after: 0s} # 5000 items per second
    gate: {type: gate}
    queue: {type: write_queue, dead_letter_path: %s/dead.ndjson}
    store: {type: discard}
  edges: [[one, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: %d, burst: %d, initial_share: %v}
`

// replica starts one.
func replica(t *testing.T, url string) (r *running, grants string) {
	t.Helper()
	dir := t.TempDir()
	grants = filepath.Join(dir, "grants.csv")
	r = run(t, dir, fmt.Sprintf(shares, dir, sharedBudget, sharedBurst, sharedPart), pipeline.Options{GrantJournal: grants},
		"HEADGATE_JOB_PROVIDERS_IBKR_REDIS_URL="+url)
	return r, grants
}

// becomes waits until the replica stands to the shared budget as it is to.
func (r *running) becomes(t *testing.T, want coordinator.SharedState) coordinator.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		s, err := r.Coordinator().State("ibkr")
		if err != nil {
			t.Fatal(err)
		}
		if s.Shared.State == want {
			return s
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("the budget is %+v, want %s", s.Shared, want)
		}
	}
}

// says is the value of a series of the provider.
func (r *running) says(t *testing.T, series string) string {
	t.Helper()
	for line := range strings.Lines(r.until(t, "/metrics", http.StatusOK)) {
		if value, is := strings.CutPrefix(line, series+`{provider="ibkr"} `); is {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestTwoPipelinesDrawFromOneBudget(t *testing.T) {
	url := redistest.Start(t).URL()
	a, grantsOfA := replica(t, url)
	b, grantsOfB := replica(t, url)
	a.becomes(t, coordinator.SharedConnected)
	b.becomes(t, coordinator.SharedConnected)
	a.scales(t, "ibkr", 1)
	b.scales(t, "ibkr", 1)
	from := time.Now()
	<-time.After(2 * time.Second) // what is measured is how much passes in a time
	to := time.Now()
	a.end(t)
	b.end(t)

	all, err := journal.ReadAll("ibkr", grantsOfA, grantsOfB)
	if err != nil {
		t.Fatal(err)
	}
	if beyond, at := all.Beyond(sharedBudget); beyond > sharedBurst {
		t.Errorf("%v items more than the budget at %v, want no more than the burst of %d", beyond, at, sharedBurst)
	}
	if used := float64(all.Between(from, to)) / (sharedBudget * to.Sub(from).Seconds()); used < 0.8 {
		t.Errorf("%.3f of the budget was used", used)
	}
}

func TestAPipelineFallsBackToItsShareWhileItsBudgetIsAway(t *testing.T) {
	server := redistest.Start(t)
	r, _ := replica(t, server.URL())
	r.becomes(t, coordinator.SharedConnected)
	r.scales(t, "ibkr", 1)
	if got := r.says(t, "rate_coordinator_shared_budget_connected"); got != "1" {
		t.Errorf("connected is %q, want 1", got)
	}
	server.Kill()
	s := r.becomes(t, coordinator.SharedOwnShare)
	if want := sharedPart * sharedBudget; math.Abs(s.EffectivePerSecond-want) > 1e-9 || s.Shared.Error == "" {
		t.Errorf("without the server it runs at %v/s with %+v, want %v/s and why", s.EffectivePerSecond, s.Shared, want)
	}
	if got := r.says(t, "rate_coordinator_shared_budget_connected") + r.says(t, "rate_coordinator_shared_budget_losses_total"); got != "01" {
		t.Errorf("connected and losses are %q, want 0 and 1", got)
	}
	if !r.log.has("shared budget cannot be reached, provider falls back to its own share") {
		t.Error("the log does not say so")
	}
	server.Restart()
	if s = r.becomes(t, coordinator.SharedConnected); s.Shared.Error != "" {
		t.Errorf("with the server it is %+v", s.Shared)
	}
	if !r.log.has("shared budget is reached again") {
		t.Error("the log does not say that it is over")
	}
}

func TestAPipelineStartsWithoutTheServerOfItsBudget(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	r, _ := replica(t, server.URL())
	r.becomes(t, coordinator.SharedOwnShare)
	server.Restart()
	r.becomes(t, coordinator.SharedConnected)
}

func TestThePasswordOfABudgetIsShownNowhere(t *testing.T) {
	server := redistest.Start(t)
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(options)
	defer admin.Close()
	if err := admin.ConfigSet(t.Context(), "requirepass", "tellnoone").Err(); err != nil {
		t.Fatal(err)
	}
	with := func(password string) string { return strings.Replace(server.URL(), "//", "//default:"+password+"@", 1) }
	for _, test := range []struct {
		password string
		becomes  coordinator.SharedState
	}{{"tellnoone", coordinator.SharedConnected}, {"tellnooneelse", coordinator.SharedOwnShare}} {
		r, _ := replica(t, with(test.password))
		s := r.becomes(t, test.becomes)
		state, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Get(r.url + "/v1/providers/ibkr")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for what, text := range map[string]string{
			"the state": string(state), "the API": string(answer), "/metrics": r.until(t, "/metrics", http.StatusOK),
		} {
			if strings.Contains(text, "tellnoone") {
				t.Errorf("%s shows the password: %s", what, text)
			}
		}
		if r.log.has("tellnoone") {
			t.Error("the log shows the password")
		}
		r.end(t)
	}
}
