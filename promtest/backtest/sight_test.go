package backtest

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
)

func rate(v float64) metrics.Rate { return metrics.Rate{PerSecond: v, Known: true} }

func TestAStoreIsHeldToBeAsFastIdleAsItWasBusy(t *testing.T) {
	idle := reading{depth: 3, arrivals: 100, drain: 100, store: 100, empty: true}
	for name, test := range map[string]struct {
		least, want float64
	}{
		"as in the fastest of its last three scrapes with work": {math.NaN(), 900},
		"as it was seen":         {0, 100},
		"as is said":             {700, 700},
		"never slower than seen": {50, 100},
	} {
		s := &store{least: test.least}
		before := idle
		s.judge(&before)
		if want := max(100, known(test.least, 0)); before.store != want {
			t.Errorf("%s: %v before it was ever busy, want %v", name, before.store, want)
		}
		for i, drain := range []float64{5000, 800, 900, 900, 850} { // of the same scrape twice
			now := reading{depth: 500, arrivals: 900, drain: drain, store: drain, newest: time.Unix(int64(i-i/3), 0)}
			s.judge(&now)
			if now.store != drain {
				t.Errorf("%s: busy it takes %v, want what was seen", name, now.store)
			}
		}
		now := idle
		if s.judge(&now); now.store != test.want {
			t.Errorf("%s: it takes %v, want %v", name, now.store, test.want)
		}
		now = reading{depth: math.NaN(), arrivals: 1, drain: 1, store: 1, empty: true}
		if s.judge(&now); now.store != 1 {
			t.Errorf("%s: of what is not known it takes %v", name, now.store)
		}
	}
}

func known(v, otherwise float64) float64 {
	if math.IsNaN(v) {
		return otherwise
	}
	return v
}

func TestATargetIsSeenAsItsCoordinatorsTogether(t *testing.T) {
	snapshot := metrics.Snapshot{Coordinators: map[string]metrics.Observation{
		"a": {Depth: 10, Capacity: 100, HasLevel: true, Arrivals: rate(5), Drain: rate(4), Dropped: rate(1), Replicas: []metrics.Replica{{Instance: "p1"}}},
		"b": {Depth: 20, Capacity: math.NaN(), HasLevel: true, Level: pressure.Soft, Arrivals: rate(50), Drain: rate(400), Replicas: []metrics.Replica{{Instance: "p2"}}},
	}}
	readings := map[string]reading{"a": read(snapshot, "a", 0), "b": read(snapshot, "b", 1000), "c": read(snapshot, "c", 1000)}
	told := []report{
		{"ibkr", "p1", 200, 1, 1}, {"ibkr", "p2", 300, 0.5, 1}, {"ibkr", "p3", 9000, 0, 1}, {"other", "p1", 7000, 0, 1},
	}
	soft, nan := pressure.Soft, math.NaN()
	for name, test := range map[string]struct {
		ids  []string
		told []report
		want sight
	}{
		"two of them": {[]string{"a", "b"}, told,
			sight{depth: 30, capacity: 1100, arrivals: 55, drain: 404, dropped: nan, level: &soft, base: 300, supply: 500, scale: 0.5}},
		"where one is missing nothing is known, but of the provider": {[]string{"a", "c"}, told,
			sight{depth: nan, capacity: nan, arrivals: nan, drain: nan, dropped: nan, base: 200, supply: 200, scale: 1}},
		"whose processes tell nothing of the provider": {[]string{"b"}, told[2:],
			sight{depth: 20, capacity: 1000, arrivals: 50, drain: 400, dropped: nan, level: &soft, empty: true, base: 9000, supply: 9000, scale: 0}},
		"whose processes share the base rate": {[]string{"a", "b"}, []report{{"ibkr", "p1", 200, 1, 0.75}, {"ibkr", "p2", 200, 1, 0.25}},
			sight{depth: 30, capacity: 1100, arrivals: 55, drain: 404, dropped: nan, level: &soft, base: 200, supply: 200, scale: 1}},
		"of whose provider nobody tells": {[]string{"b"}, told[3:],
			sight{depth: 20, capacity: 1000, arrivals: 50, drain: 400, dropped: nan, level: &soft, empty: true, base: nan, supply: nan, scale: nan}},
	} {
		t.Run(name, func(t *testing.T) {
			got := look(settings.Target{CoordinatorIDs: test.ids, Provider: "ibkr"}, readings, test.told)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(sight{}), cmpopts.EquateNaNs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReportsAreOfProcesses(t *testing.T) {
	sample := func(name, provider, instance string, v float64) *model.Sample {
		return &model.Sample{Value: model.SampleValue(v), Metric: model.Metric{
			model.MetricNameLabel: model.LabelValue(name), metrics.LabelProvider: model.LabelValue(provider), model.InstanceLabel: model.LabelValue(instance),
		}}
	}
	got := reports(model.Vector{
		sample(metrics.ScaleFactor, "ibkr", "p2", 0.5), sample(metrics.BaseRate, "ibkr", "p2", 100), sample(metrics.BaseRate, "ibkr", "p1", 200),
		sample(metrics.ScaleFactor, "ibkr", "p1", math.NaN()), sample(metrics.BaseRate, "b", "p1", -1),
		sample(metrics.ProviderShare, "ibkr", "p2", 0.25),
	})
	nan := math.NaN()
	want := []report{{"b", "p1", nan, nan, 1}, {"ibkr", "p1", 200, nan, 1}, {"ibkr", "p2", 100, 0.5, 0.25}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(report{}), cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}
