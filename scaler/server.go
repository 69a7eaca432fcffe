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
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Server answers KEDA. It is made by NewServer; its methods may be called by
// several goroutines at once.
type Server struct {
	pb.UnimplementedExternalScalerServer
	signals *Signals
	series  *series

	stopOnce sync.Once
	stopping chan struct{}

	mu       sync.Mutex
	answered map[string]map[Metric]Answer // by namespace/name
}

// NewServer returns a server over signals that somebody else runs.
func NewServer(signals *Signals) *Server {
	return &Server{
		signals: signals, series: newSeries(),
		stopping: make(chan struct{}),
		answered: map[string]map[Metric]Answer{},
	}
}

// Stop ends all streams, cleanly: KEDA's pause before it opens them anew grows
// with every end that is not. A gRPC server can stop gracefully after it.
func (s *Server) Stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// Answer is what was last told about a ScaledObject, and what it was made of.
// Rates are items per second; a number that is not known is null in JSON.
type Answer struct {
	At           time.Time      `json:"at"`
	Metric       Metric         `json:"metric"`
	Coordinators []string       `json:"coordinators"`
	Level        pressure.Level `json:"level"`
	Depth        *float64       `json:"depth"`
	Capacity     *float64       `json:"capacity"`
	Arrivals     *float64       `json:"arrivals_per_second"`
	Drain        *float64       `json:"drain_per_second"`
	PerReplica   *float64       `json:"drain_per_replica_per_second"`
	Replicas     int            `json:"replicas"` // that export the coordinators' series
	AgeSeconds   float64        `json:"age_seconds"`
	StoreBound   bool           `json:"store_bound"`

	Value      float64 `json:"value"`
	Target     float64 `json:"target"`
	Activation float64 `json:"activation"`
	Active     bool    `json:"active"`
	Guard      Bit     `json:"guard,omitempty"`

	// What the HPA makes of value and target, before its limits and windows: as
	// AverageValue, and as Value with its tolerance of 10 %.
	ReplicasAsAverageValue float64 `json:"replicas_as_average_value"`
	ReplicasAsValue        float64 `json:"replicas_as_value"`

	Error string `json:"error,omitempty"` // why there was no answer instead
}

// IsActive reports whether the value is above the activation value.
func (s *Server) IsActive(_ context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	answer, err := s.answer(ref, r)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: answer.Active}, nil
}

// GetMetricSpec tells the metric's name and target. It needs no signals.
func (s *Server) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	return spec(r), nil
}

func spec(r Request) *pb.GetMetricSpecResponse {
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{
		MetricName: r.name(), TargetSize: integer(r.Target), TargetSizeFloat: r.Target,
	}}}
}

// GetMetrics tells the value of the metric that is asked for and of no other,
// since KEDA takes all values of an answer for that one and adds them up.
func (s *Server) GetMetrics(_ context.Context, request *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	ref := request.GetScaledObjectRef()
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if name := request.GetMetricName(); name != r.name() {
		return nil, refused(invalid.New("metricName", name, r.name()))
	}
	answer, err := s.answer(ref, r)
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{
		MetricName: r.name(), MetricValue: integer(answer.Value), MetricValueFloat: answer.Value,
	}}}, nil
}

// integer is a value for the older of KEDA's two number fields, which it reads
// where the other is not above 0. It is rounded up: something is not nothing.
func integer(v float64) int64 { return int64(min(math.Ceil(v), math.MaxInt32)) }

