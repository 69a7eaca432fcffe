package httpapi_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
)

// FuzzRequests sends whatever body with whatever query to each route that
// changes something. What is refused is explained and changes nothing, and nothing
// puts a rate above the budget.
func FuzzRequests(f *testing.F) {
	for _, seed := range []struct{ body, query string }{
		{`{"scale": 0.5, "level": "soft", "reason": "r", "ttl": "15s", "holder": "a", "sequence": 1}`, ""},
		{`{"scale": 7, "reason": "r", "ttl": 1e-9, "holder": "ann"}`, "holder=ann&reason=over"},
		{`{"tokens": 1, "timeout": 0}`, "holder=%00&holder=b"},
		{`{"success": false}`, "holder=" + strings.Repeat("x", 300)},
		{`{"scope": "orders", "duration": "1h"}`, "reason"},
		{`{"coordinator_id": "bars", "queue_size": 850, "capacity": 1000, "level": "hard", "ts": 1e18}`, "%zz"},
		{`{"scale": 0.5, "share": 1e-300, "ttl": 1, "holder": "a", "sequence": 18446744073709551615}`, ""},
	} {
		f.Add([]byte(seed.body), seed.query)
	}
	quiet := slog.New(slog.DiscardHandler)
	provider := coordinator.Provider{Name: "ibkr", BasePerSecond: 100, Burst: 10, FloorPerSecond: 1, SafeScale: 0.5}
	f.Fuzz(func(t *testing.T, body []byte, query string) {
		if strings.Contains(string(body), "timeout") {
			return // FuzzDecodeAcquire has it; here one would have to wait
		}
		gate := coordinator.New(coordinator.WithLogger(quiet))
		defer gate.Close()
		if err := gate.Register(provider); err != nil {
			t.Fatal(err)
		}
		api := httpapi.New(t.Context(), gate, feedback.NewBus(quiet), quiet, access.Everyone())
		for _, r := range httpapi.Routes() {
			if r.Method == "GET" {
				continue
			}
			before := gate.States()[0].Version
			request := httptest.NewRequest(r.Method, strings.ReplaceAll(r.Pattern, "{provider}", "ibkr"), strings.NewReader(string(body)))
			request.URL.RawQuery = query
			w := httptest.NewRecorder()
			api.ServeHTTP(w, request)
			state := gate.States()[0]
			if !(state.EffectivePerSecond >= provider.FloorPerSecond && state.EffectivePerSecond <= provider.BasePerSecond) || state.BasePerSecond != provider.BasePerSecond {
				t.Fatalf("%s %s leaves a rate of %v of %v", r.Method, r.Pattern, state.EffectivePerSecond, state.BasePerSecond)
			}
			if !slices.Contains([]int{200, 202, 400, 409, 422, 429, 503}, w.Code) {
				t.Fatalf("%s %s is answered %d %s", r.Method, r.Pattern, w.Code, w.Body)
			}
			if w.Code < 300 {
				continue
			}
			var said struct {
				Error  string
				Fields []struct{ Field, Got, Want string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || said.Error == "" || w.Code == 400 && (len(said.Fields) == 0 || said.Fields[0].Field == "" || said.Fields[0].Want == "") {
				t.Fatalf("%s %s: %d does not say what was wrong: %s", r.Method, r.Pattern, w.Code, w.Body)
			}
			if w.Code == 400 && state.Version != before {
				t.Fatalf("%s %s: what was refused has changed something", r.Method, r.Pattern)
			}
		}
	})
}
