package scaler

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/trigger"
)

// logged is a log that goroutines write while a test reads it.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestAStoreThatIsTheLimitShowsEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		// Whatever the number of writers, the store takes 100 items per second.
		writers := func(names ...string) metrics.Observation {
			o := queue(8000, pressure.Soft)
			o.Arrivals.PerSecond, o.Drain.PerSecond = 400, 100
			o.Writers = names
			return o
		}
		p := &prom{have: map[string]metrics.Observation{"bars": writers("a")}}
		signals := NewSignals(p, time.Second, time.Second, staleAfter, slog.New(slog.DiscardHandler))
		server := NewServer(signals, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go signals.Run(ctx)
		go server.Run(ctx)
		ref := object("metric", "desiredReplicas", "settle", "10s", "tries", "2", "retryAfter", "10m")
		value := func() float64 {
			synctest.Wait()
			answer, err := server.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "headgate-desired-replicas"})
			if err != nil {
				t.Fatal(err)
			}
			return answer.MetricValues[0].MetricValueFloat
		}
		value() // from now on the server looks at each view by itself
		for _, fleet := range [][]string{{"a", "b"}, {"a", "b", "c", "d"}} {
			time.Sleep(15 * time.Second)
			if got := value(); got <= float64(len(fleet)/2) {
				t.Fatalf("before the verdict %v replicas are asked for, want more than there are", got)
			}
			if strings.Contains(log.String(), "store-bound") {
				t.Fatalf("the verdict is there too soon:\n%s", log.String())
			}
			p.set(func(p *prom) { p.have["bars"] = writers(fleet...) })
		}
		time.Sleep(30 * time.Second)
		if got := value(); got != 4 {
			t.Errorf("%v replicas are asked for, want no more than the 4 that are there", got)
		}

		if line := "scaled_object=shop/pipeline metric=desiredReplicas store_bound=true replicas=4 drain_per_second=100"; !strings.Contains(log.String(), line) {
			t.Errorf("the log has no %s:\n%s", line, log.String())
		}
		answers, _ := server.Explain("shop/pipeline")
		if len(answers) != 1 || answers[0].Guard != "store_bound" || !answers[0].Plan.StoreBound || answers[0].Plan.ScaleOutsInVain != 2 || answers[0].Autoscaler.Replicas != 4 {
			t.Errorf("it is explained as %+v", answers)
		}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(server)
		for name, want := range map[string]string{
			metrics.ScalerStoreBound:     `{metric="desiredReplicas",scaled_object="shop/pipeline",target="bars"} 1`,
			metrics.ScalerReplicasWanted: `{metric="desiredReplicas",scaled_object="shop/pipeline",target="bars"} 4`,
		} {
			series, _ := metrics.Find(name)
			text := "# HELP " + name + " " + series.Help + "\n# TYPE " + name + " gauge\n" + name + want + "\n"
			if err := testutil.GatherAndCompare(registry, strings.NewReader(text), name); err != nil {
				t.Error(err)
			}
		}
		if got := testutil.ToFloat64(server.series.guards.WithLabelValues("store_bound")); got != 1 {
			t.Errorf("the guard is counted %v times, want once", got)
		}

		// What is not known for a while is neither decided anew nor told again.
		lines := strings.Count(log.String(), "store-bound")
		p.set(func(p *prom) { p.age = 2 * staleAfter })
		time.Sleep(5 * time.Second)
		if _, err := server.IsActive(t.Context(), ref); status.Code(err) != codes.Unavailable {
			t.Errorf("stale signals give %v", err)
		}
		p.set(func(p *prom) { p.age = 0 })
		time.Sleep(5 * time.Second)
		if got := value(); got != 4 {
			t.Errorf("after the gap %v replicas are asked for, want 4", got)
		}
		if strings.Count(log.String(), "store-bound") != lines || testutil.ToFloat64(server.series.guards.WithLabelValues("store_bound")) != 1 {
			t.Errorf("the gap is taken for a new verdict:\n%s", log.String())
		}

		// After a while the verdict is doubted: one more step is tried.
		time.Sleep(10 * time.Minute)
		if got := value(); got <= 4 {
			t.Errorf("after the time to retry %v replicas are asked for, want more than 4", got)
		}
	})
}

