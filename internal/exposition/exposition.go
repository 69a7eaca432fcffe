// Package exposition reads what a server exports on its /metrics, for programs
// that watch servers from outside.
package exposition

import (
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Families are the series of a server, by name.
type Families map[string]*dto.MetricFamily

// Read reads what a server exports at an address. A server that answers with
// anything else than 200 is an error.
func Read(ctx context.Context, client *http.Client, url string) (Families, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err // names the address by itself
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", url, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	return families, nil
}

// Sum is the sum of all gauges and counters of a name whose labels have these
// values, given as name and value in turn; 0 where there is none.
func (f Families) Sum(name string, labels ...string) float64 {
	sum := 0.0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return sum
}

func matches(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}
