// Package scaler is KEDA's external scaler over the signals that the controller
// uses too: it answers how much there is to do, how many replicas should do it,
// and whether more of them would help at all.
//
// It serves the five calls of KEDA 2.21's externalscaler.proto. All are answered
// from memory. What is missing or stale is Unavailable, never 0: an error lets
// the HPA hold, a 0 lets it shrink.
package scaler

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/scaler/trigger"
)

// Server answers KEDA. It is made by NewServer; its methods may be called by
// several goroutines at once.
type Server struct {
	pb.UnimplementedExternalScalerServer
	signals *Signals
	series  *series
	log     *slog.Logger

	stopOnce sync.Once
	stopping chan struct{}

	mu       sync.RWMutex
	rows     map[objectKey][]*row // never empty lists
	count    int                  // of rows
	defaults trigger.Defaults
	settled  chan struct{} // closed and replaced when the defaults change
}

// objectKey names a ScaledObject.
type objectKey struct{ namespace, name string }

func (k objectKey) String() string { return k.namespace + "/" + k.name }

// NewServer returns a server over signals that somebody else runs.
func NewServer(signals *Signals, log *slog.Logger) *Server {
	return &Server{
		signals: signals, series: newSeries(), log: log,
		stopping: make(chan struct{}), settled: make(chan struct{}),
		rows: map[objectKey][]*row{},
	}
}

// Stop ends all streams, cleanly: KEDA's pause before it opens them anew grows
// with every end that is not. A gRPC server can stop gracefully after it.
func (s *Server) Stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// Run lets every trigger see every view until ctx ends, which is not an error:
// what they learn from one to the next must not depend on who asks when.
func (s *Server) Run(ctx context.Context) error {
	for {
		view, next := s.signals.View()
		now := time.Now()
		s.forget(now)
		for _, r := range s.all() {
			r.mu.Lock()
			r.refresh(view, now, s.signals.staleAfter)
			r.mu.Unlock()
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

// SetDefaults gives all triggers new defaults; open streams tell what changes.
func (s *Server) SetDefaults(d trigger.Defaults) {
	s.mu.Lock()
	s.defaults = d
	close(s.settled)
	s.settled = make(chan struct{})
	s.mu.Unlock()
	for _, r := range s.all() {
		r.configure(d)
	}
	// A stream that looked before its row was configured looks again.
	s.mu.Lock()
	close(s.settled)
	s.settled = make(chan struct{})
	s.mu.Unlock()
}

// ReloadDefaults reads the defaults at each interval, until ctx ends, and lets
// them count where they have changed. Where they are wrong the old ones stay,
// and a warning and a series say so.
func (s *Server) ReloadDefaults(ctx context.Context, interval time.Duration, read func() (trigger.Defaults, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	s.series.defaultsAre(true)
	wrong := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		d, err := read()
		s.series.defaultsAre(err == nil)
		if err != nil {
			if err.Error() != wrong {
				s.log.Warn("the defaults of triggers are wrong, the old ones stay", "error", err)
			}
			wrong = err.Error()
			continue
		}
		wrong = ""
		if !d.Equal(s.present()) {
			s.SetDefaults(d)
			s.log.Info("the defaults of triggers have changed")
		}
	}
}

// present returns the defaults that count now.
func (s *Server) present() trigger.Defaults {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.defaults
}

// settings returns a channel that is closed when the defaults change.
func (s *Server) settings() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.settled
}

// IsActive reports whether the value is above the activation value.
func (s *Server) IsActive(_ context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	_, active, _, err := s.answer(ref)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: active}, nil
}

// invalidName is the metric of a trigger whose metadata is wrong.
const invalidName = "headgate-invalid-metadata"

// GetMetricSpec tells the metric's name and target. It needs no signals, and it
// fails only beyond the bounds on what is kept: a failure would take the
// ScaledObject's other triggers along, and KEDA would show no more than that
// the spec is empty. A trigger whose metadata is wrong gets a metric that does
// not exist, so that KEDA asks for its value, is told what is wrong, and shows
// that on the ScaledObject.
func (s *Server) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	r, err := s.row(ref)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = time.Now()
	if r.wrong != nil {
		return specOf(invalidName, 1), nil
	}
	return specOf(r.trigger.Name, r.trigger.Target), nil
}

