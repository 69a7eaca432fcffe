package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/fleet"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/internal/port"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/internal/tracing"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/settings"
)

// parts are what the loop is put together of.
type parts struct {
	api     v1.API
	port    port.Port
	names   []metrics.Names
	targets []controller.Target

	coordinators map[string]overrides.Coordinator // by their addresses
	signals      *fleet.Signals                   // where replicas are found by them
}

// newParts makes the parts. Its errors are about settings, all of them at once.
func newParts(s settings.Controller, all []settings.Target, traces *tracing.Tracing, log *slog.Logger) (parts, error) {
	api, err := wiring.Prometheus(s.Prometheus)
	port, portErr := newPort(s, log)
	var addresses []string
	for _, t := range all {
		addresses = append(addresses, t.CoordinatorURL)
	}
	transport, transportErr := wiring.CoordinatorTransport(s.Coordinators, addresses)
	err = errors.Join(err, portErr, transportErr)
	if transportErr != nil {
		transport = http.DefaultTransport // to see what else is wrong, not for use
	}
	p := parts{api: api, port: port, coordinators: map[string]overrides.Coordinator{}, signals: &fleet.Signals{}}
	gates := map[string]fleet.Replica{} // by name; targets of the same replicas have one
	dialer := fleet.Dialer{HTTP: wiring.CoordinatorClient(traces.Transport(transport)), Signals: p.signals, Log: log}
	for _, t := range targets.Of(targets.Shard(s.Sharding), all) {
		name := fleet.Name(t.CoordinatorURL, t.CoordinatorIDs)
		gate := gates[name]
		if gate == nil {
			var dialErr error
			gate, dialErr = dialer.Dial(t.CoordinatorURL, t.CoordinatorIDs, fleet.Sharing(t.Share))
			err = errors.Join(err, wiring.Variables(dialErr))
			gates[name], p.coordinators[name] = gate, gate
		}
		target, targetErr := targets.New(t, gate)
		err = errors.Join(err, targetErr)
		p.targets = append(p.targets, target)
		if !slices.Contains(p.names, target.Names) {
			p.names = append(p.names, target.Names)
		}
	}
	if len(p.names) == 0 { // a shard of no target asks for something too, so that it is ready when Prometheus is
		p.names = []metrics.Names{metrics.DefaultNames()}
	}
	return p, err
}

// newController puts the loop together. Its errors are about settings.
func newController(s settings.Controller, p parts, traces *tracing.Tracing, log *slog.Logger) (*controller.Controller, error) {
	reader, err := metrics.NewReader(p.api, p.names, log)
	if err != nil {
		return nil, err
	}
	part := targets.Shard(s.Sharding)
	return controller.New(controller.Config{
		Interval: s.Interval, QueryTimeout: s.Prometheus.Timeout, ApplyTimeout: s.ApplyTimeout,
		Holder: s.Holder, Decisions: s.Decisions, Tracer: traces.Tracer(), Shard: part, Phase: part.Phase(s.Holder, s.Interval),
	}, p.signals.Through(reader), p.targets, log)
}

// newPort checks the controller's one port. The error is about settings.
func newPort(s settings.Controller, log *slog.Logger) (port.Port, error) {
	const variable = "HEADGATE_CONTROLLER_ACCESS_FILE"
	guard, err := wiring.Guard(variable, s.AccessFile, log)
	if err != nil {
		return port.Port{}, err
	}
	p := port.Port{
		Setting: "HEADGATE_CONTROLLER_LISTEN", Address: s.Listen,
		WebSetting: "HEADGATE_CONTROLLER_WEB_CONFIG_FILE", WebConfigFile: s.WebConfigFile,
		AccessSetting: variable, Guard: guard, Allowed: s.Ports.AllowUnauthenticated,
	}
	return p, p.Check()
}

// defaultHolder is a name that no other controller has.
func defaultHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "controller"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
