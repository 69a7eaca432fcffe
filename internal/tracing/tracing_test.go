package tracing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/tracing/receiver"
	"github.com/headgate/headgate/settings"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The exporter keeps its connections for the life of the process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// variables sets OpenTelemetry's variables and returns the settings that they
// make.
func variables(t *testing.T, pairs ...string) settings.Tracing {
	t.Helper()
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	var s settings.Tracing
	if err := settings.Load(t.Context(), &s, settings.Environ(pairs)); err != nil {
		t.Fatal(err)
	}
	return s
}

var quiet = slog.New(slog.DiscardHandler)

func TestTracesAreMadeWhereTheVariablesAskForThem(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	tests := []struct {
		name      string
		variables []string
		want      bool
	}{
		{name: "nothing is set"},
		{name: "an endpoint", variables: []string{endpoint}, want: true},
		{name: "an endpoint for traces", variables: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:4318/v1/traces"}, want: true},
		{name: "an exporter, at the endpoint that is the default", variables: []string{"OTEL_TRACES_EXPORTER=otlp"}, want: true},
		{name: "an endpoint, but not for traces", variables: []string{endpoint, "OTEL_TRACES_EXPORTER=none"}},
		{name: "an endpoint, and the SDK is disabled", variables: []string{endpoint, "OTEL_SDK_DISABLED=true"}},
		{name: "a name alone", variables: []string{"OTEL_SERVICE_NAME=gate"}},
		{name: "what cannot be done, and nobody asks for it", variables: []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		{name: "an empty endpoint, which is none", variables: []string{"OTEL_EXPORTER_OTLP_ENDPOINT="}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traces, err := New(t.Context(), variables(t, test.variables...), Service{}, quiet)
			if err != nil || (traces != nil) != test.want {
				t.Errorf("got %v and error %v, want traces: %v", traces, err, test.want)
			}
			traces.Stop(time.Second)
		})
	}
}

func TestWithoutTracesEverythingIsAsItWas(t *testing.T) {
	var none *Tracing
	none.Start()
	if none.Tracer() != nil {
		t.Error("there is a tracer")
	}
	if none.Transport(http.DefaultTransport) != http.DefaultTransport {
		t.Error("the round tripper is another")
	}
	if none.Log(quiet) != quiet {
		t.Error("the logger is another")
	}
	none.Stop(time.Second)
}

func TestWhatCannotBeDoneIsToldAllAtOnce(t *testing.T) {
	tests := []struct {
		name      string
		variables []string
		want      []string // fields
		says      string
	}{
		{name: "an exporter, a protocol and an endpoint",
			variables: []string{"OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317"},
			want:      []string{"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_ENDPOINT"}, says: "http/protobuf"},
		{name: "an address without a host", variables: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://"},
			want: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{name: "a protocol for traces that overrules a right one",
			variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc"},
			want:      []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}},
		{name: "a sampler that there is not", variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=sometimes"},
			says: "unsupported sampler: sometimes"},
		{name: "a share that is none", variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=7"},
			says: "greater than 1.0"},
		{name: "a time-out that is no number", variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TIMEOUT=10s"},
			says: "parse duration"},
		{name: "certificates that are not there", variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_CERTIFICATE=/no/such/file"},
			says: "/no/such/file"},
		{name: "attributes that are none", variables: []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=zone"}, says: "zone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traces, err := New(t.Context(), variables(t, test.variables...), Service{}, quiet)
			if err == nil || traces != nil {
				t.Fatalf("got %v and error %v, want an error", traces, err)
			}
			var fields []string
			for _, v := range invalid.All(err) {
				fields = append(fields, v.Field)
			}
			if diff := cmp.Diff(test.want, fields); diff != "" || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want it to say %q, and these fields (-want +got):\n%s", err, test.says, diff)
			}
		})
	}
}

func TestAProtocolThatIsOverruledMayBeAny(t *testing.T) {
	s := variables(t, "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf")
	if _, err := New(t.Context(), s, Service{}, quiet); err != nil {
		t.Error(err)
	}
}

