package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/exposition"
	"github.com/headgate/headgate/metrics"
)

// watchEvery is how often it is looked at the pipeline and the scaler.
const watchEvery = 100 * time.Millisecond

// seen is what the pipeline said at a time.
type seen struct {
	at, until      time.Time // it said so between these
	answered       bool
	state          coordinator.State
	depth, written float64
}

func (s seen) String() string {
	if !s.answered {
		return "the pipeline does not answer"
	}
	return fmt.Sprintf("depth %v, scale %v at %s, %v/s, scales %+v, breaker %s", s.depth, s.state.Scale, s.state.Level, s.state.EffectivePerSecond, s.state.Scales, s.state.Breaker.State)
}

// normal reports whether the provider runs at its base rate by a controller's
// word.
func (s seen) normal() bool {
	return s.answered && s.state.EffectivePerSecond == base && s.holder() != ""
}

// holder is the controller whose lease is in force.
func (s seen) holder() string {
	for _, scale := range s.state.Scales {
		if scale.Owner == coordinator.OwnerController {
			return scale.Holder
		}
	}
	return ""
}

// answer is what the scaler said at a time.
type answer struct {
	at    time.Time
	code  codes.Code
	depth float64
}

// watch looks at the pipeline and the scaler all the time.
type watch struct {
	pipeline *client.Client
	http     *http.Client
	address  string
	scaler   string
	say      func(format string, args ...any) // into the case's log

	mu      sync.Mutex
	seens   []seen
	answers []answer
	bad     []error

	stopOnce sync.Once
	cancel   context.CancelFunc
	all      sync.WaitGroup
}

func newWatch(pipeline, scaler string, say func(string, ...any)) *watch {
	w := &watch{http: &http.Client{Timeout: time.Second}, address: pipeline, scaler: scaler, say: say}
	w.pipeline, _ = client.New("http://"+pipeline, w.http) // the address is one
	return w
}

func (w *watch) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.all.Go(func() { w.again(ctx, func() { w.look(ctx) }) })
	w.all.Go(func() {
		conn, err := grpc.NewClient(w.scaler, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			w.fault(err)
			return
		}
		defer conn.Close()
		scaler := pb.NewExternalScalerClient(conn)
		w.again(ctx, func() { w.ask(ctx, scaler) })
	})
}

func (w *watch) again(ctx context.Context, do func()) {
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	for {
		do()
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) stop() {
	w.stopOnce.Do(func() {
		if w.cancel != nil {
			w.cancel()
			w.all.Wait()
		}
		w.http.CloseIdleConnections()
	})
}

func (w *watch) look(ctx context.Context) {
	s := seen{at: time.Now()}
	var err error
	if s.state, err = w.pipeline.State(ctx, provider); err == nil {
		var families exposition.Families
		if families, err = exposition.Read(ctx, w.http, "http://"+w.address+"/metrics"); err == nil {
			_, s.answered = families[metrics.QueueDepth] // a durable queue that does not answer has none
			s.depth, s.written = families.Sum(metrics.QueueDepth), families.Sum(metrics.ItemsWritten)
		}
	}
	if s.answered && s.state.EffectivePerSecond > base*(1+1e-9) {
		w.fault(fmt.Errorf("the provider runs at %v/s, above its budget of %v/s", s.state.EffectivePerSecond, base))
	}
	s.until = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seens = append(w.seens, s)
}

// betweenLooks is by how many items the depth can have been lower between two
// looks at it: what the workers take at once.
const betweenLooks = 200

// ask asks the scaler for the depth, as KEDA does. What it answers has to lie in
// what the depth was while the answer may have been true.
func (w *watch) ask(ctx context.Context, scaler pb.ExternalScalerClient) {
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a := answer{at: time.Now()}
	response, err := scaler.GetMetrics(within, &pb.GetMetricsRequest{
		MetricName: "headgate-queue-depth",
		ScaledObjectRef: &pb.ScaledObjectRef{Namespace: "chaos", Name: "pipeline", ScalerMetadata: map[string]string{
			"scalerAddress": w.scaler, "coordinatorIds": coordinatorID,
		}},
	})
	if a.code = status.Code(err); err == nil {
		a.depth = response.GetMetricValues()[0].GetMetricValueFloat()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, a)
	const window = stale + 3*tick
	if least := w.leastDepth(a.at.Add(-window)); a.code == codes.OK && a.depth < least-betweenLooks {
		w.bad = append(w.bad, fmt.Errorf("the scaler answered a depth of %v, which was %v at least for all of the last %v", a.depth, least, window))
		for _, s := range w.seens[max(0, len(w.seens)-200):] {
			w.say("wrong answer: %v to %v before it the depth was %v", a.at.Sub(s.at), a.at.Sub(s.until), s.depth)
		}
	}
}

// unseen is the longest between two looks in which the depth cannot have been
// anything else than at both.
const unseen = 500 * time.Millisecond

// leastDepth is the least that the depth has been since a time, and 0 where that
// is not known. w.mu is held.
func (w *watch) leastDepth(since time.Time) float64 {
	least, next := math.Inf(1), time.Now()
	for _, s := range slices.Backward(w.seens) {
		if !s.answered || next.Sub(s.at) > unseen {
			return 0
		}
		least, next = min(least, s.depth), s.until
		if s.until.Before(since) {
			return least
		}
	}
	return 0
}

func (w *watch) fault(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = append(w.bad, err)
}

// mostFaults bounds what one case can say.
const mostFaults = 5

// faults is what was wrong at any time.
func (w *watch) faults() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.bad[:min(len(w.bad), mostFaults)]...)
}

func (w *watch) last() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seens) == 0 {
		return seen{}
	}
	return w.seens[len(w.seens)-1]
}

// scalerAnswers reports whether the scaler answered when it was last asked.
func (w *watch) scalerAnswers() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.answers) > 0 && w.answers[len(w.answers)-1].code == codes.OK
}

// forget lets the last look count no longer.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seens = append(w.seens, seen{at: time.Now(), until: time.Now()})
}

// since is all that was seen from a time on.
func (w *watch) since(t time.Time) (seens []seen, answers []answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seens {
		if !s.at.Before(t) {
			seens = append(seens, s)
		}
	}
	for _, a := range w.answers {
		if !a.at.Before(t) {
			answers = append(answers, a)
		}
	}
	return seens, answers
}
