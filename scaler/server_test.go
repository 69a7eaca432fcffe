package scaler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/trigger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// prom is what Prometheus has of the coordinators.
type prom struct {
	mu    sync.Mutex
	have  map[string]metrics.Observation
	age   time.Duration
	err   error
	reads int
}

func (p *prom) Read(context.Context) (metrics.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	if p.err != nil {
		return metrics.Snapshot{}, p.err
	}
	now := time.Now()
	s := metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{}}
	for id, o := range p.have {
		o.CoordinatorID, o.At, o.Newest = id, now.Add(-p.age), now.Add(-p.age)
		s.Coordinators[id] = o
	}
	return s, nil
}

func (p *prom) set(change func(*prom)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// queue is one process with a queue of 10,000.
func queue(depth float64, level pressure.Level) metrics.Observation {
	return metrics.Observation{
		Depth: depth, Capacity: 10_000, Level: level, HasLevel: true,
		Arrivals: metrics.Rate{PerSecond: 100, Known: true}, Drain: metrics.Rate{PerSecond: 50, Known: true},
		Replicas: []metrics.Replica{{Instance: "a"}}, Writers: []string{"a"},
		Labels: map[string]string{"env": "prod"},
	}
}

// system is a scaler at work on a loopback port, and a client of it.
type system struct {
	*prom
	signals *Signals
	server  *Server
	grpc    *GRPC
	client  pb.ExternalScalerClient
	conn    *grpc.ClientConn
}

const staleAfter = 30 * time.Second

func start(t *testing.T, p *prom) *system {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := &system{prom: p}
	// The interval is long: what the tests wait for has to be told, not polled.
	s.signals = NewSignals(p, time.Hour, time.Second, staleAfter, quiet)
	s.server = NewServer(s.signals, quiet)
	s.grpc = NewGRPC(s.server, nil, nil, access.Everyone(), quiet)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.signals.Run(ctx) })
	running.Go(func() { s.server.Run(ctx) })
	running.Go(func() { s.grpc.WatchHealth(ctx) })
	running.Go(func() { s.grpc.Serve(listener) })
	s.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	s.client = pb.NewExternalScalerClient(s.conn)
	t.Cleanup(func() {
		s.conn.Close()
		cancel()
		s.grpc.Shutdown(5 * time.Second)
		running.Wait()
	})
	return s
}

// read lets the signals be read once more, and waits until they are.
func (s *system) read(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	before := s.reads
	s.mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, next := s.signals.View()
		s.signals.Wake()
		s.mu.Lock()
		done := s.reads > before
		failing := s.err != nil
		s.mu.Unlock()
		if done && failing {
			return
		}
		select {
		case <-next:
			s.mu.Lock()
			done = s.reads > before
			s.mu.Unlock()
			if done {
				return
			}
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the signals are not read")
		}
	}
}

func object(more ...string) *pb.ScaledObjectRef {
	metadata := map[string]string{"scalerAddress": "headgate:6000", "coordinatorIds": "bars"}
	for i := 0; i < len(more); i += 2 {
		metadata[more[i]] = more[i+1]
	}
	return &pb.ScaledObjectRef{Name: "pipeline", Namespace: "shop", ScalerMetadata: metadata}
}

// ask asks for the value of a trigger's own metric.
func (s *system) ask(ref *pb.ScaledObjectRef) (float64, error) {
	spec, err := s.client.GetMetricSpec(context.Background(), ref)
	if err != nil {
		return math.NaN(), err
	}
	answer, err := s.client.GetMetrics(context.Background(), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: spec.MetricSpecs[0].MetricName})
	if err != nil {
		return math.NaN(), err
	}
	if len(answer.MetricValues) != 1 {
		return math.NaN(), errors.New("not one value")
	}
	v := answer.MetricValues[0]
	if v.MetricName != spec.MetricSpecs[0].MetricName || float64(v.MetricValue) != math.Ceil(v.MetricValueFloat) {
		return math.NaN(), errors.New("the value is " + v.String())
	}
	return v.MetricValueFloat, nil
}

