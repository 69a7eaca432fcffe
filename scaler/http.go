package scaler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves the scaler's metrics, its health, and why it answered what it
// did: GET /v1/explain?scaledObject=namespace/name.
func (s *Server) Handler(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "healthy")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.signals.Ready() {
			http.Error(w, errNeverRead.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /v1/explain", s.explain)
	return mux
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	object := r.URL.Query().Get("scaledObject")
	namespace, name, _ := strings.Cut(object, "/")
	if namespace == "" || name == "" {
		answer(w, http.StatusBadRequest, map[string]string{
			"error": fmt.Sprintf("scaledObject is %.100q, want namespace/name", object),
		})
		return
	}
	answers, found := s.Explain(object)
	if !found {
		answer(w, http.StatusNotFound, map[string]string{
			"error": fmt.Sprintf("ScaledObject %.100q has not asked for anything since the scaler started", object),
		})
		return
	}
	answer(w, http.StatusOK, map[string]any{"scaled_object": object, "answers": append([]Answer{}, answers...)})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the peer may be gone; that is no news
}
