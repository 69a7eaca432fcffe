package overrides

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/internal/route"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}))
}

// fakeLoop is a Loop whose rows a test sets.
type fakeLoop struct {
	mu   sync.Mutex
	rows []controller.Row
}

func (l *fakeLoop) Rows() []controller.Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]controller.Row{}, l.rows...)
}

// decided makes a target's last decision one of that time, with what was read
// back.
func (l *fakeLoop) decided(target string, at time.Time, override *controller.Override, applyError string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, row := range l.rows {
		if row.Target.Name == target {
			l.rows[i].Latest = []*controller.Decision{{At: at, Target: target, Override: override, ApplyError: applyError}}
		}
	}
}

// bench is a desk for two coordinators, which are real but for their ports:
// targets bars and trades throttle ibkr at one, loads throttles it at another,
// and files throttles bulk there.
type bench struct {
	desk           *Desk
	api            http.Handler
	loop           *fakeLoop
	one, two       *coordinator.Coordinator
	urlOne, urlTwo string
	log            *logBuffer
	breakTwo       func()
}

// logBuffer collects records.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// records are those since the last call, each without its time.
func (b *logBuffer) records(t *testing.T) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []map[string]any
	for line := range bytes.Lines(b.text.Bytes()) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		if _, err := time.Parse(time.RFC3339, record["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(record, "time")
		all = append(all, record)
	}
	b.text.Reset()
	return all
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{loop: &fakeLoop{}, log: &logBuffer{}}
	quiet := slog.New(slog.DiscardHandler)
	serve := func(providers ...string) (*coordinator.Coordinator, *httptest.Server) {
		c := coordinator.New()
		t.Cleanup(c.Close)
		for _, name := range providers {
			if err := c.Register(coordinator.Provider{Name: name, BasePerSecond: 100, Burst: 10, FailMode: coordinator.FailSafe, SafeScale: 0.5}); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(httpapi.New(t.Context(), c, feedback.NewBus(quiet), quiet, access.Everyone()))
		t.Cleanup(server.Close)
		return c, server
	}
	var one, two *httptest.Server
	b.one, one = serve("ibkr")
	b.two, two = serve("ibkr", "bulk")
	b.urlOne, b.urlTwo, b.breakTwo = one.URL, two.URL, two.Close
	coordinators := map[string]Coordinator{}
	for _, url := range []string{one.URL, two.URL} {
		c, err := client.New(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		coordinators[url] = c
	}
	for _, row := range []struct{ target, provider, url string }{
		{"bars", "ibkr", one.URL}, {"trades", "ibkr", one.URL}, {"loads", "ibkr", two.URL}, {"files", "bulk", two.URL},
	} {
		b.loop.rows = append(b.loop.rows, controller.Row{Target: &controller.Target{
			Name: row.target, Providers: []controller.Provider{{Name: row.provider, URL: row.url}},
		}})
	}
	desk, err := New(b.loop, coordinators, 5*time.Second, slog.New(slog.NewJSONHandler(b.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	b.desk, b.api = desk, route.Mux(desk.Routes(), access.Everyone())
	return b
}

// answered is what the desk answers, as far as these tests look.
type answered struct {
	Results []struct {
		Provider       string
		CoordinatorURL string `json:"coordinator_url"`
		Targets        []string
		State          *struct{ Scale float64 }
		Error          string
	}
	Overrides []struct {
		Provider  string
		Targets   []string
		Holder    string
		Scale     float64
		Reason    string
		ExpiresAt time.Time `json:"expires_at"`
	}
	Unread []struct {
		Targets []string
		Error   string
	}
	Error  string
	Fields []struct{ Field string }
	Places []struct{ Targets []string }
}

func (b *bench) ask(t *testing.T, method, path, body string, headers ...string) (int, answered) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	b.api.ServeHTTP(w, r)
	var a answered
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return w.Code, a
}

// scale is what is in force of a provider.
func scale(t *testing.T, c *coordinator.Coordinator, provider string) float64 {
	t.Helper()
	s, err := c.State(provider)
	if err != nil {
		t.Fatal(err)
	}
	return s.Scale
}

func TestAnOverrideGoesToTheCoordinatorAndIntoTheAuditLog(t *testing.T) {
	b := newBench(t)
	status, got := b.ask(t, "PUT", "/v1/overrides/bulk", `{"scale": 0.2, "ttl": "15m", "holder": "ann", "reason": "store is moved"}`)
	if status != 200 || len(got.Results) != 1 || got.Results[0].State.Scale != 0.2 || got.Results[0].Targets[0] != "files" {
		t.Errorf("got %d: %+v", status, got)
	}
	if s := scale(t, b.two, "bulk"); s != 0.2 {
		t.Errorf("the coordinator has %v", s)
	}
	records := b.log.records(t)
	if len(records) != 1 {
		t.Fatalf("the log has %v", records)
	}
	expires, err := time.Parse(time.RFC3339, records[0]["expires_at"].(string))
	if left := time.Until(expires); err != nil || left < 14*time.Minute || left > 16*time.Minute {
		t.Errorf("expires_at is %v, %v", records[0]["expires_at"], err)
	}
	delete(records[0], "expires_at")
	want := map[string]any{
		"level": "WARN", "msg": "override forwarded", "audit": "override", "action": "set", "provider": "bulk", "holder": "ann",
		"reason": "store is moved", "scale": 0.2, "coordinator": b.urlTwo, "targets": []any{"files"}, "from": "192.0.2.1:1234",
	}
	if diff := cmp.Diff(want, records[0]); diff != "" {
		t.Errorf("the record differs (-want +got):\n%s", diff)
	}

	status, got = b.ask(t, "DELETE", "/v1/overrides/bulk?holder=bob&reason=it+was+moved", "")
	if status != 200 || len(got.Results) != 1 || got.Results[0].State.Scale != 1 {
		t.Errorf("got %d: %+v", status, got)
	}
	want = map[string]any{
		"level": "WARN", "msg": "override forwarded", "audit": "override", "action": "cleared", "provider": "bulk", "holder": "bob",
		"reason": "it was moved", "coordinator": b.urlTwo, "targets": []any{"files"}, "from": "192.0.2.1:1234",
	}
	if diff := cmp.Diff([]map[string]any{want}, b.log.records(t)); diff != "" {
		t.Errorf("the log differs (-want +got):\n%s", diff)
	}
}

func TestAProviderAtSeveralCoordinatorsHasToBeChosen(t *testing.T) {
	const rest = `"scale": 0.5, "ttl": 60, "holder": "ann", "reason": "r"`
	tests := []struct {
		name, body string
		status     int
		one, two   float64 // the scales after it
		says       string
	}{
		{"neither a target nor all", `{` + rest + `}`, http.StatusConflict, 1, 1, "2 coordinators"},
		{"by one of two targets at the same coordinator", `{"target": "trades", ` + rest + `}`, http.StatusOK, 0.5, 1, ""},
		{"by the target at the other", `{"target": "loads", ` + rest + `}`, http.StatusOK, 1, 0.5, ""},
		{"all", `{"all": true, ` + rest + `}`, http.StatusOK, 0.5, 0.5, ""},
		{"a target and all", `{"target": "loads", "all": true, ` + rest + `}`, http.StatusBadRequest, 1, 1, "target"},
		{"a target that throttles another provider", `{"target": "files", ` + rest + `}`, http.StatusNotFound, 1, 1, `"files"`},
		{"a target that is none", `{"target": "nobody", ` + rest + `}`, http.StatusNotFound, 1, 1, `"nobody"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			status, got := b.ask(t, "PUT", "/v1/overrides/ibkr", test.body)
			if status != test.status || !strings.Contains(got.Error, test.says) {
				t.Errorf("got %d: %+v", status, got)
			}
			if one, two := scale(t, b.one, "ibkr"), scale(t, b.two, "ibkr"); one != test.one || two != test.two {
				t.Errorf("the scales are %v and %v, want %v and %v", one, two, test.one, test.two)
			}
			if status == http.StatusConflict && len(got.Places) != 2 {
				t.Errorf("the places to choose among are %+v", got.Places)
			}
			if status != http.StatusOK && len(b.log.records(t)) != 0 {
				t.Error("a request that was refused is in the audit log")
			}
		})
	}
}

func TestACoordinatorThatDoesNotAnswerIsToldBesideThoseThatDid(t *testing.T) {
	b := newBench(t)
	b.breakTwo()
	status, got := b.ask(t, "PUT", "/v1/overrides/ibkr", `{"all": true, "scale": 0.5, "ttl": 60, "holder": "ann", "reason": "r"}`)
	if status != http.StatusBadGateway || len(got.Results) != 2 || got.Results[0].State == nil || got.Results[1].Error == "" || got.Results[1].State != nil {
		t.Errorf("got %d: %+v", status, got)
	}
	messages := map[any]int{}
	for _, r := range b.log.records(t) {
		messages[r["msg"]]++
	}
	if diff := cmp.Diff(map[any]int{"override forwarded": 1, "override not forwarded": 1}, messages); diff != "" {
		t.Errorf("the audit log differs:\n%s", diff)
	}
}

// half is a coordinator of two replicas of which one is gone.
type half struct{ Coordinator }

func (h half) Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error) {
	s, err := h.Coordinator.Override(ctx, provider, scale, who, reason, ttl)
	return s, errors.Join(err, &controller.PartialError{Of: 2, Failed: []error{errors.New("replica 2 is gone")}})
}

func TestReplicasThatDoNotAnswerAreToldBesideTheStateOfTheOthers(t *testing.T) {
	b := newBench(t)
	for _, p := range b.desk.places {
		p.coordinator = half{p.coordinator}
	}
	status, got := b.ask(t, "PUT", "/v1/overrides/bulk", `{"scale": 0.5, "ttl": 60, "holder": "ann", "reason": "r"}`)
	if r := got.Results; status != http.StatusBadGateway || len(r) != 1 || r[0].State == nil || r[0].State.Scale != 0.5 || !strings.Contains(r[0].Error, "replica 2 is gone") {
		t.Errorf("got %d: %+v", status, got)
	}
	if _, list := b.ask(t, "GET", "/v1/overrides", ""); len(list.Overrides) != 1 {
		t.Errorf("the list has %+v", list.Overrides)
	}
}

func TestWhatIsWrongWithARequestIsToldAtOnceAndChangesNothing(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		fields                   string
	}{
		{"nothing at all", "PUT", "/v1/overrides/bulk", `{}`, 400, "scale reason holder ttl"},
		{"a scale beyond its range", "PUT", "/v1/overrides/bulk", `{"scale": 2, "ttl": "1m", "holder": "a", "reason": "r"}`, 400, "scale"},
		{"a time that is none", "PUT", "/v1/overrides/bulk", `{"scale": 1, "ttl": "soon", "holder": "a", "reason": "r"}`, 400, "ttl"},
		{"more than a week", "PUT", "/v1/overrides/bulk", `{"scale": 1, "ttl": "169h", "holder": "a", "reason": "r"}`, 400, "ttl"},
		{"a member that is none", "PUT", "/v1/overrides/bulk", `{"scales": 1}`, 400, "scales"},
		{"no JSON", "PUT", "/v1/overrides/bulk", `scale=1`, 400, "body"},
		{"a provider that is none", "PUT", "/v1/overrides/none", `{"scale": 1, "ttl": "1m", "holder": "a", "reason": "r"}`, 404, "provider"},
		{"a query", "PUT", "/v1/overrides/bulk?force=1", `{"scale": 1, "ttl": "1m", "holder": "a", "reason": "r"}`, 400, "force"},
		{"cleared by nobody", "DELETE", "/v1/overrides/bulk", "", 400, "holder"},
		{"cleared by a name that is too long", "DELETE", "/v1/overrides/bulk?holder=" + strings.Repeat("a", 257), "", 400, "holder"},
		{"cleared everywhere, perhaps", "DELETE", "/v1/overrides/bulk?holder=a&all=perhaps", "", 400, "all"},
		{"two names", "DELETE", "/v1/overrides/bulk?holder=a&holder=b", "", 400, "holder"},
		{"a list by parameters", "GET", "/v1/overrides?provider=bulk", "", 400, "provider"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			status, got := b.ask(t, test.method, test.path, test.body)
			var fields []string
			for _, f := range got.Fields {
				fields = append(fields, f.Field)
			}
			if status != test.status || strings.Join(fields, " ") != test.fields {
				t.Errorf("got %d, %q: %s", status, fields, got.Error)
			}
			if s := scale(t, b.two, "bulk"); s != 1 {
				t.Errorf("the scale is %v", s)
			}
		})
	}
}

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	b := newBench(t)
	status, got := b.ask(t, "PUT", "/v1/overrides/bulk", `{"reason": "`+strings.Repeat("long ", 20_000)+`"}`)
	if status != http.StatusRequestEntityTooLarge || got.Error == "" {
		t.Errorf("got %d: %+v", status, got)
	}
}

func TestAPageOfAnotherOriginCannotTurnTheGate(t *testing.T) {
	b := newBench(t)
	const body = `{"scale": 0, "ttl": "1m", "holder": "a", "reason": "r"}`
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"},
	} {
		if status, got := b.ask(t, "PUT", "/v1/overrides/bulk", body, headers...); status != http.StatusForbidden || got.Error == "" {
			t.Errorf("with %v: %d, %+v", headers, status, got)
		}
		if status, _ := b.ask(t, "DELETE", "/v1/overrides/bulk?holder=a", "", headers...); status != http.StatusForbidden {
			t.Errorf("with %v: DELETE is answered with %d", headers, status)
		}
	}
	if s := scale(t, b.two, "bulk"); s != 1 {
		t.Errorf("the scale is %v", s)
	}
	if status, got := b.ask(t, "PUT", "/v1/overrides/bulk", body, "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
		t.Errorf("from the page itself: %d, %+v", status, got)
	}
}

func TestTheListHasWhatWasReadBackLast(t *testing.T) {
	b := newBench(t)
	list := func() (answered, string) {
		t.Helper()
		_, got := b.ask(t, "GET", "/v1/overrides", "")
		var text []string
		for _, o := range got.Overrides {
			text = append(text, o.Provider+" of "+strings.Join(o.Targets, "+")+" by "+o.Holder)
		}
		for _, u := range got.Unread {
			text = append(text, "? "+strings.Join(u.Targets, "+")+": "+u.Error)
		}
		return got, strings.Join(text, "; ")
	}
	want := func(when, want string) {
		t.Helper()
		if _, got := list(); got != want {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
	}
	want("before the first tick", "? bars+trades: it was not read yet; ? loads: it was not read yet; ? files: it was not read yet")

	now := time.Now()
	for _, target := range []string{"bars", "trades", "loads", "files"} {
		b.loop.decided(target, now, nil, "")
	}
	want("without an override", "")

	b.ask(t, "PUT", "/v1/overrides/ibkr", `{"target": "bars", "scale": 0.5, "ttl": "2h", "holder": "ann", "reason": "r"}`)
	b.ask(t, "PUT", "/v1/overrides/bulk", `{"scale": 0.5, "ttl": "1h", "holder": "bob", "reason": "r"}`)
	want("before the next tick, by expiry", "bulk of files by bob; ibkr of bars+trades by ann")

	later := time.Now().Add(time.Second)
	byEve := &controller.Override{Holder: "eve", Scale: 0.25, Reason: "r", ExpiresAt: now.Add(3 * time.Hour)}
	b.loop.decided("bars", later, byEve, "")
	b.loop.decided("trades", later, byEve, "")
	want("replaced elsewhere", "bulk of files by bob; ibkr of bars+trades by eve")

	b.loop.decided("files", later, nil, "connection refused")
	want("out of reach since", "bulk of files by bob; ibkr of bars+trades by eve; ? files: connection refused")

	b.loop.decided("files", later, nil, "")
	b.loop.decided("bars", later, &controller.Override{Holder: "eve", ExpiresAt: now.Add(-time.Second)}, "")
	b.loop.decided("trades", later, &controller.Override{Holder: "eve", ExpiresAt: now.Add(-time.Second)}, "")
	want("cleared elsewhere, and expired", "")

	b.loop.mu.Lock()
	disabled := *b.loop.rows[3].Target
	disabled.Disabled = true
	b.loop.rows[3] = controller.Row{Target: &disabled}
	b.loop.mu.Unlock()
	want("disabled", "? files: its targets are disabled, so it is not read")
}

func TestTheErrorsOfADeskTellWhatToDo(t *testing.T) {
	b := newBench(t)
	var ambiguous *AmbiguousError
	if _, err := b.desk.Set(t.Context(), Selection{Provider: "ibkr"}, Request{Scale: 0, TTL: time.Minute, Holder: "a", Reason: "r"}, ""); !errors.As(err, &ambiguous) {
		t.Errorf("got %v", err)
	}
	_, err := b.desk.Set(t.Context(), Selection{Provider: "ibkr"}, Request{Scale: math.NaN(), TTL: time.Minute, Holder: "a", Reason: "r"}, "")
	if fields := invalid.All(err); len(fields) != 1 || fields[0].Field != "scale" {
		t.Errorf("got %v", err)
	}
	if _, err := New(b.loop, nil, time.Second, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), b.urlOne) {
		t.Errorf("without coordinators: %v", err)
	}
}

func FuzzDecodeSet(f *testing.F) {
	f.Add([]byte(`{"scale": 0.5, "ttl": "15m", "holder": "ann", "reason": "r", "target": "bars"}`))
	f.Add([]byte(`{"scale": -1, "ttl": 1e300, "all": true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, _, err := decodeSet(body)
		switch {
		case err != nil:
			invalidtest.Explained(t, err)
		case !(r.Scale >= 0 && r.Scale <= 1) || r.TTL <= 0 || r.Holder == "" || r.Reason == "":
			t.Errorf("got through: %+v", r)
		}
	})
}
