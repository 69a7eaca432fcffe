package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/pipeline"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
	"github.com/headgate/headgate/writequeue/deadletter"
	"github.com/headgate/headgate/writequeue/postgres"
	"github.com/headgate/headgate/writequeue/sqlite"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// go-redis looks every second for a server that could not be reached, and sees
	// only then that it was closed.
	goleak.VerifyTestMain(pgtest.StopAfter(m), goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// logbook keeps what is logged, for tests that look for it.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// running is a pipeline at work.
type running struct {
	*pipeline.Pipeline
	log  *logbook
	urls map[string]string // of the servers, by the addresses in the job
	url  string            // of the pipeline's own
	stop context.CancelFunc
	done chan struct{}

	summary pipeline.Summary // when done
	err     error
}

// run starts a job, whose files are in dir, and returns when it is ready, or over.
// The test stops it at its end, if nobody did before.
func run(t *testing.T, dir, file string, options pipeline.Options, environ ...string) *running {
	t.Helper()
	r := launch(t, dir, file, options, environ...)
	r.until(t, "/-/ready", http.StatusOK)
	return r
}

// launch starts a job, and returns when its ports are open.
func launch(t *testing.T, dir, file string, options pipeline.Options, environ ...string) *running {
	t.Helper()
	policies := pipeline.PolicyNames(options.Policies)
	j, err := job.Load(t.Context(), job.Input{
		Path: filepath.Join(dir, "job.yaml"), Data: []byte(file), Policies: policies,
		Environ: append(environ, "HEADGATE_JOB_METRICS_LISTEN=127.0.0.1:0"),
		Open:    func(path string) (io.ReadCloser, error) { return os.Open(path) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{log: &logbook{}, done: make(chan struct{})}
	listening := make(chan map[string]string, 1)
	options.Listening = func(addresses map[string]string) { listening <- addresses }
	options.Log = slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), nil))
	r.Pipeline, err = pipeline.New(t.Context(), j, options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop = cancel
	go func() {
		defer close(r.done)
		r.summary, r.err = r.Run(ctx)
	}()
	t.Cleanup(func() { r.end(t) })
	select {
	case r.urls = <-listening:
		for address, real := range r.urls {
			r.urls[address] = "http://" + real
		}
		r.url = r.urls["127.0.0.1:0"]
	case <-r.done:
		t.Fatal(r.err)
	}
	return r
}

// until asks a path until it answers with a status, or the pipeline is over. It
// returns the body.
func (r *running) until(t *testing.T, path string, status int) string {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if answer, err := http.Get(r.url + path); err == nil {
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err == nil && answer.StatusCode == status {
				http.DefaultClient.CloseIdleConnections()
				return string(body)
			}
		}
		select {
		case <-again.C:
		case <-r.done:
			return ""
		}
	}
}

// saying waits until the log says something.
func (r *running) saying(t *testing.T, text string) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !r.log.has(text) {
		select {
		case <-again.C:
		case <-r.done:
			t.Fatalf("the log does not say %q", text)
		}
	}
}

// end stops the pipeline and waits for it.
func (r *running) end(t *testing.T) pipeline.Summary {
	t.Helper()
	r.stop()
	<-r.done
	if r.err != nil {
		t.Errorf("run: %v", r.err)
	}
	return r.summary
}

// scales waits until the provider had these scales, one after another.
func (r *running) scales(t *testing.T, provider string, want ...float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []float64
	for state := range r.Coordinator().Watch(ctx) {
		if state.Provider != provider || len(got) > 0 && got[len(got)-1] == state.Scale {
			continue
		}
		got = append(got, state.Scale)
		if len(want) > 0 && state.Scale == want[0] {
			want = want[1:]
		}
		if len(want) == 0 {
			return
		}
	}
	t.Fatalf("the scales were %v, and %v did not come", got, want)
}

// items is NDJSON of so many items with their own keys.
func items(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"key\":\"%s-%d\"}\n", prefix, i)
	}
	return b.String()
}

// reply is what the http source answers.
type reply struct {
	Status   int
	Retry    string
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
}

func (r *running) post(t *testing.T, body string) reply {
	t.Helper()
	return postTo(t, r.url+"/v1/items", body)
}

