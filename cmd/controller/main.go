// Command controller closes the loop between a write queue and the providers
// that fill it: it reads the queues' signals from Prometheus, decides on a
// scale for each provider, puts it there under a lease, and explains it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/oklog/run"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/version"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/httpapi"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

func main() {
	os.Exit(runMain(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	exitOK       = 0 // stopped by a signal, or there was nothing to run
	exitFailure  = 1 // something failed while it ran
	exitSettings = 2 // an argument or a setting was wrong; nothing was started
)

// runMain is the whole program. It returns the exit status when a signal comes
// or ctx ends.
func runMain(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	switch strings.Join(args, " ") {
	case "":
	case "--help", "-h", "help":
		if err := usage(stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return exitFailure
		}
		return exitOK
	case "--version":
		fmt.Fprintln(stdout, version.Print("controller"))
		return exitOK
	default:
		fmt.Fprintf(stderr, "controller: unknown arguments %q; it takes its settings from the environment, see controller --help\n", args)
		return exitSettings
	}

	loaded, targets, err := settings.LoadController(ctx, environ, os.ReadFile)
	parts, partsErr := newParts(loaded, targets)
	log := wiring.Logger(loaded.Log, stderr)
	var loop *controller.Controller
	if err = errors.Join(err, partsErr); err == nil {
		loop, err = newController(loaded, parts, log)
	}
	if err != nil {
		fmt.Fprintf(stderr, "controller: the settings are wrong:\n%v\n", err)
		return exitSettings
	}
	log.Info("controller starts", "version", version.Info(), "targets", len(targets), "holder", loaded.Holder)
	if err := serve(ctx, loaded, loop, parts.coordinators, log); err != nil {
		log.Error("controller failed", "error", err)
		return exitFailure
	}
	log.Info("controller stopped; its leases are left to expire")
	return exitOK
}

func usage(to io.Writer) error {
	_, err := fmt.Fprint(to, `controller reads the signals of write queues from Prometheus, and throttles the
providers that fill them. It takes no arguments but --help and --version; its
settings are environment variables:

`)
	if err != nil {
		return fmt.Errorf("write the usage: %w", err)
	}
	return settings.WriteUsage(to, settings.Variables(settings.Controller{}))
}

// serve runs the loop, its status page and the HTTP server until one of them ends, a signal
// comes, or ctx ends; then it ends all.
func serve(ctx context.Context, s settings.Controller, loop *controller.Controller, coordinators map[string]overrides.Coordinator, log *slog.Logger) error {
	registry := prom.NewRegistry()
	registry.MustRegister(loop, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var group run.Group
	group.Add(run.SignalHandler(ctx, os.Interrupt, syscall.SIGTERM))
	loopCtx, stopLoop := context.WithCancel(ctx)
	group.Add(func() error { return loop.Run(loopCtx) }, func(error) { stopLoop() })
	page, err := statuspage.New(loop)
	if err != nil {
		return err
	}
	pageCtx, stopPage := context.WithCancel(ctx)
	group.Add(func() error { return page.Run(pageCtx) }, func(error) { stopPage() })
	desk, err := overrides.New(loop, coordinators, s.ApplyTimeout, log)
	if err != nil {
		return err
	}
	if err := wiring.AddHTTP(&group, s.Listen, s.WebConfigFile, httpapi.New(loop, page, desk, registry), log); err != nil {
		return err
	}
	err = group.Run()
	if errors.Is(err, run.ErrSignal) || ctx.Err() != nil {
		return nil
	}
	return err
}
