package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/pressure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a coordinator with the provider ibkr, and the fast loop wired to
// it, behind HTTP.
type served struct {
	*coordinator.Coordinator
	bus    *feedback.Bus
	client *client.Client
	url    string
	stop   context.CancelFunc // ends the streams
}

func serve(t testing.TB) served {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	gate := coordinator.New()
	err := gate.Register(coordinator.Provider{Name: "ibkr", BasePerSecond: 100, Burst: 10, FloorPerSecond: 1, SafeScale: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	bus := feedback.NewBus(log)
	bus.Subscribe("gate", feedback.NewHandler(gate, feedback.DefaultStep(), 0, "ibkr").Handle)
	ctx, stop := context.WithCancel(context.Background())
	server := httptest.NewServer(httpapi.New(ctx, gate, bus, log, access.Everyone()))
	c, err := client.New(server.URL, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		gate.Close()
		server.Close()
	})
	return served{gate, bus, c, server.URL, stop}
}

func leased(holder string, sequence uint64, scale float64) coordinator.ScaleRequest {
	return coordinator.ScaleRequest{
		Owner: coordinator.OwnerController, Holder: holder, Sequence: sequence,
		Scale: scale, Level: pressure.Soft, Reason: "test", TTL: time.Minute,
	}
}

// state is what must not change: everything but what the clock changes.
func (s served) state(t *testing.T) string {
	t.Helper()
	states := s.States()
	for i := range states {
		for j := range states[i].Scales {
			states[i].Scales[j].AgeSeconds = 0
			states[i].Scales[j].ExpiresInSeconds = nil
		}
	}
	data, err := json.Marshal(states)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBadInputNamesItsFieldAndChangesNothing(t *testing.T) {
	const (
		scale    = "PUT /v1/providers/ibkr/scale"
		override = "PUT /v1/providers/ibkr/override"
		acquire  = "POST /v1/providers/ibkr/acquire"
		outcome  = "POST /v1/providers/ibkr/outcome"
		coolDown = "POST /v1/providers/ibkr/cool-down"
		events   = "POST /v1/feedback"
		good     = `"level": "soft", "reason": "r", "ttl": 15, "holder": "a"`
	)
	huge := `{"reason": "` + strings.Repeat("x", 10<<20) + `"}`
	for _, test := range []struct {
		name, request, body string
		status              int
		field               string
	}{
		{"no body", scale, ``, 400, "body"},
		{"no JSON", scale, `scale=1`, 400, "body"},
		{"an array", scale, `[1]`, 400, "body"},
		{"something after the object", scale, `{"scale": 1, "sequence": 9, ` + good + `} {}`, 400, "body"},
		{"a scale that is a word", scale, `{"scale": "half", "sequence": 9, ` + good + `}`, 400, "scale"},
		{"a scale that is NaN", scale, `{"scale": NaN, "sequence": 9, ` + good + `}`, 400, "scale"},
		{"a scale beyond all numbers", scale, `{"scale": 1e999, "sequence": 9, ` + good + `}`, 400, "scale"},
		{"no scale", scale, `{"sequence": 9, ` + good + `}`, 400, "scale"},
		{"a negative sequence", scale, `{"scale": 1, "sequence": -9, ` + good + `}`, 400, "sequence"},
		{"no sequence", scale, `{"scale": 1, ` + good + `}`, 400, "sequence"},
		{"an unknown level", scale, `{"scale": 1, "sequence": 9, "level": "mild", "ttl": 15, "holder": "a"}`, 400, "level"},
		{"a negative ttl", scale, `{"scale": 1, "sequence": 9, "ttl": -1, "holder": "a"}`, 400, "ttl"},
		{"a ttl that is no duration", scale, `{"scale": 1, "sequence": 9, "ttl": "soon", "holder": "a"}`, 400, "ttl"},
		{"no ttl", scale, `{"scale": 1, "sequence": 9, "holder": "a"}`, 400, "ttl"},
		{"no holder", scale, `{"scale": 1, "sequence": 9, "ttl": 15}`, 400, "holder"},
		{"an unknown field", scale, `{"scale": 1, "sequence": 9, "force": true, ` + good + `}`, 400, "force"},
		{"10 MB", scale, huge, 413, "body"},
		{"an unknown provider", "PUT /v1/providers/nobody/scale", `{"scale": 1, "sequence": 9, ` + good + `}`, 404, "provider"},
		{"a stale sequence", scale, `{"scale": 1, "sequence": 4, ` + good + `}`, 409, ""},
		{"a foreign holder", scale, `{"scale": 1, "sequence": 9, "ttl": 15, "holder": "b"}`, 409, ""},

		{"an override without a reason", override, `{"scale": 1, "ttl": 15, "holder": "ann"}`, 400, "reason"},
		{"an override without an end", override, `{"scale": 1, "reason": "r", "holder": "ann"}`, 400, "ttl"},
		{"an override by nobody", override, `{"scale": 1, "reason": "r", "ttl": 15}`, 400, "holder"},
		{"an override with a sequence", override, `{"scale": 1, "sequence": 1, "reason": "r", "ttl": 15, "holder": "ann"}`, 400, "sequence"},
		{"an override of 10 MB", override, huge, 413, "body"},
		{"an override of an unknown provider", "PUT /v1/providers/nobody/override", `{}`, 404, "provider"},
		{"an end to it by nobody", "DELETE /v1/providers/ibkr/override", ``, 400, "holder"},
		{"an end to it for an unknown provider", "DELETE /v1/providers/nobody/override?holder=ann", ``, 404, "provider"},

		{"no tokens", acquire, `{"tokens": 0}`, 400, "tokens"},
		{"half a token", acquire, `{"tokens": 0.5}`, 400, "tokens"},
		{"more tokens than the burst", acquire, `{"tokens": 11}`, 400, "tokens"},
		{"a negative time-out", acquire, `{"tokens": 1, "timeout": "-1s"}`, 400, "timeout"},
		{"a time-out of a day", acquire, `{"tokens": 1, "timeout": "24h"}`, 400, "timeout"},
		{"tokens of an unknown provider", "POST /v1/providers/nobody/acquire", `{"tokens": 1}`, 404, "provider"},
		{"tokens, 10 MB", acquire, huge, 413, "body"},

		{"an outcome that says nothing", outcome, `{}`, 400, "success"},
		{"an outcome that is a number", outcome, `{"success": 1}`, 400, "success"},
		{"an outcome of an unknown provider", "POST /v1/providers/nobody/outcome", `{"success": true}`, 404, "provider"},
		{"an outcome of 10 MB", outcome, huge, 413, "body"},
		{"a cool-down of nothing", coolDown, `{"scope": ""}`, 400, "scope"},
		{"a negative cool-down", coolDown, `{"duration": -5}`, 400, "duration"},
		{"a cool-down that is no duration", coolDown, `{"duration": []}`, 400, "duration"},
		{"a cool-down of an unknown provider", "POST /v1/providers/nobody/cool-down", `{}`, 404, "provider"},
		{"a cool-down of 10 MB", coolDown, huge, 413, "body"},

		{"an event that is no JSON", events, `level: hard`, 400, "body"},
		{"an event without a queue", events, `{"capacity": 10, "level": "hard", "queue_size": 1}`, 400, "coordinator_id"},
		{"an event with a negative queue", events, `{"coordinator_id": "bars", "capacity": 10, "level": "hard", "queue_size": -1}`, 400, "queue_size"},
		{"an event without a capacity", events, `{"coordinator_id": "bars", "level": "hard", "queue_size": 1}`, 400, "capacity"},
		{"an event whose capacity is NaN", events, `{"coordinator_id": "bars", "capacity": NaN, "level": "hard", "queue_size": 1}`, 400, "capacity"},
		{"an event of an unknown level", events, `{"coordinator_id": "bars", "capacity": 10, "level": "mild", "queue_size": 1}`, 400, "level"},
		{"an event of 10 MB", "POST /feedback", huge, 413, "body"},

		{"a state of an unknown provider", "GET /v1/providers/nobody", ``, 404, "provider"},
		{"an unknown path", "GET /v2/providers", ``, 404, ""},
		{"a wrong method", "DELETE /v1/providers/ibkr", ``, 405, ""},
		{"a wrong method for a stream", "POST /v1/changes", ``, 405, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t)
			if _, err := s.Apply("ibkr", leased("a", 5, 0.5)); err != nil {
				t.Fatal(err)
			}
			before := s.state(t)
			method, path, _ := strings.Cut(test.request, " ")
			request, err := http.NewRequest(method, s.url+path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var said struct {
				Error  string
				Fields []struct{ Field, Got, Want string }
			}
			if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
				t.Fatalf("the answer is no JSON: %v", err)
			}
			if response.StatusCode != test.status || said.Error == "" {
				t.Errorf("got %d and %q, want %d", response.StatusCode, said.Error, test.status)
			}
			if test.field != "" && (len(said.Fields) == 0 || said.Fields[0].Field != test.field || said.Fields[0].Want == "") {
				t.Errorf("got the fields %v, want %s and what would be right", said.Fields, test.field)
			}
			if diff := cmp.Diff(before, s.state(t)); diff != "" {
				t.Errorf("the state changed: %s", diff)
			}
		})
	}
}