func postTo(t *testing.T, url, body string) reply {
	t.Helper()
	answer, err := http.Post(url, "application/x-ndjson", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got := reply{Status: answer.StatusCode, Retry: answer.Header.Get("Retry-After")}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// open is a job whose gate is wide open, so that the test alone fills the
// queue; its store stalls until it is told otherwise, by the pace.
const open = `
name: bars
dag:
  nodes:
    in: {type: http, wait: 20ms}
    gate: {type: gate}
    queue: {type: write_queue, capacity: 100, workers: 1, batch_size: 10, batch_wait: 1ms, drain_timeout: 0s, dead_letter_path: %[1]s/dead.ndjson}
    store: {type: discard, pace_file: pace.csv}
  edges: [[in, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 100000, burst: 1000, floor_per_second: 100000}
`

// paced is open with a store of that profile.
func paced(t *testing.T, profile string) (dir, file string) {
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pace.csv"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, fmt.Sprintf(open, dir)
}

func TestFeedbackIsWiredByItself(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file, pipeline.Options{})
	if got := r.post(t, items("a", 60)); got.Accepted != 60 {
		t.Fatalf("got %+v", got)
	}
	state, err := r.Coordinator().State("ibkr")
	if err != nil {
		t.Fatal(err)
	}
	if state.Scale != 0.5 || state.Level != pressure.Soft {
		t.Errorf("at 60 of 100: scale %v, level %v; want 0.5, SOFT", state.Scale, state.Level)
	}
	if got := r.post(t, items("b", 25)); got.Accepted != 25 {
		t.Fatalf("got %+v", got)
	}
	if state, _ = r.Coordinator().State("ibkr"); state.Scale != 0 || state.Level != pressure.Hard {
		t.Errorf("at 85 of 100: scale %v, level %v; want 0, HARD", state.Scale, state.Level)
	}
}

func TestTheGateOpensAgainWhenTheStoreRecovers(t *testing.T) {
	dir, file := paced(t, "0,0\n0.3,100000\n")
	r := run(t, dir, file, pipeline.Options{})
	r.post(t, items("a", 90))
	r.scales(t, "ibkr", 1)
	state, err := r.Coordinator().State("ibkr")
	if err != nil {
		t.Fatal(err)
	}
	if state.Level != pressure.OK {
		t.Errorf("the level is %v, want OK", state.Level)
	}
}

func TestAProviderOpensWithTheFirstWriteOfTheStore(t *testing.T) {
	dir, file := paced(t, "0,100000\n")
	r := run(t, dir, file, pipeline.Options{})
	r.scales(t, "ibkr", 0.5) // the fail mode, until something is known
	r.post(t, items("a", 1))
	r.scales(t, "ibkr", 1)
}

func TestFeedbackIsSwitchedOffBySetting(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file, pipeline.Options{}, "MDP_FB_ENABLE_FEEDBACK=false")
	if got := r.post(t, items("a", 90)); got.Accepted != 90 {
		t.Fatalf("got %+v", got)
	}
	state, err := r.Coordinator().State("ibkr")
	if err != nil {
		t.Fatal(err)
	}
	for _, scale := range state.Scales {
		if scale.Owner == coordinator.OwnerFastLoop {
			t.Errorf("a scale of the fast loop is in force: %+v", scale)
		}
	}
	if !r.log.has("enable_feedback is false") {
		t.Error("the log does not say that feedback is off")
	}
}

func TestScalesOfTheFeedbackAreSettings(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file+"feedback: {scale_soft: 0.7}\n", pipeline.Options{}, "MDP_FB_SCALE_HARD=0.2")
	r.post(t, items("a", 60))
	r.scales(t, "ibkr", 0.7)
	r.post(t, items("b", 30))
	r.scales(t, "ibkr", 0.2)
}

func TestAPolicyIsChosenBySetting(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file+"feedback: {policy: linear}\n", pipeline.Options{})
	r.post(t, items("a", 65)) // half of the way from 50, at which SOFT begins, to 80
	r.scales(t, "ibkr", 0.5)
}

func TestAPolicyOfTheProgramsOwnEndToEnd(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file+"feedback: {policy: cautious}\n", pipeline.Options{
		Policies: map[string]pipeline.NewPolicy{
			"cautious": func(s settings.Scales) feedback.Policy {
				return func(e pressure.Event) float64 { return s.Soft * (1 - e.Utilization) }
			},
		},
	})
	r.post(t, items("a", 60))
	r.scales(t, "ibkr", 0.5*(1-0.6))
}

