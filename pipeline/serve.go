package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/writequeue"
)

// serveAPI puts the coordinator's API, the metrics and the health on the
// pipeline's own address.
func (p *Pipeline) serveAPI() {
	for _, r := range p.Routes() {
		p.handle("", r.Pattern, r.Handler)
	}
	p.handle("", "/", httpapi.New(p.serving, p.coordinator, p.bus, p.log, access.Everyone()))
}

// Routes lists what the pipeline serves on its own address beside the
// coordinator's API and its sources.
func (p *Pipeline) Routes() []route.Route {
	return []route.Route{
		{Pattern: "GET /metrics", Role: access.Read, Help: "the pipeline's series", Handler: promhttp.HandlerFor(p.series.registry, promhttp.HandlerOpts{
			Registry: p.series.registry, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelError),
		})},
		{Pattern: "GET /-/healthy", Role: access.Open, Help: "whether the process works, and how its queues are", Handler: http.HandlerFunc(p.healthy)},
		{Pattern: "GET /-/ready", Role: access.Open, Help: "whether it takes items", Handler: http.HandlerFunc(p.isReady)},
	}
}

// health is the body of both health routes.
type health struct {
	Status string                       `json:"status"`
	Queues map[string]writequeue.Health `json:"queues,omitempty"` // by coordinator_id
}

// healthy answers 200 as long as the process works, whatever the store does:
// to start the process anew would mend nothing.
func (p *Pipeline) healthy(w http.ResponseWriter, _ *http.Request) {
	p.tellHealth(w, http.StatusOK, "ok")
}

// isReady answers 200 while the pipeline takes items.
func (p *Pipeline) isReady(w http.ResponseWriter, _ *http.Request) {
	if !p.ready.Load() {
		p.tellHealth(w, http.StatusServiceUnavailable, "starting or stopping")
		return
	}
	p.tellHealth(w, http.StatusOK, "ready")
}

func (p *Pipeline) tellHealth(w http.ResponseWriter, code int, status string) {
	body := health{Status: status, Queues: map[string]writequeue.Health{}}
	for _, q := range p.queues {
		body.Queues[q.Stats().CoordinatorID] = q.Health()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked is gone where this fails
}

// servers are the HTTP servers of a pipeline.
type servers struct {
	addresses map[string]string // by those that the job gives
	all       []*http.Server
	failed    chan error // what a server ended with before it was shut down
	group     sync.WaitGroup
}

// listen opens all ports, or none of them, and serves.
func (p *Pipeline) listen() (*servers, error) {
	addresses := slices.Sorted(maps.Keys(p.muxes))
	var listeners []net.Listener
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, fmt.Errorf("open the port: %w", err)
		}
		listeners = append(listeners, listener)
	}
	s := &servers{addresses: map[string]string{}, failed: make(chan error, len(listeners))}
	for i, listener := range listeners {
		s.addresses[addresses[i]] = listener.Addr().String()
		server := &http.Server{
			Handler:           p.muxes[addresses[i]],
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
			BaseContext:       func(net.Listener) context.Context { return p.serving },
		}
		s.all = append(s.all, server)
		s.group.Go(func() {
			err := web.Serve(listener, server, &web.FlagConfig{WebConfigFile: &p.options.WebConfigFile}, p.log)
			if !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("serve HTTP: %w", err)
			}
		})
	}
	if p.options.Listening != nil {
		p.options.Listening(maps.Clone(s.addresses))
	}
	return s, nil
}

// shutdown ends the servers: requests in progress have so long to end.
func (s *servers) shutdown(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var errs []error
	for _, server := range s.all {
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		errs = append(errs, err)
	}
	s.group.Wait()
	return errors.Join(errs...)
}