func TestSpansAreSentWithWhatTheVariablesSayOfTheService(t *testing.T) {
	to := receiver.Start(t)
	traces, err := New(t.Context(), variables(t,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+to.URL+"/otlp", "OTEL_EXPORTER_OTLP_HEADERS=api-key=secret", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
		"OTEL_SERVICE_NAME=gate", "OTEL_RESOURCE_ATTRIBUTES=zone=eu-1,service.instance.id=named"), Service{"1.2.3", "made-up"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	traces.Start()
	_, span := traces.Tracer().Start(t.Context(), "tick")
	span.End()
	traces.Stop(time.Minute) // sends it
	spans, requests := to.Spans(), to.Requests()
	if len(spans) != 1 || len(requests) != 1 {
		t.Fatalf("got %d spans by %d requests, want one", len(spans), len(requests))
	}
	if path, key := requests[0].URL.Path, requests[0].Header.Get("Api-Key"); path != "/otlp/v1/traces" || key != "secret" {
		t.Errorf("sent to %s with the key %q", path, key)
	}
	of := spans[0].Resource
	got := []any{of["service.name"], of["service.version"], of["service.instance.id"], of["zone"]}
	if diff := cmp.Diff([]any{"gate", "1.2.3", "named", "eu-1"}, got); diff != "" {
		t.Errorf("the service is (-want +got):\n%s", diff)
	}
}

func TestACollectorThatHangsCostsNobodyTime(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client go
		<-r.Context().Done()
	}))
	defer hangs.Close()
	var log lines
	traces, err := New(t.Context(), variables(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+hangs.URL,
		"OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=8"), Service{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	traces.Start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100_000 { // far more than are kept
			_, span := traces.Tracer().Start(t.Context(), "tick")
			span.End()
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("making spans waits for the collector")
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		traces.Stop(50 * time.Millisecond)
	}()
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Fatal("the end waits for the collector")
	}
	if !strings.Contains(log.String(), "could not be sent in time") {
		t.Errorf("the log does not say that traces were lost:\n%s", log.String())
	}
}

func TestACollectorThatRefusesIsToldOfOnceAndWhenItTakesSpansAgain(t *testing.T) {
	to := receiver.Start(t)
	var log lines
	traces, err := New(t.Context(), variables(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+to.URL), Service{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	traces.Start()
	send := func() {
		t.Helper()
		_, span := traces.Tracer().Start(t.Context(), "tick")
		span.End()
		if err := traces.provider.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	to.Answer(http.StatusForbidden)
	for range 5 {
		send()
	}
	if n := strings.Count(log.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("told %d times that they cannot be sent:\n%s", n, log.String())
	}
	to.Answer(http.StatusOK)
	send()
	if !strings.Contains(log.String(), `msg="traces are sent again" spans_lost=5`) {
		t.Errorf("the log has no end of it:\n%s", log.String())
	}
	traces.Stop(time.Minute)
}

func TestAServerIsToldOfTheTraceAndTheSpanOfTheAnswer(t *testing.T) {
	to := receiver.Start(t)
	traces, err := New(t.Context(), variables(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+to.URL), Service{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	traces.Start()
	var told []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("Traceparent"))
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	client := &http.Client{Transport: traces.Transport(&http.Transport{})}
	defer client.CloseIdleConnections()
	ask := func(ctx context.Context, url string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err == nil {
			response.Body.Close()
		}
		if r.Header.Get("Traceparent") != "" {
			t.Error("the caller's request was changed")
		}
		return err
	}
	if err := ask(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	ctx, span := traces.Tracer().Start(t.Context(), "apply")
	err = errors.Join(ask(ctx, server.URL+"/v1/providers"), func() error {
		if err := ask(ctx, "http://127.0.0.1:1/"); err == nil {
			return errors.New("somebody answers at port 1")
		}
		return nil
	}())
	if err != nil {
		t.Fatal(err)
	}
	span.End()
	traces.Stop(time.Minute)
	id := span.SpanContext()
	if diff := cmp.Diff([]string{"", "00-" + id.TraceID().String() + "-" + id.SpanID().String() + "-01"}, told); diff != "" {
		t.Errorf("the server was told (-want +got):\n%s", diff)
	}
	events := to.Spans()[0].Events
	if len(events) != 2 || events[0].Attributes["http.response.status_code"] != int64(http.StatusTeapot) ||
		events[0].Attributes["url.path"] != "/v1/providers" || events[1].Attributes["error.message"] == nil {
		t.Errorf("the span has the events %v", events)
	}
}

func TestRecordsCarryTheIdsOfTheirSpan(t *testing.T) {
	var log lines
	traces, err := New(t.Context(), variables(t, "OTEL_TRACES_EXPORTER=otlp"), Service{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	traces.Start()
	l := traces.Log(slog.New(slog.NewTextHandler(&log, nil))).With("target", "bars")
	ctx, span := traces.Tracer().Start(t.Context(), "tick")
	l.InfoContext(ctx, "within")
	l.InfoContext(t.Context(), "without")
	id := span.SpanContext()
	all := strings.Split(strings.TrimSpace(log.String()), "\n")
	if want := "target=bars trace_id=" + id.TraceID().String() + " span_id=" + id.SpanID().String(); len(all) != 2 ||
		!strings.HasSuffix(all[0], want) || strings.Contains(all[1], "trace_id") {
		t.Errorf("got %q, want the first to end in %q", all, want)
	}
	if slices.Contains(all, "") {
		t.Error("there is an empty line")
	}
	traces.Stop(time.Second)
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