func TestWithoutAWriteQueueItRunsAndSaysThatFeedbackIsOff(t *testing.T) {
	dir := t.TempDir()
	r := run(t, dir, `
name: bars
dag:
  nodes:
    in: {type: http}
    gate: {type: gate}
    store: {type: sqlite, path: `+dir+`/bars.db}
  edges: [[in, gate], [gate, store]]
providers: {ibkr: {base_per_second: 1000, burst: 100}}
`, pipeline.Options{})
	if got := r.post(t, items("a", 50)); got.Accepted != 50 {
		t.Fatalf("got %+v", got)
	}
	if !r.log.has("the job has no write queue") {
		t.Error("the log does not say that feedback is off")
	}
	s := r.end(t)
	if s.Accepted != 50 || s.Written != 50 || !s.Conserved || rows(t, dir) != 50 {
		t.Errorf("summary %+v, %d rows", s, rows(t, dir))
	}
}

// feedback sends an event over HTTP.
func (r *running) feedback(t *testing.T, level string) {
	t.Helper()
	body := `{"coordinator_id": "theirs", "queue_size": 90, "capacity": 100, "level": "` + level + `"}`
	answer, err := http.Post(r.url+"/v1/feedback", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Errorf("an event is answered %s", answer.Status)
	}
}

func TestAGateAloneIsThrottledByTheEventsOfOthers(t *testing.T) {
	r := run(t, t.TempDir(), "{mode: gate, name: ours, providers: {ibkr: {base_per_second: 1000, burst: 100}}}", pipeline.Options{})
	r.scales(t, "ibkr", 0.5) // its fail mode, for nobody has spoken yet
	for _, word := range []struct {
		level string
		scale float64
	}{{"ok", 1}, {"soft", 0.5}, {"hard", 0}, {"ok", 1}} {
		r.feedback(t, word.level)
		r.scales(t, "ibkr", word.scale)
	}
	if s := r.end(t); !s.Conserved || s.Accepted != 0 {
		t.Errorf("summary %+v, want one of no items", s)
	}
}

func TestAWordThatIsNotRepeatedExpiresAtAGateAlone(t *testing.T) {
	r := run(t, t.TempDir(), "{mode: gate, name: ours, providers: {ibkr: {base_per_second: 1000, burst: 100, start_in_fail_mode: false}}}",
		pipeline.Options{}, "MDP_FB_EVENT_TTL=100ms", "MDP_FB_SCALE_SOFT=0.4")
	r.scales(t, "ibkr", 1)
	r.feedback(t, "hard")
	r.scales(t, "ibkr", 0.4) // the fail mode, after the word's time
}

