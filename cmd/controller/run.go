package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/oklog/run"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/version"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/httpapi"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/internal/tracing"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

// runCommand runs the loop.
type runCommand struct{}

// errSettings says that what the program is set to is wrong.
var errSettings = errors.New("the settings are wrong")

// errLogged says that the loop failed, and that the log has why.
var errLogged = errors.New("the log has it")

// Run runs until ctx ends, as it does when a signal comes.
func (*runCommand) Run(ctx context.Context, env environment) error {
	r, err := prepare(ctx, env)
	if err != nil {
		return err
	}
	starts := []any{"version", version.Info(), "targets", len(r.parts.targets), "holder", r.settings.Holder}
	if part := targets.Shard(r.settings.Sharding); !part.Only() {
		starts = append(starts, "shard", part.Index, "shards", part.Of, "targets_of_all", len(r.targets))
	}
	r.targets = nil // those of other shards are of no more use
	r.log.Info("controller starts", starts...)
	if err := r.serve(ctx); err != nil {
		r.log.Error("controller failed", "error", err)
		return errLogged
	}
	r.log.Info("controller stopped; its leases are left to expire")
	return nil
}

// ready is a controller of which everything is checked and nothing started.
type ready struct {
	settings settings.Controller
	targets  []settings.Target // of all shards
	parts    parts
	loop     *controller.Controller
	tracing  *tracing.Tracing
	log      *slog.Logger
}

// tracesLimit is how long the last traces may take to be sent.
const tracesLimit = 3 * time.Second

// prepare reads and checks the settings and puts the loop together. The error is
// errSettings, and names everything that is wrong.
func prepare(ctx context.Context, env environment) (ready, error) {
	loaded, all, err := settings.LoadController(ctx, env.variables, os.ReadFile)
	log := wiring.Logger(loaded.Log, env.stderr)
	loaded.Holder = cmp.Or(loaded.Holder, defaultHolder())
	traces, tracesErr := tracing.New(ctx, loaded.Tracing, tracing.Service{Version: version.Version, Instance: loaded.Holder}, log)
	log = traces.Log(log)
	parts, partsErr := newParts(loaded, all, traces, log)
	var loop *controller.Controller
	if err = errors.Join(err, partsErr, tracesErr); err == nil {
		loop, err = newController(loaded, parts, traces, log)
	}
	if err != nil {
		return ready{}, fmt.Errorf("%w:\n%w", errSettings, err)
	}
	return ready{loaded, all, parts, loop, traces, log}, nil
}

// serve runs the loop, its status page and the HTTP server until one of them
// ends, or ctx does; then it ends all.
func (r ready) serve(ctx context.Context) error {
	r.tracing.Start()
	defer r.tracing.Stop(tracesLimit)
	registry := prom.NewRegistry()
	registry.MustRegister(r.loop, r.parts.port.Guard, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var group run.Group
	wiring.AddGuard(ctx, &group, r.parts.port.Guard)
	loopCtx, stopLoop := context.WithCancel(ctx)
	group.Add(func() error { return r.loop.Run(loopCtx) }, func(error) { stopLoop() })
	page, err := statuspage.New(r.loop)
	if err != nil {
		return err
	}
	pageCtx, stopPage := context.WithCancel(ctx)
	group.Add(func() error { return page.Run(pageCtx) }, func(error) { stopPage() })
	desk, err := overrides.New(r.loop, r.parts.coordinators, r.settings.ApplyTimeout, r.log)
	if err != nil {
		return err
	}
	handler := httpapi.New(r.loop, page, desk, registry, r.parts.port.Guard)
	if err := wiring.AddHTTP(&group, r.parts.port, handler, r.log); err != nil {
		return err
	}
	if err := group.Run(); ctx.Err() == nil {
		return err
	}
	return nil
}
