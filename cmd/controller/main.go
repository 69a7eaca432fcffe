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
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/run"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/headgate/headgate/controller"
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
	log := newLogger(loaded.Log, stderr)
	var loop *controller.Controller
	if err = errors.Join(err, partsErr); err == nil {
		loop, err = newController(loaded, parts, log)
	}
	if err != nil {
		fmt.Fprintf(stderr, "controller: the settings are wrong:\n%v\n", err)
		return exitSettings
	}
	log.Info("controller starts", "version", version.Info(), "targets", len(targets), "holder", loaded.Holder)
	if err := serve(ctx, loaded, loop, log); err != nil {
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

func newLogger(s settings.Log, to io.Writer) *slog.Logger {
	level, format := promslog.NewLevel(), promslog.NewFormat()
	// The settings allow nothing but what these know.
	_ = level.Set(s.Level)
	_ = format.Set(s.Format)
	return promslog.New(&promslog.Config{Level: level, Format: format, Writer: to})
}

// serve runs the loop and the HTTP server until one of them ends, a signal
// comes, or ctx ends; then it ends all.
func serve(ctx context.Context, s settings.Controller, loop *controller.Controller, log *slog.Logger) error {
	registry := prom.NewRegistry()
	registry.MustRegister(loop, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: loop.Handler(registry), ReadHeaderTimeout: readHeaderTimeout}

	var group run.Group
	group.Add(run.SignalHandler(ctx, os.Interrupt, syscall.SIGTERM))
	loopCtx, stopLoop := context.WithCancel(ctx)
	group.Add(func() error { return loop.Run(loopCtx) }, func(error) { stopLoop() })
	group.Add(func() error {
		flags := &web.FlagConfig{WebConfigFile: &s.WebConfigFile}
		if err := web.Serve(listener, server, flags, log); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	}, func(error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			log.Warn("the HTTP server did not end in time", "error", err)
			server.Close()
		}
	})
	err = group.Run()
	if errors.Is(err, run.ErrSignal) || ctx.Err() != nil {
		return nil
	}
	return err
}

const (
	readHeaderTimeout = 10 * time.Second
	shutdownLimit     = 5 * time.Second // for requests under way
)