func TestNewDefaultsThatMakeATriggerWrongAreStreamed(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}})
	// Its target is that of a trigger whose metadata is wrong.
	stream, err := s.client.StreamMetricSpec(t.Context(), object("metric", "desiredReplicas", "maxReplicas", "3"))
	if err != nil {
		t.Fatal(err)
	}
	messages, _ := received(stream.Recv)
	if spec := next(t, messages).MetricSpecs[0]; spec.MetricName != "headgate-desired-replicas" || spec.TargetSizeFloat != 1 {
		t.Errorf("at first it is %v", spec)
	}
	defaults, err := trigger.ParseDefaults([]byte("metrics: {desiredReplicas: {minReplicas: 5}}"))
	if err != nil {
		t.Fatal(err)
	}
	s.server.SetDefaults(defaults)
	if spec := next(t, messages).MetricSpecs[0]; spec.MetricName != invalidName {
		t.Errorf("with more replicas at least than at most it is %v", spec)
	}
	s.server.SetDefaults(trigger.Defaults{})
	if spec := next(t, messages).MetricSpecs[0]; spec.MetricName != "headgate-desired-replicas" {
		t.Errorf("without those defaults it is %v", spec)
	}
	s.server.Stop()
	for range messages {
	}
}

func TestAnEditedTriggerIsToldOfBeforeWhatTheEditLeavesBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		signals := NewSignals(&prom{have: map[string]metrics.Observation{"bars": queue(700, pressure.OK)}}, time.Minute, time.Second, staleAfter, quiet)
		server := NewServer(signals, quiet)
		targets := func() (explained []float64, collected float64) {
			answers, _ := server.Explain("shop/pipeline")
			for _, a := range answers {
				explained = append(explained, a.Autoscaler.TargetValue)
			}
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(server)
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == metrics.ScalerTarget {
					collected = f.GetMetric()[0].GetGauge().GetValue()
				}
			}
			return explained, collected
		}
		for _, target := range []string{"100", "200", "100"} {
			signals.readOnce(t.Context())
			time.Sleep(time.Second)
			if _, err := server.IsActive(t.Context(), object("targetValue", target)); err != nil {
				t.Fatal(err)
			}
		}
		explained, collected := targets()
		if diff := cmp.Diff([]float64{100, 200}, explained); diff != "" || collected != 100 {
			t.Errorf("collected is a target of %v, want 100; explained are (-want +got)\n%s", collected, diff)
		}
	})
}

func TestWhatIsNotKnownIsNullInAnExplanation(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	server := NewServer(NewSignals(&prom{}, time.Hour, time.Second, staleAfter, quiet), quiet)
	server.IsActive(t.Context(), object())
	answers, _ := server.Explain("shop/pipeline")
	for i := range answers {
		answers[i].At = time.Time{}
	}
	got, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"at":"0001-01-01T00:00:00Z","metric":"queueDepth","target":"bars","coordinators":null,"age_seconds":null,` +
		`"level":null,"depth":null,"capacity":null,"arrivals_per_second":null,"drain_per_second":null,"replicas":0,"plan":null,` +
		`"value":null,"active":false,"autoscaler":{"target_value":2000,"activation_value":0,"metric_type":"AverageValue",` +
		`"replicas":0,"replicas_as_average_value":0,"replicas_as_value":0},"error":"no signals were read from Prometheus yet"}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestACallThatPanicsHarmsNoOther(t *testing.T) {
	var log logged
	server := NewServer(nil, slog.New(slog.DiscardHandler)) // without signals each answer is a fault
	g := NewGRPC(server, nil, nil, access.Everyone(), slog.New(slog.NewTextHandler(&log, nil)))
	client := pb.NewExternalScalerClient(serveGRPC(t, g.Server))
	if _, err := client.IsActive(t.Context(), object()); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("the error is %v, want Internal and no more", err)
	}
	stream, err := client.StreamIsActive(t.Context(), object())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("the stream ends with %v, want Internal", err)
	}
	if _, err := client.GetMetricSpec(t.Context(), object()); err != nil {
		t.Errorf("the next call gets %v", err)
	}
	if got := testutil.ToFloat64(server.series.panics); got != 2 {
		t.Errorf("%v panics are counted, want 2", got)
	}
	if !strings.Contains(log.String(), "nil pointer") || !strings.Contains(log.String(), "stack=") {
		t.Errorf("the fault is not logged:\n%s", log.String())
	}
}

