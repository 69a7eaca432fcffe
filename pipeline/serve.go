package pipeline

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/port"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/writequeue"
)

// serveAPI puts the coordinator's API, the metrics and the health on the
// pipeline's own address.
func (p *Pipeline) serveAPI() {
	p.handle("", p.Routes()...)
	p.handle("", httpapi.Serving(p.serving, p.coordinator, p.bus, p.log)...)
}

// Served lists all routes by the addresses that the job gives: those of Routes,
// the coordinator's API and the sources.
func (p *Pipeline) Served() map[string][]route.Route { return maps.Clone(p.served) }

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
	switch {
	case p.ready.Load():
		p.tellHealth(w, http.StatusOK, "ready")
	case !p.storesOpen.Load():
		p.tellHealth(w, http.StatusServiceUnavailable, "waiting for the store")
	case !p.opened.Load():
		p.tellHealth(w, http.StatusServiceUnavailable, "waiting for the durable queue")
	default:
		p.tellHealth(w, http.StatusServiceUnavailable, "starting or stopping")
	}
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

// Variables that say who may use a pipeline's ports.
const (
	webVariable    = "HEADGATE_PIPELINE_WEB_CONFIG_FILE"
	accessVariable = "HEADGATE_PIPELINE_ACCESS_FILE"
)

// ports are those of a job, by their addresses.
func ports(j *job.Job, o Options) map[string]port.Port {
	all := map[string]port.Port{}
	add := func(key, address string) {
		guard := o.Access
		if guard == nil {
			guard = access.Everyone()
		}
		all[address] = port.Port{
			Setting: key, Address: address, WebSetting: webVariable, WebConfigFile: o.WebConfigFile,
			AccessSetting: accessVariable, Guard: guard, Allowed: o.AllowUnauthenticated,
		}
	}
	for _, n := range j.Nodes {
		if source, is := n.Settings.(*job.HTTP); is && source.Listen != "" {
			add("dag.nodes."+n.Name+".listen", source.Listen)
		}
	}
	add("metrics.listen (HEADGATE_JOB_METRICS_LISTEN)", j.Metrics.Listen)
	return all
}

// CheckPorts reports what is wrong with the ports that a job would open, joined:
// each is an *invalid.Value.
func CheckPorts(j *job.Job, o Options) error {
	all := ports(j, o)
	var errs []error
	for _, address := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, all[address].Check())
	}
	return errors.Join(errs...)
}

// servers are the HTTP servers of a pipeline.
type servers struct {
	addresses map[string]string // by those that the job gives
	all       []*port.Server
	failed    chan error // what a server ended with before it was shut down
	group     sync.WaitGroup
}

// listen opens all ports, or none of them, and serves.
func (p *Pipeline) listen() (*servers, error) {
	s := &servers{addresses: map[string]string{}, failed: make(chan error, len(p.served))}
	all := ports(p.job, p.options)
	for _, address := range slices.Sorted(maps.Keys(p.served)) {
		server, err := all[address].Open(p.serving, route.Mux(p.served[address], p.options.Access), port.Usual(), p.log)
		if err != nil {
			for _, open := range s.all {
				open.Close()
			}
			return nil, err
		}
		s.all = append(s.all, server)
		s.addresses[address] = server.Address()
	}
	for _, server := range s.all {
		s.group.Go(func() {
			if err := server.Serve(); err != nil {
				s.failed <- err
			}
		})
	}
	if p.options.Listening != nil {
		p.options.Listening(maps.Clone(s.addresses))
	}
	return s, nil
}

// shutdown ends the servers, one after another: requests in progress have so
// long to end.
func (s *servers) shutdown(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	var errs []error
	for _, server := range s.all {
		errs = append(errs, server.Shutdown(time.Until(deadline)))
	}
	s.group.Wait()
	return errors.Join(errs...)
}