func TestEachMetricIsMadeOfTheSignals(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{
		"bars":    queue(6000, pressure.Soft),
		"ticks":   queue(9000, pressure.Hard),
		"quotes":  queue(0, pressure.OK),
		"foreign": {Depth: 9000, Capacity: 10_000, Arrivals: metrics.Rate{PerSecond: 1}},
	}})
	s.read(t)
	tests := []struct {
		name   string
		ref    *pb.ScaledObjectRef
		value  float64
		active bool
	}{
		{"the depth of one", object(), 6000, true},
		{"the depth of several together", object("coordinatorIds", "bars,ticks"), 15_000, true},
		{"the depth of the deepest", object("coordinatorIds", "*s", "aggregation", "max"), 9000, true},
		{"those that a selector chooses", object("coordinatorIds", "", "selector", `env="prod"`), 15_000, true},
		{"an empty queue", object("coordinatorIds", "quotes"), 0, false},
		{"not above the activation value", object("activationValue", "6000"), 6000, false},
		{"no hard pressure at SOFT", object("metric", "hardPressure"), 0, false},
		{"hard pressure", object("metric", "hardPressure", "coordinatorIds", "ticks"), 1, true},
		{"hard pressure of one that says nothing of itself", object("metric", "hardPressure", "coordinatorIds", "foreign"), 1, true},
		{"utilisation", object("metric", "utilization"), 0.6, true},
		{"time to empty", object("metric", "drainTime"), 120, true},
		{"time to empty at most", object("metric", "drainTime", "maxSeconds", "60"), 60, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.ref.ScalerMetadata["coordinatorIds"] == "" {
				delete(test.ref.ScalerMetadata, "coordinatorIds")
			}
			value, err := s.ask(test.ref)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(value-test.value) > 1e-9 {
				t.Errorf("value is %v, want %v", value, test.value)
			}
			active, err := s.client.IsActive(context.Background(), test.ref)
			if err != nil || active.Result != test.active {
				t.Errorf("active is %v, %v; want %v", active.GetResult(), err, test.active)
			}
		})
	}
}

func TestWhatIsMissingIsUnavailableAndNeverZero(t *testing.T) {
	noCapacity := queue(10, pressure.OK)
	noCapacity.Capacity = math.NaN()
	noDrain := queue(10, pressure.OK)
	noDrain.Drain = metrics.Rate{}
	tests := []struct {
		name string
		prom *prom
		ref  *pb.ScaledObjectRef
		says string
	}{
		{"Prometheus was never there", &prom{err: errors.New("no route")}, object(), "no signals were read"},
		{"the coordinator is absent", &prom{have: map[string]metrics.Observation{"ticks": queue(1, pressure.OK)}}, object(), `"bars"`},
		{"one of several is absent", &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}}, object("coordinatorIds", "bars,ticks"), `"ticks"`},
		{"no one is chosen", &prom{have: map[string]metrics.Observation{"ticks": queue(1, pressure.OK)}}, object("coordinatorIds", "bars-*"), "bars-*"},
		{"the sample is stale", &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}, age: staleAfter + time.Second}, object(), "older than the stale limit"},
		{"no capacity for the utilisation", &prom{have: map[string]metrics.Observation{"bars": noCapacity}}, object("metric", "utilization"), "needs the capacity"},
		{"no drain for the time to empty", &prom{have: map[string]metrics.Observation{"bars": noDrain}}, object("metric", "drainTime"), "needs the drain"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, test.prom)
			s.read(t)
			value, err := s.ask(test.ref)
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the value is %v, %v; want Unavailable and %q", value, err, test.says)
			}
			if active, err := s.client.IsActive(context.Background(), test.ref); status.Code(err) != codes.Unavailable {
				t.Errorf("active is %v, %v; want Unavailable", active, err)
			}
			if spec, err := s.client.GetMetricSpec(context.Background(), test.ref); err != nil || len(spec.MetricSpecs) != 1 {
				t.Errorf("the spec is %v, %v; it needs no signals", spec, err)
			}
		})
	}
}

func TestTheLastAnswerCountsUntilItIsStaleWhilePrometheusIsAway(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(700, pressure.OK)}})
	s.read(t)
	s.set(func(p *prom) { p.err = errors.New("connection refused") })
	s.read(t)
	if value, err := s.ask(object()); err != nil || value != 700 {
		t.Errorf("the value is %v, %v; want the last one", value, err)
	}
}

func TestWrongMetadataShowsWhereKEDAShowsIt(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}})
	s.read(t)
	ref := object("targetVale", "5")
	spec, err := s.client.GetMetricSpec(context.Background(), ref)
	if err != nil || len(spec.MetricSpecs) != 1 {
		t.Fatalf("the spec is %v, %v: an error would take the ScaledObject's other triggers along", spec, err)
	}
	_, err = s.client.GetMetrics(context.Background(), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: spec.MetricSpecs[0].MetricName})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "targetVale") || !strings.Contains(err.Error(), "targetValue") {
		t.Errorf("the error is %v, want the wrong key and the right ones", err)
	}
	stream, err := s.client.StreamIsActive(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("the stream ends with %v, want InvalidArgument", err)
	}
}

func TestOnlyTheMetricThatIsAskedForIsAnswered(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}})
	s.read(t)
	_, err := s.client.GetMetrics(context.Background(), &pb.GetMetricsRequest{ScaledObjectRef: object(), MetricName: "headgate-drain-time"})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "headgate-queue-depth") {
		t.Errorf("another trigger's metric gives %v", err)
	}
}

