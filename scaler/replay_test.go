package scaler

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/scaler/trigger"
)

func TestAReplayAnswersWhatTheServerAnswered(t *testing.T) {
	for _, metric := range []trigger.Metric{trigger.QueueDepth, trigger.DrainTime, trigger.DesiredReplicas, trigger.RelativePressure} {
		synctest.Test(t, func(t *testing.T) {
			p := &prom{have: map[string]metrics.Observation{}}
			signals := NewSignals(p, 5*time.Second, time.Second, staleAfter, slog.New(slog.DiscardHandler))
			server := NewServer(signals, slog.New(slog.DiscardHandler))
			metadata := map[string]string{"coordinatorIds": "bars", "metric": string(metric), "scalerAddress": "headgate:6000"}
			ref := &pb.ScaledObjectRef{Namespace: "shop", Name: "pipeline", ScalerMetadata: metadata}
			replay, err := NewReplay("shop/pipeline", metadata, trigger.Defaults{}, staleAfter)
			if err != nil {
				t.Fatal(err)
			}
			for step := range 30 {
				p.set(func(p *prom) {
					o := queue(float64(step%10)*1000, pressure.Level(step%3))
					for n := range step % 5 {
						o.Writers = append(o.Writers, fmt.Sprint(n))
					}
					p.have["bars"] = o
					p.age = time.Duration(step) * 1500 * time.Millisecond
					if step == 7 {
						delete(p.have, "bars")
					}
				})
				time.Sleep(5 * time.Second)
				signals.readOnce(t.Context())
				server.answer(ref)
				want, found := server.Explain("shop/pipeline")
				if !found || len(want) != 1 {
					t.Fatalf("%d answers", len(want))
				}
				snapshot, err := p.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				replay.See(time.Now(), snapshot)
				if diff := cmp.Diff(want[0], replay.Answer(time.Now())); diff != "" {
					t.Errorf("%s, step %d: the replay differs:\n%s", metric, step, diff)
				}
			}
		})
	}
}

func TestAReplayRefusesMetadataThatIsWrong(t *testing.T) {
	_, err := NewReplay("shop/pipeline", map[string]string{"metric": "depth", "coordinatorIDs": "bars"}, trigger.Defaults{}, staleAfter)
	if n := len(invalid.All(err)); n != 3 {
		t.Errorf("%d faults, want the metric, the misspelt key and the missing one: %v", n, err)
	}
}
