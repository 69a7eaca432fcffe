package controller

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/metrics"
)

// Bounds of what one tick adds to its trace, whatever the number of targets.
const (
	mostCallSpans = 100 // of calls of coordinators
	mostEvents    = 100 // of decisions
)

// spans makes the spans of the ticks: tick, and in it query, decide, and one for
// each call of a coordinator, which is apply, or read where nothing is applied.
// Without a tracer it does nothing and allocates nothing. It belongs to the
// goroutine of the loop, but for start.
type spans struct {
	tracer trace.Tracer // nil is none
	turn   int          // from which call on the next spans are made where not all have one
}

func (s *spans) start(ctx context.Context, name string) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, noop.Span{}
	}
	return s.tracer.Start(ctx, name)
}

// queried ends the span of a query.
func queried(span trace.Span, snapshot metrics.Snapshot, err error) {
	if span.IsRecording() {
		span.SetAttributes(
			attribute.Int("headgate.coordinators", len(snapshot.Coordinators)),
			attribute.Int("headgate.warnings", snapshot.Warnings))
		failed(span, err)
	}
	span.End()
}

// failed says in a span that something failed, unless err is nil.
func failed(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
}

// decided ends the span of the decisions, which were made at a time: it counts
// them by their levels, and tells of those that changed, with what became of
// them.
func (s *spans) decided(span trace.Span, at time.Time, decisions []*Decision) {
	if !span.IsRecording() {
		return
	}
	levels, changes, faults := map[string]int{}, 0, 0
	for _, d := range decisions {
		levels[d.levelName()]++
		if d.Fault != FaultNone {
			faults++
		}
		if !d.Changed {
			continue
		}
		if changes++; changes <= mostEvents {
			span.AddEvent("decision", trace.WithTimestamp(at), trace.WithAttributes(d.attributes()...))
		}
	}
	span.SetAttributes(
		attribute.Int("headgate.decisions", len(decisions)),
		attribute.Int("headgate.decisions.changed", changes),
		attribute.Int("headgate.decisions.without_signals", faults),
		attribute.Int("headgate.decisions.ok", levels["OK"]),
		attribute.Int("headgate.decisions.soft", levels["SOFT"]),
		attribute.Int("headgate.decisions.hard", levels["HARD"]),
		attribute.Int("headgate.decisions.unknown", levels["UNKNOWN"]))
	span.End(trace.WithTimestamp(at))
}

// attributes are a decision's.
func (d *Decision) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("headgate.target", d.Target), attribute.String("headgate.provider", d.Provider),
		attribute.String("headgate.level", d.levelName()), attribute.String("headgate.reason", string(d.Reason)),
		attribute.String("headgate.outcome", string(d.Outcome)), attribute.String("headgate.explanation", d.Explain()),
	}
	for _, n := range []struct {
		key   string
		value Number
	}{{"headgate.scale", d.Scale}, {"headgate.scale_in_force", d.InForce}, {"headgate.depth", d.Depth}} {
		if n.value.Known() {
			all = append(all, attribute.Float64(n.key, float64(n.value)))
		}
	}
	for key, value := range map[string]string{
		"headgate.fault": string(d.Fault), "headgate.guard": string(d.Guard), "headgate.apply_fault": string(d.ApplyFault),
	} {
		if value != "" {
			all = append(all, attribute.String(key, value))
		}
	}
	return all
}

// choose marks the calls that get a span. Where there are too many those come
// first that tell something new, or failed the last time, and the others take
// turns.
func (s *spans) choose(tick trace.Span, all []*application) {
	if !tick.IsRecording() {
		return
	}
	left := mostCallSpans
	mark := func(a *application) {
		if left > 0 && !a.traced {
			a.traced = true
			left--
		}
	}
	if len(all) > mostCallSpans {
		for _, a := range all {
			if a.noteworthy() {
				mark(a)
			}
		}
	}
	for i := range all {
		at := (s.turn + i) % len(all)
		if left == 0 {
			s.turn = at
			break
		}
		mark(all[at])
	}
	tick.SetAttributes(
		attribute.Int("headgate.calls", len(all)),
		attribute.Int("headgate.calls.without_span", len(all)-(mostCallSpans-left)))
}

// noteworthy reports whether somebody who looks at a trace would look for this
// call.
func (a *application) noteworthy() bool {
	if a.outlet.suspect || !a.outlet.read {
		return true
	}
	for _, s := range a.outlet.sources {
		if s.throttle.previous == nil || !s.decision.decidedAs(s.throttle.previous) {
			return true
		}
	}
	return false
}

// call begins the span of a call of a coordinator. A call that gets none still
// tells the coordinator of the tick's.
func (s *spans) call(ctx context.Context, a *application) (context.Context, trace.Span) {
	switch {
	case s.tracer == nil:
		return ctx, noop.Span{}
	case !a.traced:
		return trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(ctx)), noop.Span{}
	}
	name := "read"
	attributes := []attribute.KeyValue{
		attribute.String("headgate.provider", a.outlet.provider.Name),
		attribute.String("headgate.coordinator", a.outlet.provider.URL),
	}
	if a.apply {
		name = "apply"
		attributes = append(attributes,
			attribute.Float64("headgate.scale", a.lease.Scale),
			attribute.String("headgate.level", a.lease.Level.String()),
			attribute.String("headgate.reason", a.lease.Reason))
	}
	targets := make([]string, len(a.outlet.sources))
	for i, source := range a.outlet.sources {
		targets[i] = source.line.target.Name
	}
	attributes = append(attributes, attribute.StringSlice("headgate.targets", targets))
	return s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
}

// called ends the span of a call. That another controller holds the lease is no
// failure.
func called(span trace.Span, a *application) {
	if span.IsRecording() {
		var conflict *coordinator.ConflictError
		var partial *PartialError
		standby := errors.As(a.err, &conflict) && !conflict.Stale
		switch {
		case standby:
			span.SetAttributes(attribute.String("headgate.holder", conflict.Holder))
		default:
			failed(span, a.err)
		}
		if a.err == nil || a.readBack || errors.As(a.err, &partial) {
			span.SetAttributes(
				attribute.Float64("headgate.scale_in_force", a.state.Scale),
				attribute.Float64("headgate.effective_per_second", a.state.EffectivePerSecond))
		}
	}
	span.End()
}