// serveGRPC serves on a loopback port until the test ends.
func serveGRPC(t testing.TB, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-ended
	})
	return conn
}

func TestAMessageThatIsTooLongIsRefused(t *testing.T) {
	s := start(t, &prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}})
	ref := object("coordinatorIds", strings.Repeat("x", maxMessage))
	if _, err := s.client.IsActive(t.Context(), ref); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v, want ResourceExhausted", err)
	}
}

func TestStoppingWaitsForStreamsToEndAndForNothingThatDoesNot(t *testing.T) {
	serve := func(t *testing.T) (g *GRPC, conn *grpc.ClientConn, log *logged) {
		log = &logged{}
		quiet := slog.New(slog.DiscardHandler)
		g = NewGRPC(NewServer(NewSignals(&prom{}, time.Hour, time.Second, staleAfter, quiet), quiet), nil, nil, access.Everyone(), slog.New(slog.NewTextHandler(log, nil)))
		return g, serveGRPC(t, g.Server), log
	}
	t.Run("a client that reads later finds a clean end", func(t *testing.T) {
		g, conn, log := serve(t)
		stream, err := pb.NewExternalScalerClient(conn).StreamMetricSpec(t.Context(), object())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // so that the stream is open
			t.Fatal(err)
		}
		g.Shutdown(time.Minute)
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("the stream ends with %v, want EOF", err)
		}
		if log.String() != "" {
			t.Errorf("something was broken off: %s", log)
		}
	})
	t.Run("a stream that does not end by itself is broken off", func(t *testing.T) {
		g, conn, log := serve(t)
		watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		g.Shutdown(10 * time.Millisecond)
		for err == nil { // a last message may tell that it is not serving
			_, err = watch.Recv()
		}
		if status.Code(err) != codes.Unavailable || !strings.Contains(log.String(), "broken off") {
			t.Errorf("the stream ends with %v, and the log is %q", err, log)
		}
	})
}

func TestATriggerThatNobodyAsksForIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		signals := NewSignals(&prom{have: map[string]metrics.Observation{"bars": queue(0, pressure.OK)}}, time.Minute, time.Second, staleAfter, quiet)
		server := NewServer(signals, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go signals.Run(ctx)
		go server.Run(ctx)
		for _, name := range []string{"kept", "gone"} {
			ref := object()
			ref.Name = name
			if _, err := server.GetMetricSpec(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		kept := object()
		kept.Name = "kept"
		for range 3 {
			time.Sleep(idleFor / 2)
			synctest.Wait()
			if _, err := server.GetMetricSpec(t.Context(), kept); err != nil {
				t.Fatal(err)
			}
		}
		if _, found := server.Explain("shop/kept"); !found {
			t.Error("the one that is asked for is forgotten")
		}
		if _, found := server.Explain("shop/gone"); found {
			t.Error("the one that nobody asks for is kept")
		}
	})
}

func TestTheRecordOfTheGuardIsWithoutADrainThatIsNotKnown(t *testing.T) {
	var log strings.Builder
	r := row{object: "shop/pipeline", log: slog.New(slog.NewJSONHandler(&log, nil))}
	r.outcome.plan.StoreBound = true
	r.outcome.load = load{depth: 500, drain: math.NaN()}
	r.tellBound(time.Now())
	var record map[string]any
	if err := json.Unmarshal([]byte(log.String()), &record); err != nil {
		t.Fatal(err)
	}
	if drain, there := record["drain_per_second"]; there || record["depth"] != 500. {
		t.Errorf("the drain is %v, the record is\n%s", drain, log.String())
	}
}