func TestTheClientSpeaksEveryCall(t *testing.T) {
	s, ctx := serve(t), context.Background()
	want := func(what string, state coordinator.State, err error, scale float64) {
		t.Helper()
		if err != nil || state.Scale != scale {
			t.Errorf("%s: got %v and %v, want %v", what, state.Scale, err, scale)
		}
	}
	state, err := s.client.Apply(ctx, "ibkr", leased("a", 5, 0.5))
	want("apply", state, err, 0.5)
	state, err = s.client.Override(ctx, "ibkr", 0.25, "ann", "maintenance", time.Minute)
	want("override", state, err, 0.25)
	state, err = s.client.ClearOverride(ctx, "ibkr", "ann", "done & over")
	want("clear", state, err, 0.5)
	state, err = s.client.State(ctx, "ibkr")
	want("state", state, err, 0.5)
	if states, err := s.client.States(ctx); err != nil || len(states) != 1 {
		t.Errorf("states: got %v and %v", states, err)
	}
	if err := s.client.Acquire(ctx, "ibkr", 10, time.Second); err != nil {
		t.Errorf("acquire: %v", err)
	}
	if err := s.client.Feedback(ctx, pressure.Event{CoordinatorID: "bars", Capacity: 10, QueueSize: 9, Level: pressure.Hard}); err != nil {
		t.Errorf("feedback: %v", err)
	}
	state, err = s.client.State(ctx, "ibkr")
	want("after the event", state, err, 0)

	var conflict *coordinator.ConflictError
	_, err = s.client.Apply(ctx, "ibkr", leased("b", 1, 1))
	if !errors.As(err, &conflict) || conflict.Holder != "a" || conflict.ExpiresIn <= 0 {
		t.Errorf("a foreign holder: got %v, want the conflict with a", err)
	}
	if _, err = s.client.State(ctx, "nobody"); !errors.Is(err, coordinator.ErrUnknownProvider) {
		t.Errorf("an unknown provider: got %v", err)
	}
	var refused *client.Error
	err = s.client.Acquire(ctx, "ibkr", 10, 0)
	if !errors.As(err, &refused) || refused.Status != http.StatusTooManyRequests {
		t.Errorf("tokens that are not there: got %v, want 429", err)
	}
}