func specOf(name string, target float64) *pb.GetMetricSpecResponse {
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{
		MetricName: name, TargetSize: integer(target), TargetSizeFloat: target,
	}}}
}

// GetMetrics tells the value of the metric that is asked for and of no other,
// since KEDA takes all values of an answer for that one and adds them up.
func (s *Server) GetMetrics(_ context.Context, request *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	value, _, name, err := s.answer(request.GetScaledObjectRef())
	switch asked := request.GetMetricName(); {
	case err != nil:
		return nil, err
	case asked != name:
		return nil, status.Error(codes.InvalidArgument, invalid.New("metricName", asked, name).Error())
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{
		MetricName: name, MetricValue: integer(value), MetricValueFloat: value,
	}}}, nil
}

// integer is a value for the older of KEDA's two number fields, which it reads
// where the other is not above 0. It is rounded up: something is not nothing.
func integer(v float64) int64 { return int64(min(math.Ceil(v), math.MaxInt32)) }

// StreamIsActive tells whether the trigger is active when the stream opens, and
// from then on each change, at once when a coordinator says so itself. While
// there is no answer nothing is told.
func (s *Server) StreamIsActive(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	told, any := false, false
	return s.stream(ref, stream.Context(), streamIsActive, func() error {
		_, active, _, err := s.answer(ref)
		if status.Code(err) == codes.InvalidArgument {
			return err
		}
		if err != nil || any && active == told {
			return nil
		}
		told, any = active, true
		s.series.sent(streamIsActive)
		return stream.Send(&pb.IsActiveResponse{Result: told})
	})
}

// StreamMetricSpec tells what GetMetricSpec does when the stream opens, and
// whenever new defaults change it.
func (s *Server) StreamMetricSpec(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.GetMetricSpecResponse]) error {
	var told *pb.MetricSpec
	return s.stream(ref, stream.Context(), streamMetricSpec, func() error {
		spec, err := s.GetMetricSpec(stream.Context(), ref)
		if err != nil {
			return err
		}
		now := spec.MetricSpecs[0]
		if told != nil && now.MetricName == told.MetricName && now.TargetSizeFloat == told.TargetSizeFloat {
			return nil
		}
		told = now
		s.series.sent(streamMetricSpec)
		return stream.Send(spec)
	})
}

