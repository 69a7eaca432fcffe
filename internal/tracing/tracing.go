// Package tracing sends OpenTelemetry traces over OTLP/HTTP where the standard
// variables ask for them, and is nothing at all where they do not.
//
// The OpenTelemetry SDK reads most of its variables by itself, from the process's
// environment. What it would pass over is refused here: a program that was asked
// for traces and can send none says so at its start.
//
// Spans are sent in batches beside whatever makes them. Those that find the queue
// full are dropped, so a collector that is slow or gone costs nobody time.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/settings"
)

// Service is what the resource of the spans says of the program beside what the
// variables say of it.
type Service struct {
	Version  string
	Instance string // a name that no other process of the service has
}

// Tracing makes spans and sends them. Nil makes none: each method does the least
// that it can then.
type Tracing struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
	log      *slog.Logger
}

// New returns what the settings ask for, which is nil where they ask for no
// traces. Nothing is sent before Start. The error names every variable that asks
// for what cannot be done, and tells what the SDK finds wrong with its own.
func New(ctx context.Context, s settings.Tracing, service Service, log *slog.Logger) (*Tracing, error) {
	if !wanted(s) {
		return nil, nil
	}
	var complaints strings.Builder
	heed(slog.NewTextHandler(&complaints, &slog.HandlerOptions{Level: slog.LevelError, ReplaceAttr: withoutTime}))
	defer func() { heed(log.Handler()) }()
	client, clientErr := otlptrace.New(ctx, otlptracehttp.NewClient())
	about, aboutErr := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", s.ServiceName),
			attribute.String("service.version", service.Version),
			attribute.String("service.instance.id", service.Instance)),
		resource.WithFromEnv()) // the last word is the operator's
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about))
	err := errors.Join(check(s), clientErr, aboutErr)
	if complaints.Len() > 0 {
		err = errors.Join(err, fmt.Errorf("the variables of OpenTelemetry are wrong: %s", strings.TrimSpace(complaints.String())))
	}
	if err != nil {
		return nil, err
	}
	return &Tracing{provider, &exporter{SpanExporter: client, log: log}, log}, nil
}

// wanted reports whether the settings ask for traces.
func wanted(s settings.Tracing) bool {
	switch {
	case s.Disabled || s.Exporter == "none":
		return false
	case s.Exporter != "":
		return true
	}
	return s.Endpoint != "" || s.TracesEndpoint != ""
}

// check names every variable that asks for what cannot be done.
func check(s settings.Tracing) error {
	var errs []error
	if s.Exporter != "" && s.Exporter != "otlp" {
		errs = append(errs, invalid.New("OTEL_TRACES_EXPORTER", s.Exporter, "otlp or none"))
	}
	for _, p := range []struct{ variable, value string }{
		{"OTEL_EXPORTER_OTLP_PROTOCOL", s.Protocol}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", s.TracesProtocol},
	} {
		// The protocol of the traces is the one that counts.
		overruled := p.variable == "OTEL_EXPORTER_OTLP_PROTOCOL" && s.TracesProtocol != ""
		if p.value != "" && p.value != "http/protobuf" && p.value != "http/json" && !overruled {
			errs = append(errs, invalid.New(p.variable, p.value,
				"http/protobuf or http/json, with the collector's address for HTTP, as a rule at port 4318"))
		}
	}
	for _, e := range []struct{ variable, value string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", s.Endpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", s.TracesEndpoint},
	} {
		u, err := url.Parse(e.value)
		if e.value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			errs = append(errs, invalid.New(e.variable, e.value, "an address such as http://127.0.0.1:4318"))
		}
	}
	return errors.Join(errs...)
}

// heed makes the SDK, whose complaints go to the process as a whole, complain to
// this handler.
func heed(to slog.Handler) {
	log := slog.New(to)
	otel.SetLogger(logr.FromSlogHandler(to))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Error("opentelemetry", "error", err) }))
}

// withoutTime leaves the time and the level out of a record.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// Tracer makes the spans; it is nil where there are to be none.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("github.com/headgate/headgate")
}

// Start begins to send what was made since New, and what will be.
func (t *Tracing) Start() {
	if t == nil {
		return
	}
	t.provider.RegisterSpanProcessor(sdktrace.NewBatchSpanProcessor(t.exporter))
}

// Stop sends what was not sent yet, for as long as the limit lets it, and ends.
func (t *Tracing) Stop(limit time.Duration) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// Its shutdown breaks off a request that is under way.
	context.AfterFunc(ctx, func() { _ = t.exporter.Shutdown(context.Background()) })
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last traces could not be sent in time", "limit", limit, "error", err)
	}
}