// received collects what a stream sends.
func received[M any](recv func() (M, error)) (<-chan M, <-chan error) {
	messages, ended := make(chan M), make(chan error, 1)
	go func() {
		defer close(messages)
		for {
			m, err := recv()
			if err != nil {
				ended <- err
				return
			}
			messages <- m
		}
	}()
	return messages, ended
}

func next[M any](t *testing.T, messages <-chan M) M {
	t.Helper()
	select {
	case m, open := <-messages:
		if !open {
			t.Fatal("the stream has ended")
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is sent")
	}
	panic("unreachable")
}

func TestAChangeOfLevelIsPushedAtOnceAndOnlyOnce(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}})
	s.read(t)
	stream, err := s.client.StreamIsActive(t.Context(), object())
	if err != nil {
		t.Fatal(err)
	}
	messages, ended := received(stream.Recv)
	if next(t, messages).Result {
		t.Fatal("an empty queue is active")
	}
	event := pressure.Event{CoordinatorID: "bars", QueueSize: 100, Capacity: 10_000, Level: pressure.OK}
	s.signals.Push(event)
	if !next(t, messages).Result {
		t.Fatal("the event does not make it active")
	}
	event.QueueSize = 200
	s.signals.Push(event) // no transition
	event.QueueSize = 0
	s.signals.Push(event)
	if next(t, messages).Result {
		t.Fatal("the message is no transition")
	}
	s.server.Stop()
	if _, open := <-messages; open {
		t.Error("there was one more message")
	}
	if err := <-ended; err.Error() != "EOF" {
		t.Errorf("the stream ends with %v, want a clean end", err)
	}
}

func TestASpecIsStreamedAtOnceAndWhenItChanges(t *testing.T) {
	s := start(t, &prom{err: errors.New("no route")})
	stream, err := s.client.StreamMetricSpec(t.Context(), object())
	if err != nil {
		t.Fatal(err)
	}
	messages, _ := received(stream.Recv)
	first := next(t, messages)
	asked, err := s.client.GetMetricSpec(t.Context(), object())
	if err != nil || first.String() != asked.String() || first.MetricSpecs[0].TargetSizeFloat != 2000 {
		t.Fatalf("streamed is %v, asked for %v, %v", first, asked, err)
	}
	defaults, err := trigger.ParseDefaults([]byte("metrics: {queueDepth: {targetValue: 250.5}}"))
	if err != nil {
		t.Fatal(err)
	}
	s.server.SetDefaults(defaults)
	if spec := next(t, messages).MetricSpecs[0]; spec.TargetSizeFloat != 250.5 || spec.TargetSize != 251 {
		t.Errorf("after the change it is %v", spec)
	}
	s.server.Stop()
	for range messages {
	}
}

func TestWrongDefaultsLeaveTheOldOnesInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		server := NewServer(NewSignals(&prom{}, time.Hour, time.Second, staleAfter, quiet), quiet)
		var file atomic.Value
		file.Store("metrics: {queueDepth: {targetValue: 250}}")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go server.ReloadDefaults(ctx, time.Second, func() (trigger.Defaults, error) { return trigger.ParseDefaults([]byte(file.Load().(string))) })
		check := func(target, good float64) {
			t.Helper()
			time.Sleep(1500 * time.Millisecond)
			spec, err := server.GetMetricSpec(t.Context(), object())
			if err != nil || spec.MetricSpecs[0].TargetSizeFloat != target {
				t.Errorf("the spec is %v, %v; want a target of %v", spec, err, target)
			}
			if got := testutil.ToFloat64(server.series.defaults); got != good {
				t.Errorf("the series says %v, want %v", got, good)
			}
		}
		check(250, 1)
		file.Store("metrics: {queueDepth: {targetVale: 300}}")
		check(250, 0)
		file.Store("metrics: {queueDepth: {targetValue: 300}}")
		check(300, 1)
	})
}

func TestManyTriggersNeedOneQuery(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(1, pressure.OK)}})
	s.read(t)
	s.mu.Lock()
	before := s.reads
	s.mu.Unlock()
	for i := range 200 {
		ref := object("targetValue", string(rune('1'+i%9)))
		ref.Name = strings.Repeat("p", 1+i/9)
		if _, err := s.ask(ref); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads > before+1 { // one may still be under way from the wait above
		t.Errorf("200 triggers cost %d queries", s.reads-before)
	}
}

