package scaler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/route"
)

// Handler serves the scaler's metrics, its health, and why it answered what it
// did, GET /v1/explain?scaledObject=namespace/name, to those whom the guard lets
// in.
func (s *Server) Handler(gatherer prometheus.Gatherer, guard *access.Guard) http.Handler {
	return route.Mux(s.Routes(gatherer), guard)
}

// Routes lists what Handler serves.
func (s *Server) Routes(gatherer prometheus.Gatherer) []route.Route {
	return []route.Route{
		{Pattern: "GET /metrics", Role: access.Read, Help: "the scaler's series", Handler: promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})},
		{Pattern: "GET /-/healthy", Role: access.Open, Help: "whether the process serves", Handler: http.HandlerFunc(serveHealthy)},
		{Pattern: "GET /-/ready", Role: access.Open, Help: "whether there was a snapshot of the signals", Handler: http.HandlerFunc(s.serveReady)},
		{Pattern: "GET /v1/explain", Role: access.Read, Help: "why a ScaledObject was answered what it was", Handler: http.HandlerFunc(s.explain)},
	}
}

func serveHealthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") }

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !s.signals.Ready() {
		http.Error(w, errNeverRead.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
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
