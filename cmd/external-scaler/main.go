// Command external-scaler answers KEDA's questions about a pipeline's replicas
// from the signals that the controller uses too.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oklog/run"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/port"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/scaler"
	"github.com/headgate/headgate/scaler/trigger"
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
		fmt.Fprintln(stdout, version.Print("external-scaler"))
		return exitOK
	default:
		fmt.Fprintf(stderr, "external-scaler: unknown arguments %q; it takes its settings from the environment, see external-scaler --help\n", args)
		return exitSettings
	}

	var s settings.Scaler
	err := errors.Join(settings.Unknown(environ), settings.Load(ctx, &s, settings.Environ(environ)))
	log := wiring.Logger(s.Log, stderr)
	parts, partsErr := newParts(s, log)
	if err := errors.Join(err, partsErr); err != nil {
		fmt.Fprintf(stderr, "external-scaler: the settings are wrong:\n%v\n", err)
		return exitSettings
	}
	log.Info("external scaler starts", "version", version.Info())
	if err := serve(ctx, s, parts, log); err != nil {
		log.Error("external scaler failed", "error", err)
		return exitFailure
	}
	log.Info("external scaler stopped")
	return exitOK
}

func usage(to io.Writer) error {
	_, err := fmt.Fprint(to, `external-scaler answers KEDA's questions about a pipeline's replicas from the
signals of write queues in Prometheus. It takes no arguments but --help and
--version; its settings are environment variables:

`)
	if err != nil {
		return fmt.Errorf("write the usage: %w", err)
	}
	return settings.WriteUsage(to, settings.Variables(settings.Scaler{}))
}

// parts are what the scaler is put together of.
type parts struct {
	api          v1.API
	names        metrics.Names
	coordinators []*client.Client
	defaults     trigger.Defaults
	tls          *tls.Config // nil for plain gRPC
	port         port.Port   // of HTTP
}

// newParts makes the parts. Its errors are about settings, all of them at once.
func newParts(s settings.Scaler, log *slog.Logger) (parts, error) {
	var p parts
	var errs [6]error
	p.api, errs[0] = wiring.Prometheus(s.Prometheus)
	p.names, errs[1] = wiring.Names(s.Series)
	p.tls, errs[2] = tlsConfig(s.GRPCWebConfigFile)
	if errs[2] == nil {
		p.port, errs[3] = newPorts(s, p.tls, log)
	}
	p.coordinators, errs[4] = newCoordinators(s)
	if s.DefaultsFile != "" {
		p.defaults, errs[5] = readDefaults(s.DefaultsFile)
	}
	return p, errors.Join(errs[:]...)
}

// newPorts checks both ports, and returns the one of HTTP. The guard is that of
// both. All errors are about settings.
func newPorts(s settings.Scaler, grpc *tls.Config, log *slog.Logger) (port.Port, error) {
	const variable, webVariable = "HEADGATE_SCALER_ACCESS_FILE", "HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE"
	guard, err := wiring.Guard(variable, s.AccessFile, log)
	if err != nil {
		return port.Port{}, err
	}
	p := port.Port{
		Setting: "HEADGATE_SCALER_LISTEN", Address: s.Listen,
		WebSetting: "HEADGATE_SCALER_WEB_CONFIG_FILE", WebConfigFile: s.WebConfigFile,
		AccessSetting: variable, Guard: guard, Allowed: s.Ports.AllowUnauthenticated,
	}
	errs := []error{p.Check(), port.CheckStrangers(grpcSetting, s.GRPCListen, asked(guard, grpc), p.Allowed,
		webVariable+" with the client_auth_type RequireAndVerifyClientCert, or "+variable)}
	if len(s.ClientNames) > 0 && (grpc == nil || grpc.ClientAuth < tls.VerifyClientCertIfGiven) {
		errs = append(errs, invalid.New("HEADGATE_SCALER_CLIENT_NAMES", strings.Join(s.ClientNames, ","),
			"none, or "+webVariable+" with the client_auth_type RequireAndVerifyClientCert: without it no client has a name"))
	}
	return p, errors.Join(errs...)
}

const grpcSetting = "HEADGATE_SCALER_GRPC_LISTEN"

// asked reports whether callers have to say who they are.
func asked(guard *access.Guard, grpc *tls.Config) bool {
	return guard.Asks() || grpc != nil && grpc.ClientAuth == tls.RequireAndVerifyClientCert
}

// newCoordinators makes the clients of the coordinators that are followed. All
// errors are about settings.
func newCoordinators(s settings.Scaler) ([]*client.Client, error) {
	transport, err := wiring.CoordinatorTransport(s.Coordinators, s.CoordinatorURLs)
	errs := []error{err}
	var all []*client.Client
	for _, url := range s.CoordinatorURLs {
		c, err := client.New(url, wiring.CoordinatorClient(transport))
		if err != nil {
			errs = append(errs, invalid.NewAddress("HEADGATE_SCALER_COORDINATOR_URLS", url, "addresses such as http://127.0.0.1:9400"))
		}
		all = append(all, c)
	}
	return all, errors.Join(errs...)
}

