package tracing

import (
	"context"
	"log/slog"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/headgate/headgate/internal/seldom"
)

// exporter tells in the log when spans can no longer be sent, and when they can
// again, instead of at every batch.
type exporter struct {
	sdktrace.SpanExporter
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	failing seldom.Condition
	lost    int // spans, since they could be sent last
}

// ExportSpans sends spans. Its error is in the log, so it returns none.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	leftOut, tell := e.failing.Now(time.Now(), err != nil)
	if err != nil {
		e.lost += len(spans)
		if tell {
			e.log.Warn("traces cannot be sent", "error", err, "left_out", leftOut)
		}
		return nil
	}
	if tell {
		e.log.Info("traces are sent again", "spans_lost", e.lost)
	}
	e.lost = 0
	return nil
}
