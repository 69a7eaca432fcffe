package metrics_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headgate/headgate/metrics"
)

func TestCatalogListsEachSeriesOnceAndWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range metrics.Catalog() {
		if seen[s.Name] {
			t.Errorf("%s stands there twice", s.Name)
		}
		seen[s.Name] = true
		if s.Help == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s: help %q is no sentence", s.Name, s.Help)
		}
		if (s.Kind == metrics.Histogram) != (len(s.Buckets) > 0) || !slices.IsSorted(s.Buckets) {
			t.Errorf("%s: a %s with buckets %v", s.Name, s.Kind, s.Buckets)
		}
	}
	for _, name := range []string{
		metrics.DefaultNames().Depth, metrics.DefaultNames().Capacity, metrics.DefaultNames().Soft, metrics.DefaultNames().Hard,
		metrics.DefaultNames().Accepted, metrics.DefaultNames().Written, metrics.DefaultNames().Dropped,
	} {
		if s, ok := metrics.Find(name); !ok || !slices.Contains(s.Labels, metrics.LabelCoordinatorID) {
			t.Errorf("the reader's %s is not exported with %s", name, metrics.LabelCoordinatorID)
		}
	}
}

func TestCatalogFollowsTheRulesOfNaming(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, s := range metrics.Catalog() {
		values := make([]string, len(s.Labels))
		switch s.Kind {
		case metrics.Gauge:
			v := metrics.NewGauge(s.Name)
			v.WithLabelValues(values...)
			registry.MustRegister(v)
		case metrics.Counter:
			v := metrics.NewCounter(s.Name)
			v.WithLabelValues(values...)
			registry.MustRegister(v)
		case metrics.Histogram:
			v := metrics.NewHistogram(s.Name)
			v.WithLabelValues(values...)
			registry.MustRegister(v)
		default:
			t.Errorf("%s is a %q", s.Name, s.Kind)
		}
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("problems: %v, %v", problems, err)
	}
}

func TestASeriesThatIsNotInTheCatalogIsAFaultOfTheProgram(t *testing.T) {
	for name, make := range map[string]func(){
		"an unknown name": func() { metrics.Desc("no_such_series") },
		"another kind":    func() { metrics.NewCounter(metrics.QueueDepth) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			make()
		})
	}
}