// readDefaults reads the triggers' defaults. All errors are about the setting.
func readDefaults(file string) (trigger.Defaults, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return trigger.Defaults{}, invalid.New("HEADGATE_SCALER_DEFAULTS_FILE", file, "a file that can be read: "+err.Error())
	}
	defaults, err := trigger.ParseDefaults(data)
	if err != nil {
		return trigger.Defaults{}, fmt.Errorf("HEADGATE_SCALER_DEFAULTS_FILE %s: %w", file, err)
	}
	return defaults, nil
}

// tlsConfig makes the gRPC server's TLS of a web configuration file. The file
// and all that it names are read anew for each connection, so that certificates
// and authorities can be rotated; a connection made while they are wrong fails.
func tlsConfig(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	config, err := readTLS(file)
	if err != nil {
		return nil, invalid.New("HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE", file, "a Prometheus web configuration file with tls_server_config: "+err.Error())
	}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return readTLS(file) }
	return config, nil
}

func readTLS(file string) (*tls.Config, error) {
	content, err := port.ReadWebConfig(file)
	if err != nil {
		return nil, err
	}
	return web.ConfigToTLSConfig(&content.TLSConfig)
}

// shutdownLimit is how long calls under way have to end.
const shutdownLimit = 5 * time.Second

// serve runs everything until one part of it ends, a signal comes, or ctx ends;
// then it ends all.
func serve(ctx context.Context, s settings.Scaler, p parts, log *slog.Logger) error {
	reader, err := metrics.NewReader(p.api, []metrics.Names{p.names}, log)
	if err != nil {
		return err
	}
	signals := scaler.NewSignals(reader, s.Interval, s.Prometheus.Timeout, s.StaleAfter, log)
	server := scaler.NewServer(signals, log)
	server.SetDefaults(p.defaults)
	grpc := scaler.NewGRPC(server, p.tls, s.ClientNames, p.port.Guard, log)
	registry := prom.NewRegistry()
	registry.MustRegister(server, grpc.Metrics, p.port.Guard, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), versioncollector.NewCollector("headgate_scaler"))
	listener, err := port.Usual().Listen(s.GRPCListen)
	if err != nil {
		return fmt.Errorf("listen for KEDA: %w", err)
	}
	port.WarnOfStrangers(log, grpcSetting, listener.Addr().String(), asked(p.port.Guard, p.tls))
	log.Info("listening for KEDA", "address", listener.Addr().String(), "tls", p.tls != nil)

	var group run.Group
	wiring.AddGuard(ctx, &group, p.port.Guard)
	group.Add(run.SignalHandler(ctx, os.Interrupt, syscall.SIGTERM))
	reading, stopReading := context.WithCancel(ctx)
	group.Add(func() error { return signals.Run(reading) }, func(error) { stopReading() })
	answering, stopAnswering := context.WithCancel(ctx)
	group.Add(func() error { return server.Run(answering) }, func(error) { stopAnswering() })
	if s.DefaultsFile != "" {
		reloading, stopReloading := context.WithCancel(ctx)
		group.Add(func() error {
			server.ReloadDefaults(reloading, s.Interval, func() (trigger.Defaults, error) { return readDefaults(s.DefaultsFile) })
			return nil
		}, func(error) { stopReloading() })
	}
	following, stopFollowing := context.WithCancel(ctx)
	group.Add(func() error {
		follow(following, p.coordinators, signals, log)
		return nil
	}, func(error) { stopFollowing() })
	watching, stopWatching := context.WithCancel(ctx)
	group.Add(func() error {
		grpc.WatchHealth(watching)
		<-watching.Done()
		return nil
	}, func(error) { stopWatching() })
	group.Add(func() error { return grpc.Serve(listener) }, func(error) { grpc.Shutdown(shutdownLimit) })
	if err := wiring.AddHTTP(&group, p.port, server.Handler(registry, p.port.Guard), log); err != nil {
		listener.Close()
		return err
	}
	err = group.Run()
	if errors.Is(err, run.ErrSignal) || ctx.Err() != nil {
		return nil
	}
	return err
}

// follow lets each coordinator's stream of changes wake the scaler, until ctx
// ends.
func follow(ctx context.Context, coordinators []*client.Client, signals *scaler.Signals, log *slog.Logger) {
	var streams sync.WaitGroup
	for _, c := range coordinators {
		streams.Go(func() {
			c.Follow(ctx, func(change client.Change) {
				if change.Event != nil {
					signals.Push(*change.Event)
				}
			}, func(err error) {
				log.Debug("stream of changes lost, it is opened again", "error", err)
			})
		})
	}
	streams.Wait()
	<-ctx.Done()
}
