// Package receiver is a collector of traces for tests: it takes what OTLP over
// HTTP sends, as protobuf, and keeps the spans.
package receiver

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was sent.
type Span struct {
	TraceID, SpanID, ParentID string // in hexadecimal; ParentID is empty at the root
	Name                      string
	Client                    bool // its kind
	Failed                    bool // its status
	Start, End                time.Time
	Attributes                map[string]any
	Events                    []Event
	Resource                  map[string]any // attributes
}

// Event is one event of a span.
type Event struct {
	Name       string
	At         time.Time
	Attributes map[string]any
}

// Receiver keeps what it is sent. Its methods may be called at any time.
type Receiver struct {
	URL string // base address

	mu       sync.Mutex
	requests []*http.Request
	spans    []Span
	status   int
	wrong    error
}

// Start returns a receiver that listens until the test ends.
func Start(t testing.TB) *Receiver {
	r := &Receiver{status: http.StatusOK}
	server := httptest.NewServer(r)
	r.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		if r.wrong != nil {
			t.Error(r.wrong)
		}
	})
	return r
}

// Answer makes the receiver answer with a status from now on; what it does not
// answer with 200 it does not keep.
func (r *Receiver) Answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// Spans are all that came so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Requests are all that came so far, without their bodies.
func (r *Receiver) Requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	spans, err := decode(request)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
	switch {
	case err != nil:
		r.wrong = fmt.Errorf("%s %s: %w", request.Method, request.URL, err)
		w.WriteHeader(http.StatusBadRequest)
	case r.status != http.StatusOK:
		w.WriteHeader(r.status)
	default:
		r.spans = append(r.spans, spans...)
		answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{}) // which has nothing that could fail
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}
}

func decode(r *http.Request) ([]Span, error) {
	if got := r.Header.Get("Content-Type"); got != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q", got)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var sent collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &sent); err != nil {
		return nil, err
	}
	var all []Span
	for _, of := range sent.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				one := spanOf(s)
				one.Resource = attributes(of.Resource.GetAttributes())
				all = append(all, one)
			}
		}
	}
	return all, nil
}

func spanOf(s *spanpb.Span) Span {
	one := Span{
		TraceID: hex.EncodeToString(s.TraceId), SpanID: hex.EncodeToString(s.SpanId), ParentID: hex.EncodeToString(s.ParentSpanId),
		Name: s.Name, Client: s.Kind == spanpb.Span_SPAN_KIND_CLIENT, Failed: s.GetStatus().GetCode() == spanpb.Status_STATUS_CODE_ERROR,
		Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
		Attributes: attributes(s.Attributes),
	}
	for _, e := range s.Events {
		one.Events = append(one.Events, Event{e.Name, time.Unix(0, int64(e.TimeUnixNano)), attributes(e.Attributes)})
	}
	return one
}

func attributes(all []*common.KeyValue) map[string]any {
	values := make(map[string]any, len(all))
	for _, a := range all {
		values[a.Key] = value(a.Value)
	}
	return values
}

func value(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_ArrayValue:
		var all []any
		for _, one := range v.ArrayValue.Values {
			all = append(all, value(one))
		}
		return all
	}
	return nil
}
