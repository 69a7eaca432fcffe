package tracing

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Transport returns a round tripper that tells the server of the trace, in the
// header that the W3C has named (traceparent), and the span of the answer; without
// tracing it is the same round tripper.
func (t *Tracing) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return transport{next}
}

type transport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper. An event of the span holds the request
// and what came of it, not a span of its own: a call may make many requests.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	r = r.Clone(ctx) // a round tripper must not change the request
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return t.next.RoundTrip(r)
	}
	began := time.Now()
	response, err := t.next.RoundTrip(r)
	attributes := []attribute.KeyValue{
		attribute.String("http.request.method", r.Method),
		attribute.String("server.address", r.URL.Host),
		attribute.String("url.path", r.URL.Path),
		attribute.Float64("headgate.seconds", time.Since(began).Seconds()),
	}
	if err != nil {
		attributes = append(attributes, attribute.String("error.message", err.Error()))
	} else {
		attributes = append(attributes, attribute.Int("http.response.status_code", response.StatusCode))
	}
	span.AddEvent("http", trace.WithAttributes(attributes...))
	return response, err
}

// CloseIdleConnections lets http.Client close those of the round tripper below.
func (t transport) CloseIdleConnections() {
	if closer, is := t.next.(interface{ CloseIdleConnections() }); is {
		closer.CloseIdleConnections()
	}
}
