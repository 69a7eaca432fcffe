//go:build linux

package docs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	keda "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
)

func init() {
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	for _, kind := range []string{"text/html", "text/css", "text/javascript", "image/svg+xml"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
}

// description is one of docs/openapi, and what of it was seen.
type description struct {
	name   string
	doc    *openapi3.T
	router routers.Router
	seen   map[string]bool // "METHOD path status"
}

func describe(t *testing.T, name string) *description {
	t.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	doc, err := loader.LoadFromFile(filepath.Join(root, "docs", "openapi", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	doc.Servers = nil // any address
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &description{name: name, doc: doc, router: router, seen: map[string]bool{}}
}

// question is a request, and the status that answers it.
type question struct {
	method, path, body string
	want               int

	beyond  bool   // 400 for what a schema cannot say
	stream  string // schema of the first message of a stream
	as      string // Authorization
	headers map[string]string
}

// ask asks a server and holds question and answer against the description. A
// question that is answered 400 must break the description too.
func (d *description) ask(t *testing.T, base string, q question) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	made := func() *http.Request {
		r, err := http.NewRequestWithContext(ctx, q.method, base+q.path, strings.NewReader(q.body))
		if err != nil {
			t.Fatal(err)
		}
		if q.as != "" {
			r.Header.Set("Authorization", q.as)
		}
		if q.body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if strings.HasSuffix(r.URL.Path, "/items") {
			r.Header.Set("Content-Type", "application/x-ndjson")
		}
		for name, value := range q.headers {
			r.Header.Set(name, value)
		}
		return r
	}
	words := fmt.Sprintf("%s: %s %s %.80s", d.name, q.method, q.path, q.body)
	checked := made()
	route, parameters, err := d.router.FindRoute(checked)
	if err != nil {
		t.Errorf("%s: %v", words, err)
		return
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true, IncludeResponseStatus: true}
	input := &openapi3filter.RequestValidationInput{Request: checked, PathParams: parameters, Route: route, Options: options}
	switch err := openapi3filter.ValidateRequest(ctx, input); {
	case q.want == http.StatusBadRequest && !q.beyond && err == nil:
		t.Errorf("%s: is right by the description, and the server refuses it", words)
	case q.want != http.StatusBadRequest && q.want != http.StatusUnauthorized && q.want != http.StatusForbidden && err != nil:
		t.Errorf("%s: is wrong by the description: %v", words, err)
	}
	response, err := http.DefaultClient.Do(made())
	if err != nil {
		t.Errorf("%s: %v", words, err)
		return
	}
	defer response.Body.Close()
	var body []byte
	if q.stream != "" && response.StatusCode == http.StatusOK {
		d.message(t, words, response.Body, q.stream)
	} else if body, err = io.ReadAll(response.Body); err != nil {
		t.Errorf("%s: %v", words, err)
	}
	if response.StatusCode != q.want {
		t.Errorf("%s: is answered %d, want %d: %s", words, response.StatusCode, q.want, body)
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: response.StatusCode, Header: response.Header, Options: options}
	if err := openapi3filter.ValidateResponse(ctx, output.SetBodyBytes(body)); err != nil {
		t.Errorf("%s: the answer %d is not as described: %v\n%s", words, response.StatusCode, err, body)
	}
	d.seen[fmt.Sprintf("%s %s %d", q.method, route.Path, response.StatusCode)] = true
}

// message holds the first message of a stream against a schema.
func (d *description) message(t *testing.T, words string, stream io.Reader, schema string) {
	t.Helper()
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text, is := strings.CutPrefix(lines.Text(), "data:")
		if !is {
			continue
		}
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Errorf("%s: %v", words, err)
		} else if err := d.doc.Components.Schemas[schema].Value.VisitJSON(value); err != nil {
			t.Errorf("%s: the message is no %s: %v\n%s", words, schema, err, text)
		}
		return
	}
	t.Errorf("%s: the stream has no message: %v", words, lines.Err())
}

// strangers asks for everything that takes a role as nobody and as somebody with
// every other role.
func (d *description) strangers(t *testing.T, base string) {
	t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			role, _ := operation.Extensions["x-headgate-role"].(string)
			if role == string(access.Open) {
				continue
			}
			q := question{method: method, path: strings.ReplaceAll(path, "{provider}", "ibkr"), want: http.StatusUnauthorized}
			d.ask(t, base, q)
			for _, c := range accesstest.Clients() {
				if c.Known() && len(c.Roles) > 1 && !c.May(access.Role(role)) {
					q.as, q.want = c.Authorization, http.StatusForbidden
					d.ask(t, base, q)
				}
			}
		}
	}
}

