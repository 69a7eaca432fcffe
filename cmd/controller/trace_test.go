package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/tracing/receiver"
)

// newPrometheus answers the controller's query with a depth of 900 items of the
// coordinator bars, sampled at this moment.
func newPrometheus(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := float64(time.Now().UnixMilli()) / 1000
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[
			{"metric":{"headgate_part":"now"},"value":[%[1]f,"0"]},
			{"metric":{"__name__":"coordinator_queue_depth","coordinator_id":"bars","headgate_part":"0"},"value":[%[1]f,"900"]},
			{"metric":{"coordinator_id":"bars","headgate_part":"0:0"},"value":[%[1]f,"%[1]f"]}
		]}}`, now)
	}))
	t.Cleanup(server.Close)
	return server
}

// told is what a coordinator is told of the traces.
type told struct {
	mu      sync.Mutex
	headers []string // traceparent, of each request that puts a scale
}

func (t *told) of(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			t.mu.Lock()
			t.headers = append(t.headers, r.Header.Get("Traceparent"))
			t.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

func (t *told) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.headers)
}

// newCoordinator serves a provider ibkr.
func newCoordinator(t *testing.T, through func(http.Handler) http.Handler) *httptest.Server {
	quiet := slog.New(slog.DiscardHandler)
	gate := coordinator.New(coordinator.WithLogger(quiet))
	t.Cleanup(gate.Close)
	if err := gate.Register(coordinator.Provider{
		Name: "ibkr", BasePerSecond: 400, Burst: 10, FloorPerSecond: 1, FailMode: coordinator.FailSafe, SafeScale: 0.5,
	}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(through(httpapi.New(t.Context(), gate, feedback.NewBus(quiet), quiet, access.Everyone())))
	t.Cleanup(api.Close)
	return api
}

// otelEnviron sets OpenTelemetry's variables, which the SDK reads by itself, and
// returns them with the others.
func otelEnviron(t *testing.T, pairs ...string) []string {
	for _, pair := range pairs {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value)
		}
	}
	return append([]string{"HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_INTERVAL=200ms", "HEADGATE_LEASE=4s",
		"HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_QUEUE_CAPACITY=1000", "HEADGATE_HOLDER=alpha"}, pairs...)
}

func TestATickIsATraceOfItsQueryItsDecisionsAndItsCalls(t *testing.T) {
	collector, prometheus := receiver.Start(t), newPrometheus(t)
	var told told
	api := newCoordinator(t, told.of)
	_, program, stop := start(t, otelEnviron(t,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test", "OTEL_BSP_SCHEDULE_DELAY=50",
		"HEADGATE_PROMETHEUS_URL="+prometheus.URL, "HEADGATE_COORDINATOR_URL="+api.URL,
		"HEADGATE_INTERVAL=2s")...) // so that the query is answered within the first half of it
	var tree map[string]receiver.Span // of the first tick that had its signals in time, by name
	eventually(t, "a whole tick is at the collector", func() bool {
		traces := map[string]map[string]receiver.Span{}
		for _, s := range collector.Spans() {
			if traces[s.TraceID] == nil {
				traces[s.TraceID] = map[string]receiver.Span{}
			}
			tree = traces[s.TraceID]
			tree[s.Name] = s
			_, applied := tree["apply"]
			_, whole := tree["tick"]
			if len(tree) == 4 && applied && whole {
				return true
			}
		}
		return false
	})
	if status := stop(); status != exitOK {
		t.Fatalf("the controller ended with status %d:\n%s", status, program.log())
	}

	tick, decide, apply := tree["tick"], tree["decide"], tree["apply"]
	parents := map[string]string{}
	for name, s := range tree {
		switch s.ParentID {
		case "":
			parents[name] = ""
		case tick.SpanID:
			parents[name] = "tick"
		default:
			parents[name] = s.ParentID
		}
		if s.Start.Before(tick.Start) || s.End.After(tick.End) || s.End.Before(s.Start) || s.Failed {
			t.Errorf("%s is from %s to %s and failed: %v; the tick is from %s to %s", name, s.Start, s.End, s.Failed, tick.Start, tick.End)
		}
	}
	if diff := cmp.Diff(map[string]string{"tick": "", "query": "tick", "decide": "tick", "apply": "tick"}, parents); diff != "" {
		t.Errorf("the spans' parents (-want +got):\n%s", diff)
	}
	if got := tree["query"].Attributes["headgate.coordinators"]; got != int64(1) {
		t.Errorf("the query saw %v coordinators", got)
	}
	if decide.End.After(apply.Start) {
		t.Errorf("decide ends at %s, and apply begins at %s", decide.End, apply.Start)
	}
	want := map[string]any{
		"headgate.provider": "ibkr", "headgate.coordinator": api.URL, "headgate.targets": []any{"bars"}, "headgate.scale": 0.0,
		"headgate.level": "HARD", "headgate.reason": "law", "headgate.scale_in_force": 0.0, "headgate.effective_per_second": 1.0,
	}
	if diff := cmp.Diff(want, apply.Attributes); diff != "" || !apply.Client {
		t.Errorf("apply is a client's: %v, with the attributes (-want +got):\n%s", apply.Client, diff)
	}
	if len(apply.Events) != 1 || apply.Events[0].Attributes["http.response.status_code"] != int64(http.StatusOK) {
		t.Errorf("apply has the events %v, want one request that was answered", apply.Events)
	}
	if len(decide.Events) != 1 || decide.Events[0].Attributes["headgate.level"] != "HARD" ||
		!strings.Contains(fmt.Sprint(decide.Events[0].Attributes["headgate.explanation"]), "applied and read back") {
		t.Errorf("decide has the events %v, want the first decision with its explanation", decide.Events)
	}
	if of := tick.Resource; of["service.name"] != "headgate-controller" || of["service.instance.id"] != "alpha" || of["deployment.environment"] != "test" {
		t.Errorf("the service is %v", of)
	}
	if parent := "00-" + tick.TraceID + "-" + apply.SpanID + "-01"; !slices.Contains(told.all(), parent) {
		t.Errorf("the coordinator was told of %v, want %s to be among them", told.all(), parent)
	}
	logged := regexp.MustCompile(`msg=decision .*trace_id=` + tick.TraceID + ` span_id=` + tick.SpanID)
	if !logged.MatchString(program.log()) {
		t.Errorf("the log has no decision of the trace %s:\n%s", tick.TraceID, program.log())
	}
}

func TestTheLastTicksAreSentWhenTheControllerEnds(t *testing.T) {
	collector, prometheus := receiver.Start(t), newPrometheus(t)
	var told told
	api := newCoordinator(t, told.of)
	_, program, stop := start(t, otelEnviron(t, // nothing is sent in batches in the time of a test
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+collector.URL+"/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=3600000",
		"HEADGATE_PROMETHEUS_URL="+prometheus.URL, "HEADGATE_COORDINATOR_URL="+api.URL)...)
	eventually(t, "a scale is applied", func() bool { return len(told.all()) > 0 })
	if status := stop(); status != exitOK {
		t.Fatalf("the controller ended with status %d:\n%s", status, program.log())
	}
	spans := map[string]bool{}
	for _, s := range collector.Spans() {
		spans["00-"+s.TraceID+"-"+s.SpanID+"-01"] = true
	}
	for _, parent := range told.all() {
		if !spans[parent] {
			t.Errorf("the coordinator was told of %s, and the collector was not", parent)
		}
	}
}

func TestACollectorThatIsGoneCostsTheLoopNothing(t *testing.T) {
	prometheus := newPrometheus(t)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client go
		<-r.Context().Done()
	}))
	defer hangs.Close()
	var told told
	api := newCoordinator(t, told.of)
	_, program, stop := start(t, otelEnviron(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+hangs.URL, "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=8",
		"HEADGATE_PROMETHEUS_URL="+prometheus.URL, "HEADGATE_COORDINATOR_URL="+api.URL)...)
	eventually(t, "ten leases were renewed", func() bool { return len(told.all()) >= 10 })
	if status := stop(); status != exitOK {
		t.Errorf("the controller ended with status %d:\n%s", status, program.log())
	}
}

func TestATraceThatCannotBeSentIsToldAtTheStart(t *testing.T) {
	var stderr strings.Builder
	environ := otelEnviron(t, "OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "HEADGATE_DECISIONS=0")
	if status := runMain(context.Background(), nil, environment{environ, io.Discard, &stderr}); status != exitSettings {
		t.Errorf("the exit status is %d, want %d", status, exitSettings)
	}
	for _, want := range []string{"OTEL_TRACES_EXPORTER", "otlp or none", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "HEADGATE_DECISIONS"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("it does not name %s:\n%s", want, stderr.String())
		}
	}
}

func TestTheHelpListsTheVariablesOfTraces(t *testing.T) {
	out, _, _ := do(t, nil, "--help")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help has no %s", want)
		}
	}
}