// stream calls tell at once and whenever there is something new, until the
// client goes, tell fails or the server stops.
func (s *Server) stream(ref *pb.ScaledObjectRef, ctx context.Context, name string, tell func() error) error {
	r, err := s.row(ref)
	if err != nil {
		return err
	}
	defer s.series.stream(name)()
	defer r.hold()()
	for {
		// Taken before the look, so that nothing is missed.
		_, next := s.signals.View()
		settings := s.settings()
		if err := tell(); err != nil {
			return err
		}
		select {
		case <-next:
		case <-settings:
		case <-s.stopping:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// hold keeps the row until the returned function is called.
func (r *row) hold() (release func()) {
	add := func(n int) {
		r.mu.Lock()
		r.streams += n
		r.used = time.Now()
		r.mu.Unlock()
	}
	add(1)
	return func() { add(-1) }
}

// answer makes the answer for a trigger, and the name of its metric. The error
// is gRPC's.
func (s *Server) answer(ref *pb.ScaledObjectRef) (value float64, active bool, name string, err error) {
	r, err := s.row(ref)
	if err != nil {
		return 0, false, "", err
	}
	view, _ := s.signals.View()
	value, active, name, err = r.answer(view, time.Now(), s.signals.staleAfter)
	if err == nil {
		return value, active, name, nil
	}
	reason := why(err)
	s.series.unanswered(reason)
	code := codes.Unavailable
	if reason == whyInvalid {
		code = codes.InvalidArgument
	}
	return 0, false, "", status.Error(code, words(err))
}

// words joins what is wrong with metadata in one line: KEDA shows it on the
// ScaledObject.
func words(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Bounds on what clients can make the scaler keep.
const (
	mostRows    = 10_000      // triggers altogether
	mostOfOne   = 64          // triggers of one ScaledObject, with those that its edits left behind
	idleFor     = time.Hour   // after which a trigger that nobody asks for is forgotten
	idleAtLimit = time.Minute // the same, when there are too many
	mostBytes   = 16 << 10    // of one trigger's metadata
)

var errTooMany = status.Errorf(codes.ResourceExhausted,
	"the scaler keeps %d triggers, %d of one ScaledObject, and there are as many", mostRows, mostOfOne)

// row finds the row of a trigger, or makes it. The error is gRPC's.
func (s *Server) row(ref *pb.ScaledObjectRef) (*row, error) {
	key := objectKey{ref.GetNamespace(), ref.GetName()}
	metadata := ref.GetScalerMetadata()
	s.mu.RLock()
	found := find(s.rows[key], metadata)
	s.mu.RUnlock()
	if found != nil {
		return found, nil
	}
	if key.name == "" || key.namespace == "" || len(key.name)+len(key.namespace) > 512 {
		return nil, status.Error(codes.InvalidArgument, "scaledObjectRef has no name and namespace, want those of a ScaledObject")
	}
	size := 0
	for name, value := range metadata {
		size += len(name) + len(value)
	}
	if size > mostBytes {
		return nil, status.Errorf(codes.InvalidArgument, "the metadata is %d bytes long, want at most %d", size, mostBytes)
	}

	fresh := &row{object: key.String(), metadata: maps.Clone(metadata), log: s.log, bites: s.series.bit, used: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := find(s.rows[key], metadata); found != nil {
		return found, nil
	}
	if s.count >= mostRows || len(s.rows[key]) >= mostOfOne {
		s.forgetIdle(time.Now(), idleAtLimit)
	}
	if s.count >= mostRows || len(s.rows[key]) >= mostOfOne {
		return nil, errTooMany
	}
	fresh.configure(s.defaults)
	s.rows[key] = append(s.rows[key], fresh)
	s.count++
	return fresh, nil
}

func find(rows []*row, metadata map[string]string) *row {
	for _, r := range rows {
		if maps.Equal(r.metadata, metadata) {
			return r
		}
	}
	return nil
}

// all returns every row.
func (s *Server) all() []*row {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*row, 0, s.count)
	for _, rows := range s.rows {
		all = append(all, rows...)
	}
	return all
}

// forget drops the rows that nobody asks for any more.
func (s *Server) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetIdle(now, idleFor)
}

// forgetIdle is called with s.mu held.
func (s *Server) forgetIdle(now time.Time, idle time.Duration) {
	s.count = 0
	for key, rows := range s.rows {
		var kept []*row
		for _, r := range rows {
			r.mu.Lock()
			if r.streams > 0 || now.Sub(r.used) <= idle {
				kept = append(kept, r)
			}
			r.mu.Unlock()
		}
		if len(kept) == 0 {
			delete(s.rows, key)
			continue
		}
		s.rows[key] = kept
		s.count += len(kept)
	}
}

// Reasons for which there is no answer, as the series show them.
const (
	whyNeverRead = "never_read"
	whyAbsent    = "absent"
	whyStale     = "stale"
	whyMissing   = "signal_missing"
	whyInvalid   = "invalid_metadata"
)

func why(err error) string {
	switch {
	case errors.Is(err, errNeverRead):
		return whyNeverRead
	case errors.Is(err, errAbsent):
		return whyAbsent
	case errors.Is(err, errStale):
		return whyStale
	case errors.Is(err, errMissing):
		return whyMissing
	}
	return whyInvalid
}