// unseen reports answers that are described and were not seen, but for those
// that other tests see.
func (d *description) unseen(t *testing.T, elsewhere ...string) {
	t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				answer := fmt.Sprintf("%s %s %s", method, path, status)
				excused := false
				for _, e := range elsewhere {
					excused = excused || e == answer
				}
				if d.seen[answer] == excused {
					t.Errorf("%s: the answer %s: seen %v, seen by other tests %v", d.name, answer, d.seen[answer], excused)
				}
			}
		}
	}
}

// runs starts one of our programs and waits until it answers its health.
func runs(t *testing.T, bin, name, address string, args []string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	p, err := process.Start(process.Spec{Name: name, Binary: filepath.Join(bin, name), Args: args, Env: env, Log: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(10 * time.Second) })
	await(t, "http://"+address+"/-/healthy", func() string { return process.Tail(p.LogPath, 20) })
	return "http://" + address
}

// await asks until the answer is 200.
func await(t *testing.T, url string, log func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(r); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v\n%s", url, ctx.Err(), log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// job is a pipeline's: OWN is its address, STORE its store.
const job = `
mode: dag
name: bars
when_done: stay
dag:
  nodes:
    items: {type: http, wait: 200ms, max_items: 500}
    gate: {type: gate, provider: ibkr}
    queue: {type: write_queue, capacity: 1000, dead_letter_path: dead.ndjson}
    store: STORE
  edges:
    - [items, gate]
    - [gate, queue]
    - [queue, store]
providers:
  ibkr: {base_per_second: 50, burst: 20, fail_mode: open}
  other: {base_per_second: 50, burst: 20, fail_mode: open}
metrics: {listen: "OWN"}
`

func TestTheServersDoWhatTheirDescriptionsSay(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-trimpath", "-o", bin, "./cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	addresses := make([]string, 9)
	for i := range addresses {
		var err error
		if addresses[i], err = process.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	prometheus := promserver.StartForTest(t, 200*time.Millisecond, promserver.Scrape{Job: "pipeline", Targets: addresses[:1]})
	nowhere, clients := "http://127.0.0.1:1", accesstest.File(t)
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	aJob := func(address, store string) []string {
		return []string{"run", file("job.yaml", strings.NewReplacer("OWN", address, "STORE", store).Replace(job))}
	}
	gate := runs(t, bin, "pipeline", addresses[0], aJob(addresses[0], "{type: sqlite, path: bars.db}"))
	// One that answers when items are written.
	written := runs(t, bin, "pipeline", addresses[8], aJob(addresses[8], "{type: sqlite, path: bars.db}"),
		"HEADGATE_JOB_DAG_NODES_ITEMS_ACKNOWLEDGE=written", "HEADGATE_JOB_DAG_NODES_ITEMS_WAIT=20s")
	guardedGate := runs(t, bin, "pipeline", addresses[1], aJob(addresses[1], "{type: postgres, url: 'postgres://nobody@127.0.0.1:1/none'}"),
		"HEADGATE_PIPELINE_ACCESS_FILE="+clients)
	targets := file("targets.yaml", fmt.Sprintf(`targets:
  - {target: bars, coordinator_ids: [bars], coordinator_url: "%s"}
  - {target: lost, coordinator_ids: [lost], coordinator_url: "%s"}
`, gate, nowhere))
	quick := []string{"HEADGATE_INTERVAL=500ms", "HEADGATE_LEASE=5s", "HEADGATE_QUERY_TIMEOUT=200ms", "HEADGATE_APPLY_TIMEOUT=200ms"}
	loop := runs(t, bin, "controller", addresses[2], nil, append(quick, "HEADGATE_CONTROLLER_LISTEN="+addresses[2],
		"HEADGATE_TARGETS_FILE="+targets, "HEADGATE_PROMETHEUS_URL="+prometheus.URL)...)
	guardedLoop := runs(t, bin, "controller", addresses[3], nil, append(quick, "HEADGATE_CONTROLLER_LISTEN="+addresses[3],
		"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_COORDINATOR_URL="+nowhere, "HEADGATE_PROMETHEUS_URL="+nowhere, "HEADGATE_CONTROLLER_ACCESS_FILE="+clients)...)
	scaler := runs(t, bin, "external-scaler", addresses[4], nil, "HEADGATE_SCALER_LISTEN="+addresses[4], "HEADGATE_SCALER_GRPC_LISTEN="+addresses[5],
		"HEADGATE_SCALER_INTERVAL=500ms", "HEADGATE_QUERY_TIMEOUT=200ms", "HEADGATE_PROMETHEUS_URL="+prometheus.URL)
	guardedScaler := runs(t, bin, "external-scaler", addresses[6], nil, "HEADGATE_SCALER_LISTEN="+addresses[6], "HEADGATE_SCALER_GRPC_LISTEN="+addresses[7],
		"HEADGATE_SCALER_INTERVAL=500ms", "HEADGATE_QUERY_TIMEOUT=200ms", "HEADGATE_PROMETHEUS_URL="+nowhere, "HEADGATE_SCALER_ACCESS_FILE="+clients)
	none := func() string { return "" }
	for _, address := range []string{gate, written, loop, scaler} {
		await(t, address+"/-/ready", none)
	}
	large := `{"reason": "` + strings.Repeat("x", 65<<10) + `"}`

	t.Run("pipeline", func(t *testing.T) {
		d := describe(t, "pipeline")
		const at = "/v1/providers/other"
		for _, q := range []question{
			{method: "GET", path: "/-/healthy", want: 200}, {method: "GET", path: "/-/ready", want: 200}, {method: "GET", path: "/metrics", want: 200},
			{method: "GET", path: "/v1/providers", want: 200}, {method: "GET", path: at, want: 200}, {method: "GET", path: "/v1/providers/none", want: 404},

			{method: "PUT", path: at + "/scale", body: `{"scale": 0.5, "level": "soft", "reason": "law", "ttl": "30s", "holder": "a", "sequence": 7, "share": 0.5}`, want: 200},
			{method: "PUT", path: at + "/scale", body: `{"scale": 1, "ttl": 30, "holder": "b", "sequence": 8}`, want: 409},
			{method: "PUT", path: at + "/scale", body: `{"scale": 1, "ttl": 30, "holder": "a", "sequence": 6}`, want: 409},
			{method: "PUT", path: at + "/scale", body: `{"scale": "much", "ttl": 30, "holder": "a", "sequence": 9}`, want: 400},
			{method: "PUT", path: at + "/scale", body: `{"ttl": "soon", "share": 0, "mood": "good"}`, want: 400},
			{method: "PUT", path: "/v1/providers/none/scale", body: `{"scale": 1, "ttl": 30, "holder": "a", "sequence": 1}`, want: 404},

			{method: "PUT", path: at + "/override", body: `{"scale": 0.2, "ttl": "1m", "holder": "ann", "reason": "a test"}`, want: 200},
			{method: "PUT", path: at + "/override", body: `{"scale": 0.2, "ttl": "1m"}`, want: 400},
			{method: "PUT", path: at + "/override", body: `{"scale": 0.2, "ttl": "1m", "holder": "ann", "reason": "a test", "sequence": 1}`, want: 400},
			{method: "PUT", path: "/v1/providers/none/override", body: `{"scale": 1, "ttl": 30, "holder": "ann", "reason": "a test"}`, want: 404},
			{method: "GET", path: at, want: 200}, // with all owners
			{method: "DELETE", path: at + "/override?holder=ann&reason=over", want: 200},
			{method: "DELETE", path: at + "/override", want: 400},
			{method: "DELETE", path: "/v1/providers/none/override?holder=ann", want: 404},

			{method: "POST", path: at + "/acquire", body: `{"tokens": 20}`, want: 200},
			{method: "POST", path: at + "/acquire", body: `{"tokens": 20, "timeout": "10ms"}`, want: 429},
			{method: "POST", path: at + "/acquire", body: `{"tokens": 0}`, want: 400},
			{method: "POST", path: at + "/acquire", body: `{"tokens": 1, "timeout": "1h"}`, want: 400, beyond: true},
			{method: "POST", path: "/v1/providers/none/acquire", body: `{}`, want: 404},
			{method: "POST", path: at + "/outcome", body: `{"success": false}`, want: 200},
			{method: "POST", path: at + "/outcome", body: `{}`, want: 400},
			{method: "POST", path: "/v1/providers/none/outcome", body: `{"success": true}`, want: 404},
			{method: "POST", path: at + "/cool-down", body: `{"duration": "1m"}`, want: 200},
			{method: "POST", path: at + "/cool-down", body: `{"scope": ""}`, want: 400},
			{method: "POST", path: "/v1/providers/none/cool-down", body: `{}`, want: 404},
			{method: "POST", path: at + "/acquire", body: `{"timeout": 1}`, want: 503},

			{method: "POST", path: "/v1/feedback", body: `{"coordinator_id": "far", "queue_size": 850, "capacity": 1000, "level": "soft", "reason": null, "utilization": 0.85, "source": "store", "ts": 1760500000.5, "newer": 1}`, want: 204},
			{method: "POST", path: "/v1/feedback", body: `{"coordinator_id": "far", "queue_size": -1, "capacity": 0, "level": "SOFT"}`, want: 400},
			{method: "POST", path: "/v1/feedback", body: `{"coordinator_id": "far", "queue_size": 1, "capacity": 9, "level": "bad"}`, want: 400, beyond: true},
			{method: "POST", path: "/feedback", body: `{"coordinator_id": "far", "queue_size": 1, "capacity": 1000, "level": 0}`, want: 204},
			{method: "POST", path: "/feedback", body: `{}`, want: 400},
			{method: "GET", path: "/v1/changes", want: 200, stream: "State"},

			{method: "POST", path: "/v1/items", body: "{\"a\": 1}\n{\"a\": 2}\n", headers: map[string]string{"Idempotency-Key": "k"}, want: 202},
			{method: "POST", path: "/v1/items", body: "{\"a\": 1}\nno\n", want: 400, beyond: true},
			{method: "POST", path: "/v1/items", body: strings.Repeat("{}\n", 501), want: 413},
			{method: "POST", path: "/v1/items", body: strings.Repeat("{}\n", 400), want: 429},
		} {
			d.ask(t, gate, q)
		}
		for _, path := range []string{at + "/scale", at + "/override", at + "/acquire", at + "/outcome", at + "/cool-down", "/v1/feedback", "/feedback"} {
			d.tooLarge(t, gate, path, large)
		}
		d.ask(t, written, question{method: "POST", path: "/v1/items", body: "{\"a\": 1}\n", headers: map[string]string{"Idempotency-Key": "k"}, want: 200})
		d.strangers(t, guardedGate)
		feeder := "Bearer " + accesstest.Token(access.Feed)
		d.ask(t, guardedGate, question{method: "GET", path: "/-/ready", want: 503})
		d.ask(t, guardedGate, question{method: "POST", path: "/v1/items", body: "{}\n", as: feeder, want: 503})
		d.unseen(t, "GET /v1/changes 503") // of internal/route
	})

	t.Run("controller", func(t *testing.T) {
		d := describe(t, "controller")
		// A decision of the law, with all that it was made of.
		decided(t, loop+"/v1/decisions?target=bars&limit=1")
		for _, q := range []question{
			{method: "GET", path: "/-/healthy", want: 200}, {method: "GET", path: "/-/ready", want: 200}, {method: "GET", path: "/metrics", want: 200},
			{method: "GET", path: "/v1/targets", want: 200}, {method: "GET", path: "/v1/targets?a=b", want: 400, beyond: true},
			{method: "GET", path: "/v1/decisions", want: 200}, {method: "GET", path: "/v1/decisions?target=bars&limit=1", want: 200},
			{method: "GET", path: "/v1/decisions?limit=0", want: 400}, {method: "GET", path: "/v1/decisions?target=none", want: 400, beyond: true},

			{method: "PUT", path: "/v1/overrides/ibkr", body: `{"scale": 0.5, "ttl": "1m", "holder": "ann", "reason": "a test"}`, want: 409},
			{method: "PUT", path: "/v1/overrides/ibkr", body: `{"scale": 0.5, "ttl": "1m", "holder": "ann", "reason": "a test", "target": "bars"}`, want: 200},
			{method: "PUT", path: "/v1/overrides/ibkr", body: `{"scale": 0.5, "ttl": "1m", "holder": "ann", "reason": "a test", "target": "lost"}`, want: 502},
			{method: "PUT", path: "/v1/overrides/ibkr", body: `{"scale": 2, "holder": "ann"}`, want: 400},
			{method: "PUT", path: "/v1/overrides/none", body: `{"scale": 0.5, "ttl": "1m", "holder": "ann", "reason": "a test"}`, want: 404},
			{method: "GET", path: "/v1/overrides", want: 200}, {method: "GET", path: "/v1/overrides?a=b", want: 400, beyond: true},
			{method: "GET", path: "/v1/status", want: 200}, {method: "GET", path: "/v1/status?target=bars&search=a&condition=ok&offset=0&limit=200", want: 200},
			{method: "GET", path: "/v1/status?limit=201", want: 400}, {method: "GET", path: "/v1/stream", want: 200, stream: "Status"},
			{method: "GET", path: "/v1/stream?condition=good", want: 400},
			{method: "GET", path: "/v1/history?target=bars", want: 200}, {method: "GET", path: "/v1/history", want: 400},
			{method: "GET", path: "/v1/decisions?target=bars", want: 200}, // with an override

			{method: "DELETE", path: "/v1/overrides/ibkr?holder=ann", want: 409},
			{method: "DELETE", path: "/v1/overrides/ibkr?holder=ann&target=bars&reason=over", want: 200},
			{method: "DELETE", path: "/v1/overrides/ibkr?holder=ann&all=true", want: 502},
			{method: "DELETE", path: "/v1/overrides/ibkr?all=maybe", want: 400},
			{method: "DELETE", path: "/v1/overrides/none?holder=ann", want: 404},
			{method: "GET", path: "/", want: 200},
		} {
			d.ask(t, loop, q)
		}
		for path := range d.doc.Paths.Map() {
			if strings.HasPrefix(path, "/assets/") {
				d.ask(t, loop, question{method: "GET", path: path, want: 200})
			}
		}
		d.tooLarge(t, loop, "/v1/overrides/ibkr", large)
		d.strangers(t, guardedLoop)
		reader := "Bearer " + accesstest.Token(access.Read)
		d.ask(t, guardedLoop, question{method: "GET", path: "/-/ready", want: 503})
		// Where nothing was ever seen.
		for _, path := range []string{"/v1/status?target=bars", "/v1/decisions", "/v1/targets", "/v1/overrides", "/v1/history?target=bars"} {
			d.ask(t, guardedLoop, question{method: "GET", path: path, as: reader, want: 200})
		}
		d.unseen(t, "GET /v1/stream 503") // of internal/route
	})

	t.Run("external-scaler", func(t *testing.T) {
		d := describe(t, "external-scaler")
		asKEDA(t, addresses[5])
		for _, q := range []question{
			{method: "GET", path: "/-/healthy", want: 200}, {method: "GET", path: "/-/ready", want: 200}, {method: "GET", path: "/metrics", want: 200},
			{method: "GET", path: "/v1/explain?scaledObject=demo/pipeline", want: 200},
			{method: "GET", path: "/v1/explain?scaledObject=demo/none", want: 404},
			{method: "GET", path: "/v1/explain?scaledObject=pipeline", want: 400}, {method: "GET", path: "/v1/explain", want: 400},
		} {
			d.ask(t, scaler, q)
		}
		d.strangers(t, guardedScaler)
		d.ask(t, guardedScaler, question{method: "GET", path: "/-/ready", want: 503})
		d.unseen(t)
	})
}

// decided waits until the last decision was made on good signals.
func decided(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), `"reason":"law"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no decision of the law: %s", body)
		}
	}
}

// tooLarge asks with a body that is too large, whatever else is wrong with it.
func (d *description) tooLarge(t *testing.T, base, path, body string) {
	t.Helper()
	method := http.MethodPut
	if !strings.HasSuffix(path, "/scale") && !strings.HasSuffix(path, "/override") && !strings.Contains(path, "/overrides/") {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	route, parameters, err := d.router.FindRoute(r)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: response.StatusCode, Header: response.Header}
	err = errors.Join(err, openapi3filter.ValidateResponse(t.Context(), output.SetBodyBytes(answer)))
	if err != nil || response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%s %s with a large body is answered %d %s: %v", method, path, response.StatusCode, answer, err)
	}
	d.seen[fmt.Sprintf("%s %s %d", method, route.Path, response.StatusCode)] = true
}

// asKEDA asks the scaler about triggers of several metrics, one of them wrong.
func asKEDA(t *testing.T, address string) {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	scaler := keda.NewExternalScalerClient(connection)
	for _, metadata := range []map[string]string{
		{"metric": "queueDepth", "coordinatorIds": "bars"},
		{"metric": "desiredReplicas", "coordinatorIds": "bars"},
		{"metric": "queueDepth", "coordinatorIds": "none"},
	} {
		object := &keda.ScaledObjectRef{Name: "pipeline", Namespace: "demo", ScalerMetadata: metadata}
		specs, err := scaler.GetMetricSpec(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		wrong := metadata["coordinatorIds"] == "none"
		ask := func() error {
			_, err := scaler.GetMetrics(t.Context(), &keda.GetMetricsRequest{ScaledObjectRef: object, MetricName: specs.MetricSpecs[0].MetricName})
			return err
		}
		// The first scrape may be yet to come.
		deadline := time.Now().Add(30 * time.Second)
		for err = ask(); err != nil && !wrong && time.Now().Before(deadline); err = ask() {
			time.Sleep(50 * time.Millisecond)
		}
		if wrong != (err != nil) {
			t.Errorf("%v: got the error %v", metadata, err)
		}
	}
}