func TestHealthFollowsTheFirstSignalsAndReflectionIsServed(t *testing.T) {
	s := start(t, &prom{err: errors.New("no route")})
	health := healthpb.NewHealthClient(s.conn)
	check := func() healthpb.HealthCheckResponse_ServingStatus {
		answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status
	}
	if got := check(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("before the first signals health is %v", got)
	}
	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.set(func(p *prom) { p.err, p.have = nil, map[string]metrics.Observation{"bars": queue(1, pressure.OK)} })
	s.read(t)
	for {
		answer, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status == healthpb.HealthCheckResponse_SERVING {
			break
		}
	}
	info, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := info.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := info.Recv()
	if err != nil || !strings.Contains(answer.String(), "externalscaler.ExternalScaler") {
		t.Errorf("reflection lists %v, %v", answer, err)
	}
	info.CloseSend()
}

func TestAClientThatGoesLeavesNothingBehind(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}})
	s.read(t)
	open := func() float64 { return testutil.ToFloat64(s.server.series.streams.WithLabelValues(streamIsActive)) }
	var cancels []context.CancelFunc
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		stream, err := s.client.StreamIsActive(ctx, object())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if open() != 50 {
		t.Errorf("%v streams are open, want 50", open())
	}
	for _, cancel := range cancels {
		cancel()
	}
	for deadline := time.Now().Add(10 * time.Second); open() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v streams are open for ever", open())
		}
	}
}

func TestAReferenceIsBounded(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}})
	for name, ref := range map[string]*pb.ScaledObjectRef{
		"none":        nil,
		"nameless":    {Namespace: "shop"},
		"a long name": {Name: strings.Repeat("x", 600), Namespace: "shop"},
		"much text":   object("coordinatorIds", strings.Repeat("x", mostBytes)),
	} {
		if _, err := s.client.GetMetricSpec(t.Context(), ref); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	for i := range mostOfOne {
		if _, err := s.client.GetMetricSpec(t.Context(), object("targetValue", strings.Repeat("1", 1+i%10), "activationValue", strings.Repeat("1", 1+i/10))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.client.GetMetricSpec(t.Context(), object("targetValue", "99")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one trigger too many gives %v", err)
	}
}

func TestItIsExplainedWhatWasAnsweredAndWhy(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(6000, pressure.Soft)}})
	s.read(t)
	web := httptest.NewServer(s.server.Handler(prometheus.NewRegistry(), access.Everyone()))
	defer web.Close()
	defer http.DefaultClient.CloseIdleConnections()
	get := func(path string, status int) (body map[string]any) {
		response, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%s answers %s, want %d", path, response.Status, status)
		}
		if strings.HasPrefix(path, "/v1") {
			if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
				t.Error(err)
			}
		}
		return body
	}
	get("/-/healthy", http.StatusOK)
	get("/-/ready", http.StatusOK)
	get("/v1/explain", http.StatusBadRequest)
	get("/v1/explain?scaledObject=shop/pipeline", http.StatusNotFound)
	if _, err := s.ask(object("metric", "desiredReplicas", "drainWithin", "60s")); err != nil {
		t.Fatal(err)
	}
	answers := get("/v1/explain?scaledObject=shop/pipeline", http.StatusOK)["answers"].([]any)
	if len(answers) != 1 {
		t.Fatalf("there are %d answers", len(answers))
	}
	got := answers[0].(map[string]any)
	delete(got, "at")
	delete(got, "age_seconds")
	want := map[string]any{
		"metric": "desiredReplicas", "target": "bars", "coordinators": []any{"bars"}, "level": "soft",
		"depth": 6000.0, "capacity": 10_000.0, "arrivals_per_second": 100.0, "drain_per_second": 50.0, "replicas": 1.0,
		"plan": map[string]any{
			"demand_per_second": 200.0, "drain_per_replica_per_second": 50.0, "wanted": 4.0, "replicas": 2.0, "busy": true,
			"store_bound": false, "store_bound_seconds": 0.0, "scale_outs_in_vain": 0.0, "judging": false,
		},
		"value": 2.0, "active": true, "guard": "growth",
		"autoscaler": map[string]any{
			"target_value": 1.0, "activation_value": 0.0, "metric_type": "AverageValue",
			"replicas": 2.0, "replicas_as_average_value": 2.0, "replicas_as_value": 2.0,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the explanation (-want +got):\n%s", diff)
	}
}

func TestTheSeriesKeepPrometheusRules(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(6000, pressure.Soft)}})
	s.read(t)
	for _, metric := range []string{"queueDepth", "desiredReplicas", "relativePressure"} {
		if _, err := s.ask(object("metric", metric)); err != nil {
			t.Fatal(err)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.server)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, series := range metrics.Catalog() {
		known[series.Name] = true
	}
	for _, f := range families {
		if !known[f.GetName()] {
			t.Errorf("%s is not in the catalog", f.GetName())
		}
	}
}
