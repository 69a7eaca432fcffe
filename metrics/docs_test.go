package metrics_test

import (
	"testing"

	"github.com/headgate/headgate/internal/generated"
	"github.com/headgate/headgate/metrics"
)

//go:generate go test -run TestTheReferenceListsTheSeries -update

var update = generated.Flag()

func TestTheReferenceListsTheSeries(t *testing.T) {
	generated.Section(t, "../docs/metrics.md", "series", metrics.Markdown(), *update)
}

func TestEverySeriesHasAUnit(t *testing.T) {
	for name, want := range map[string]string{
		metrics.QueueDepth: "items", metrics.ItemsWritten: "items", metrics.WriteBatchItems: "items",
		metrics.QueueWait: "seconds", metrics.ProviderCooling: "seconds",
		metrics.BackpressureSoft: "0 or 1", metrics.StoreBreakerState: "0 or 1", metrics.ControllerBuildInfo: "0 or 1",
		metrics.PressureState: "0, 1 or 2", metrics.ScaleFactor: "0 to 1",
		metrics.BaseRate: "tokens/s", metrics.ScalerReplicaDrain: "items/s", metrics.TokensGranted: "tokens", metrics.SharedDrawn: "tokens",
		metrics.ControllerDecisions: "count", metrics.ScalerReplicas: "count",
	} {
		s, found := metrics.Find(name)
		if got := s.Unit(); !found || got != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
}