// rows counts what is in the SQLite database.
func rows(t *testing.T, dir string) int {
	t.Helper()
	store, err := sqlite.Open(context.Background(), sqlite.DefaultConfig(filepath.Join(dir, "bars.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	n, err := store.Rows(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// letters counts what is in the dead letters.
func letters(t *testing.T, dir string) int {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "dead.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for _, err := range deadletter.Read(file) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestBackPressureReachesTheSenderAs429(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file, pipeline.Options{}, "HEADGATE_JOB_DAG_NODES_QUEUE_OVERFLOW=refuse")
	if diff := cmp.Diff(reply{202, "", 90, 0}, r.post(t, items("a", 90))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(reply{429, "1", 10, 5}, r.post(t, items("b", 15))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(reply{429, "1", 0, 5}, r.post(t, items("c", 5))); diff != "" {
		t.Error(diff)
	}
	s := r.end(t)
	if s.Accepted != 100 || s.DeadLettered != 100 || letters(t, dir) != 100 {
		t.Errorf("summary %+v, %d letters", s, letters(t, dir))
	}
}

func TestAClosedGateAnswers429WithTheTimeItNeeds(t *testing.T) {
	dir, file := paced(t, "0,100000\n")
	r := run(t, dir, strings.Replace(file, "floor_per_second: 100000", "floor_per_second: 1", 1), pipeline.Options{},
		"HEADGATE_JOB_PROVIDERS_IBKR_BASE_PER_SECOND=1", "HEADGATE_JOB_PROVIDERS_IBKR_BURST=10")
	if diff := cmp.Diff(reply{202, "", 10, 0}, r.post(t, items("a", 10))); diff != "" {
		t.Error(diff)
	}
	if got := r.post(t, items("b", 7)); got.Status != 429 || got.Accepted != 0 || got.Retry != "7" {
		t.Errorf("got %+v, want 429 and seven seconds for seven items at one a second", got)
	}
	r.Coordinator().CoolDown("ibkr", coordinator.GlobalScope, time.Minute)
	if got := r.post(t, items("b", 1)); got.Status != 429 || got.Retry != "60" {
		t.Errorf("got %+v, want 429 and the minute of the cool-down", got)
	}
}

func TestASourceMayHaveAPortOfItsOwn(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, strings.Replace(file, "{type: http,", "{type: http, path: /ticks, listen: 'localhost:0',", 1), pipeline.Options{})
	if got := postTo(t, r.urls["localhost:0"]+"/ticks", items("a", 3)); got.Accepted != 3 {
		t.Errorf("on its own port: got %+v", got)
	}
	if got := postTo(t, r.url+"/ticks", items("b", 3)); got.Status != http.StatusNotFound {
		t.Errorf("on the pipeline's port: got %+v, want 404", got)
	}
}

func TestWhatIsWrittenIsAcknowledgedToTheSender(t *testing.T) {
	dir, file := paced(t, "0,1000\n0.5,0\n")
	r := run(t, dir, file, pipeline.Options{}, "HEADGATE_JOB_DAG_NODES_IN_ACKNOWLEDGE=written", "HEADGATE_JOB_DAG_NODES_IN_WAIT=300ms")
	if diff := cmp.Diff(reply{200, "", 25, 0}, r.post(t, items("a", 25))); diff != "" {
		t.Error(diff)
	}
	if s := r.Summary(); s.Written != 25 {
		t.Errorf("the sender was told before all were written: %+v", s)
	}
	for r.post(t, items("a", 1)).Status == http.StatusOK { // until the store stalls
	}
	if diff := cmp.Diff(reply{503, "5", 0, 5}, r.post(t, items("b", 5))); diff != "" {
		t.Error(diff)
	}
}

func TestABadBodyChangesNothing(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file, pipeline.Options{})
	before, _ := r.Coordinator().State("ibkr")
	for _, body := range []string{"", "hello", "{\"key\":\"a\"}\n[1]\n", strings.Repeat("x", 10<<20)} {
		if got := r.post(t, body); got.Status != 400 && got.Status != 413 {
			t.Errorf("got %+v, want 400 or 413", got)
		}
	}
	after, _ := r.Coordinator().State("ibkr")
	before.Scales[0].AgeSeconds, after.Scales[0].AgeSeconds = 0, 0
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if s := r.Summary(); s.Accepted != 0 || s.Granted != 0 {
		t.Errorf("summary %+v, want nothing accepted or granted", s)
	}
}

// heavy is a job under more load than its store can take.
const heavy = `
name: bars
dag:
  nodes:
    feed: {type: synthetic, opens_after: 0s, scale: 20, seed: 7}
    in: {type: http, wait: 100ms}
    gate: {type: gate}
    only: {type: json_filter, field: noise, missing: keep, not_in: [loud]}
    once: {type: dedupe}
    queue: {type: write_queue, capacity: 2000, workers: 3, batch_size: 50, drain_timeout: 50ms, dead_letter_path: %[1]s/dead.ndjson}
    store: {%[2]s, pace_per_second: 1500}
  edges: [[feed, gate], [in, gate], [gate, only], [only, once], [once, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 6000, burst: 500}
`

// stopUnderLoad runs heavy until its queue is deep, stops it, and returns what
// it says.
func stopUnderLoad(t *testing.T, dir, store string) pipeline.Summary {
	t.Helper()
	r := run(t, dir, fmt.Sprintf(heavy, dir, store), pipeline.Options{
		GrantJournal: filepath.Join(dir, "grants.csv"),
	}, "MDP_FB_SCALE_HARD=0.2")
	var senders sync.WaitGroup
	stopped := make(chan struct{})
	for i := range 3 {
		senders.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stopped:
					return
				default:
				}
				answer, err := http.Post(r.url+"/v1/items", "application/x-ndjson", strings.NewReader(items(fmt.Sprint(i, "-", n), 40)))
				if err != nil {
					return // the server is down
				}
				answer.Body.Close()
			}
		})
	}
	r.scales(t, "ibkr", 1, 0.5, 0.2)
	s := r.end(t)
	close(stopped)
	senders.Wait()
	http.DefaultClient.CloseIdleConnections()
	if !s.Conserved || s.Waiting != 0 || s.Dropped != 0 || s.Written == 0 || s.DeadLettered == 0 {
		t.Errorf("summary %+v: want some written, the rest dead-lettered and nothing else", s)
	}
	return s
}

