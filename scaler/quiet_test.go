package scaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// flaky is a Prometheus that fails at every other time.
type flaky struct{ prom }

func (f *flaky) Read(ctx context.Context) (metrics.Snapshot, error) {
	f.set(func(p *prom) {
		if p.err = nil; p.reads%2 == 0 {
			p.err = errors.New("no route")
		}
	})
	return f.prom.Read(ctx)
}

func TestASteadyDayIsALogLineAScaledObjectAtMost(t *testing.T) {
	const objects = 10
	calm := map[string]metrics.Observation{"bars": queue(1, pressure.OK)}
	// The store is the limit, whatever the number of writers.
	bound := queue(8000, pressure.Soft)
	bound.Arrivals.PerSecond, bound.Drain.PerSecond = 400, 100
	bound.Writers = []string{"a"}
	tests := []struct {
		name   string
		reader Reader
		grows  bool // the fleet follows
		most   int  // lines a day, of one object and of the signals
	}{
		{name: "OK throughout", reader: &prom{have: calm}, most: 1},
		{name: "signals lost", reader: &prom{err: errors.New("no route")}, most: 1},
		{name: "signals that come and go", reader: &flaky{prom{have: calm}}, most: 2},
		{name: "a store that is the limit", reader: &prom{have: map[string]metrics.Observation{"bars": bound}}, grows: true, most: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var text logged
				log := slog.New(slog.NewTextHandler(&text, nil))
				signals := NewSignals(test.reader, 30*time.Second, time.Second, 2*time.Minute, log)
				server := NewServer(signals, log)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go signals.Run(ctx)
				go server.Run(ctx)
				// day asks as KEDA does, and lets the fleet have what is asked for; it
				// returns the lines of each object.
				day := func() map[string]int {
					text.mu.Lock()
					text.text.Reset()
					text.mu.Unlock()
					for range 24 * 60 {
						time.Sleep(time.Minute)
						synctest.Wait()
						var wanted float64
						for i := range objects {
							ref := object("metric", "desiredReplicas", "settle", "1m", "tries", "2", "retryAfter", "10m", "maxReplicas", "20")
							ref.Name = fmt.Sprint("pipeline-", i)
							answer, err := server.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "headgate-desired-replicas"})
							if err == nil {
								wanted = max(wanted, answer.MetricValues[0].MetricValueFloat)
							}
						}
						if test.grows {
							test.reader.(*prom).set(func(p *prom) {
								o := p.have["bars"]
								o.Writers = nil
								for i := range int(wanted) {
									o.Writers = append(o.Writers, fmt.Sprint(i))
								}
								p.have["bars"] = o
							})
						}
					}
					lines := map[string]int{}
					for line := range strings.Lines(text.String()) {
						_, of, _ := strings.Cut(line, "scaled_object=")
						name, _, _ := strings.Cut(of, " ")
						lines[name]++
					}
					return lines
				}
				if first := day(); len(first) == 0 {
					t.Error("nothing was logged in the first day")
				}
				for name, lines := range day() {
					if lines > test.most {
						t.Errorf("%q has %d lines in the second day", name, lines)
					}
				}
			})
		})
	}
}
