package exposition_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/internal/exposition"
)

func TestWhatAServerExportsIsSummedByLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "h"}, []string{"path", "code"})
	depth := prometheus.NewGauge(prometheus.GaugeOpts{Name: "depth", Help: "h"})
	registry.MustRegister(requests, depth)
	requests.WithLabelValues("/a", "200").Add(3)
	requests.WithLabelValues("/a", "500").Add(4)
	requests.WithLabelValues("/b", "200").Add(5)
	depth.Set(7)
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	families, err := exposition.Read(t.Context(), server.Client(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"requests_total", nil, 12},
		{"requests_total", []string{"path", "/a"}, 7},
		{"requests_total", []string{"path", "/a", "code", "500"}, 4},
		{"requests_total", []string{"path", "/c"}, 0},
		{"depth", nil, 7},
		{"height", nil, 0},
	} {
		if got := families.Sum(test.name, test.labels...); got != test.want {
			t.Errorf("the sum of %s with %v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
}

func TestAServerThatExportsNothingIsAnError(t *testing.T) {
	for _, handler := range []http.HandlerFunc{
		http.NotFound,
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		server := httptest.NewServer(handler)
		_, err := exposition.Read(t.Context(), server.Client(), server.URL)
		if err == nil || !strings.Contains(err.Error(), server.URL) {
			t.Errorf("the error is %v, want one that names %s", err, server.URL)
		}
		server.Close()
	}
}