func TestAPathThatIsNoCoordinatorIsNoUnknownProvider(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	c, err := client.New(server.URL, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.State(context.Background(), "ibkr"); err == nil || errors.Is(err, coordinator.ErrUnknownProvider) {
		t.Errorf("got %v, want an error that does not blame the provider", err)
	}
	for _, base := range []string{"", "127.0.0.1:9400", "ftp://x", "http://", "http://x?y"} {
		if _, err := client.New(base, nil); err == nil {
			t.Errorf("%q passed for an address", base)
		}
	}
}

func TestWhoTellsWhenToComeAgain(t *testing.T) {
	s := serve(t)
	s.CoolDown("ibkr", coordinator.GlobalScope, 90*time.Second)
	response, err := http.Post(s.url+"/v1/providers/ibkr/acquire", "application/json", strings.NewReader(`{"tokens": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "90" {
		t.Errorf("got %d, Retry-After %q; want 503 and 90", response.StatusCode, response.Header.Get("Retry-After"))
	}
}

func TestTheStreamTellsStatesAndEvents(t *testing.T) {
	s := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	changes, ended := make(chan client.Change, 100), make(chan struct{})
	go func() {
		defer close(ended)
		s.client.Follow(ctx, func(c client.Change) { changes <- c }, nil)
	}()
	if first := <-changes; first.State == nil || first.State.Scale != 1 {
		t.Errorf("the first is %+v, want the state as it is", first)
	}
	s.bus.Publish(pressure.Event{CoordinatorID: "bars", Capacity: 10, QueueSize: 9, Level: pressure.Hard})
	var state, event bool
	for !state || !event {
		c := <-changes
		state = state || c.State != nil && c.State.Scale == 0
		event = event || c.Event != nil && c.Event.Level == pressure.Hard
	}
	cancel()
	<-ended
}

func TestAStreamThatBreaksIsOpenedAgain(t *testing.T) {
	s := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes, lost, ended := make(chan client.Change, 100), make(chan error, 100), make(chan struct{})
	var proxied http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		// One stream is cut after its first bytes, as a proxy might.
		response, err := http.Get(s.url + r.URL.Path)
		if err != nil {
			return
		}
		defer response.Body.Close()
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		first := make([]byte, 4096)
		for sent := 0; sent < 50; {
			n, err := response.Body.Read(first)
			w.Write(first[:n])
			sent += n
			if err != nil {
				return
			}
		}
	}
	proxy := httptest.NewServer(proxied)
	defer proxy.Close()
	c, err := client.New(proxy.URL, proxy.Client())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		c.Follow(ctx, func(c client.Change) { changes <- c }, func(err error) { lost <- err })
	}()
	for range 2 {
		if c := <-changes; c.State == nil {
			t.Errorf("got %+v, want the states first on each stream", c)
		}
		if err := <-lost; err == nil {
			t.Error("want to be told why the stream was lost")
		}
	}
	cancel()
	<-ended
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	s := serve(t)
	response, err := http.Get(s.url + "/v1/changes")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	s.stop()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Errorf("got %v, want a clean end of the stream", err)
	}
}

func TestEveryRouteAnswersJSONForWrongMethods(t *testing.T) {
	s := serve(t)
	for _, route := range httpapi.Routes() {
		path := strings.ReplaceAll(route.Pattern, "{provider}", "ibkr")
		request, err := http.NewRequest("PATCH", s.url+path, bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") == "" {
			t.Errorf("PATCH %s: got %d, want 405 and the methods that are right", path, response.StatusCode)
		}
	}
}