func TestStoppingUnderLoadLosesNothingWithSQLite(t *testing.T) {
	dir := t.TempDir()
	s := stopUnderLoad(t, dir, "type: sqlite, path: "+dir+"/bars.db")
	if got := uint64(rows(t, dir)); got != s.Written {
		t.Errorf("%d rows, and %d were written", got, s.Written)
	}
	if got := uint64(letters(t, dir)); got != s.DeadLettered {
		t.Errorf("%d letters, and %d were dead-lettered", got, s.DeadLettered)
	}
}

func TestStoppingUnderLoadLosesNothingWithPostgreSQL(t *testing.T) {
	url := pgtest.Database(t)
	dir := t.TempDir()
	s := stopUnderLoad(t, dir, "type: postgres, url: '"+url+"'")
	store, err := postgres.Open(t.Context(), postgres.DefaultConfig(url))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	got, err := store.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if uint64(got) != s.Written {
		t.Errorf("%d rows, and %d were written", got, s.Written)
	}
	if got := uint64(letters(t, dir)); got != s.DeadLettered {
		t.Errorf("%d letters, and %d were dead-lettered", got, s.DeadLettered)
	}
}

// once is a job that ends by itself.
const once = `
name: bars
dag:
  nodes:
    feed: {type: replay, file: feed.csv, speed: 100%[2]s}
    gate: {type: gate}
    queue: {type: write_queue, dead_letter_path: %[1]s/dead.ndjson}
    store: {type: sqlite, path: %[1]s/bars.db}
  edges: [[feed, gate], [gate, queue], [queue, store]]
providers:
  ibkr: {base_per_second: 100000, burst: 1000}
`

func runOnce(t *testing.T, dir, counts, more string) pipeline.Summary {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "feed.csv"), []byte(counts), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, fmt.Sprintf(once, dir, more), pipeline.Options{})
	<-r.done // by itself
	return r.end(t)
}

func TestAJobEndsWithItsSourcesAndAllIsWritten(t *testing.T) {
	dir := t.TempDir()
	s := runOnce(t, dir, "0,100\n1,200\n", "")
	want := pipeline.Summary{
		Name: "bars", Accepted: 300, Written: 300, Conserved: true, Granted: 300, MaxDepth: s.MaxDepth,
		DurationSeconds: s.DurationSeconds,
		Sources:         map[string]pipeline.SourceSummary{"feed": {Offered: 300, Accepted: 300}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if got := rows(t, dir); got != 300 {
		t.Errorf("%d rows, want 300", got)
	}
}

func TestARunThatIsRepeatedUnderAPrefixMakesNoSecondRows(t *testing.T) {
	dir := t.TempDir()
	runOnce(t, dir, "0,100\n", ", key_prefix: monday")
	runOnce(t, dir, "0,100\n", ", key_prefix: monday")
	if got := rows(t, dir); got != 100 {
		t.Errorf("%d rows after the same run twice, want 100", got)
	}
	runOnce(t, dir, "0,50\n", ", key_prefix: monday")
	if got := rows(t, dir); got != 150 {
		t.Errorf("%d rows after another recording under the same prefix, want 150", got)
	}
}

func TestRunsWithoutAPrefixLoseNoRows(t *testing.T) {
	dir := t.TempDir()
	runOnce(t, dir, "0,100\n", "")
	runOnce(t, dir, "0,100\n", "")
	if got := rows(t, dir); got != 200 {
		t.Errorf("%d rows after two runs, want 200", got)
	}
}

func TestTheServerTellsMetricsAndHealth(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	r := run(t, dir, file, pipeline.Options{})
	r.post(t, items("a", 60))
	for path, want := range map[string]string{
		"/metrics":             `coordinator_queue_depth{coordinator_id="bars"} 60`,
		"/-/healthy":           `"status":"ok"`,
		"/-/ready":             `"status":"ready"`,
		"/v1/providers/ibkr":   `"level":"soft"`,
		"/v1/providers/nosuch": `unknown provider`,
	} {
		answer, err := http.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: got error %v and no %s in:\n%s", path, err, want, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAPortThatIsTakenIsAnErrorAndEverythingIsGivenBack(t *testing.T) {
	dir, file := paced(t, "0,0\n")
	first := run(t, dir, file, pipeline.Options{})
	other, file := paced(t, "0,0\n")
	j, err := job.Load(t.Context(), job.Input{
		Path: filepath.Join(other, "job.yaml"), Data: []byte(file), Policies: []string{"step"},
		Environ: []string{"HEADGATE_JOB_METRICS_LISTEN=" + strings.TrimPrefix(first.url, "http://")},
		Open:    func(path string) (io.ReadCloser, error) { return os.Open(path) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(t.Context(), j, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v, want the port's error", err)
	}
}