// StreamIsActive tells whether the trigger is active when the stream opens, and
// from then on each change, at once when a coordinator says so itself. While
// there is no answer nothing is told.
func (s *Server) StreamIsActive(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	r, err := parse(ref)
	if err != nil {
		return err
	}
	defer s.series.stream("StreamIsActive")()
	told, any := false, false
	for {
		next := s.signals.next() // taken before the look, so that nothing is missed
		if answer, err := s.answer(ref, r); err == nil && (!any || answer.Active != told) {
			told, any = answer.Active, true
			if err := stream.Send(&pb.IsActiveResponse{Result: told}); err != nil {
				return fmt.Errorf("send activity: %w", err)
			}
		}
		select {
		case <-next:
		case <-s.stopping:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}

// StreamMetricSpec tells what GetMetricSpec does when the stream opens. A
// trigger's metadata cannot change while it is open, so there is no more to
// tell until the end.
func (s *Server) StreamMetricSpec(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.GetMetricSpecResponse]) error {
	r, err := parse(ref)
	if err != nil {
		return err
	}
	defer s.series.stream("StreamMetricSpec")()
	if err := stream.Send(spec(r)); err != nil {
		return fmt.Errorf("send the metric's spec: %w", err)
	}
	select {
	case <-s.stopping:
	case <-stream.Context().Done():
	}
	return nil
}

func parse(ref *pb.ScaledObjectRef) (Request, error) {
	r, err := ParseRequest(ref.GetScalerMetadata())
	if err != nil {
		return Request{}, refused(err)
	}
	return r, nil
}

// refused is bad metadata as gRPC has it: KEDA shows the words on the
// ScaledObject.
func refused(err error) error {
	var words []string
	for _, v := range invalid.All(err) {
		words = append(words, v.Error())
	}
	return status.Error(codes.InvalidArgument, strings.Join(words, "; "))
}

// answer makes the answer to a request and keeps it for Explain. The error is
// gRPC's Unavailable.
func (s *Server) answer(ref *pb.ScaledObjectRef, r Request) (Answer, error) {
	a := Answer{At: time.Now(), Metric: r.Metric, Coordinators: r.Coordinators, Target: r.Target, Activation: r.Activation}
	loads, age, err := s.signals.loads(r)
	if err == nil {
		a.AgeSeconds = age.Seconds()
		err = a.fill(r, loads)
	}
	if err != nil {
		a.Error = err.Error()
		s.series.unanswered(why(err))
	}
	s.keep(ref, a)
	if err != nil {
		return a, status.Error(codes.Unavailable, a.Error)
	}
	return a, nil
}

// fill computes the value, by the sum of the loads or by the largest value of
// any.
func (a *Answer) fill(r Request, loads []load) error {
	if r.Aggregation == Sum {
		loads = []load{together(loads)}
	}
	best := math.Inf(-1)
	for _, l := range loads {
		v, bit, err := l.value(r)
		if err != nil {
			return err
		}
		if v > best {
			best = v
			a.Value, a.Guard = v, bit
			a.describe(l)
		}
	}
	a.Active = a.Value > a.Activation
	a.ReplicasAsAverageValue = math.Ceil(a.Value / a.Target)
	a.ReplicasAsValue = float64(a.Replicas)
	if ratio := a.Value / a.Target; math.Abs(ratio-1) > hpaTolerance {
		a.ReplicasAsValue = math.Ceil(float64(a.Replicas) * ratio)
	}
	return nil
}

// hpaTolerance is how far from 1 the ratio of value and target has to be for
// the HPA to act: its --horizontal-pod-autoscaler-tolerance by default.
const hpaTolerance = 0.1

func (a *Answer) describe(l load) {
	a.Level, a.Replicas, a.StoreBound = l.level, l.replicas, l.storeBound
	a.Depth, a.Capacity = number(l.depth), number(l.capacity)
	a.Arrivals, a.Drain, a.PerReplica = number(l.arrivals), number(l.drain), number(l.perReplica)
}

func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Reasons for which there is no answer, as the series show them.
const (
	whyNeverRead = "never_read"
	whyAbsent    = "absent"
	whyStale     = "stale"
	whyMissing   = "signal_missing"
)

func why(err error) string {
	switch {
	case errors.Is(err, errNeverRead):
		return whyNeverRead
	case errors.Is(err, errAbsent):
		return whyAbsent
	case errors.Is(err, errStale):
		return whyStale
	}
	return whyMissing
}

// mostKept bounds the ScaledObjects whose last answers are kept.
const mostKept = 10_000

func (s *Server) keep(ref *pb.ScaledObjectRef, a Answer) {
	key := ref.GetNamespace() + "/" + ref.GetName()
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.answered[key]
	if of == nil {
		if len(s.answered) >= mostKept {
			return
		}
		of = map[Metric]Answer{}
		s.answered[key] = of
	}
	of[a.Metric] = a
}

// Explain returns what was last answered about a ScaledObject, namespace/name,
// by metric; none if it never asked.
func (s *Server) Explain(scaledObject string) []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var answers []Answer
	for _, a := range s.answered[scaledObject] {
		answers = append(answers, a)
	}
	slices.SortFunc(answers, func(a, b Answer) int { return strings.Compare(string(a.Metric), string(b.Metric)) })
	return answers
}
