// Package wiring holds what the mains share: how settings become a logger, a
// way to Prometheus and an HTTP server.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/oklog/run"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/settings"
)

// Logger returns a logger as the settings say.
func Logger(s settings.Log, to io.Writer) *slog.Logger {
	level, format := promslog.NewLevel(), promslog.NewFormat()
	// The settings allow nothing but what these know.
	_ = level.Set(s.Level)
	_ = format.Set(s.Format)
	return promslog.New(&promslog.Config{Level: level, Format: format, Writer: to})
}

// Prometheus returns the query API of the server that the settings name. The
// error names every variable that is wrong.
func Prometheus(s settings.Prometheus) (v1.API, error) {
	client := config.DefaultHTTPClientConfig
	var errs []error
	if s.ClientConfigFile != "" {
		loaded, _, err := config.LoadHTTPConfigFile(s.ClientConfigFile)
		if err != nil {
			errs = append(errs, invalid.New("HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE", s.ClientConfigFile,
				"a file with Prometheus' HTTP client settings: "+err.Error()))
		} else {
			client = *loaded
		}
	}
	api, err := metrics.NewAPI(s.URL, client)
	return api, errors.Join(append(errs, Variables(err))...)
}

// WebConfig checks a web configuration file, whose variable is given.
func WebConfig(variable, file string) error {
	if file == "" {
		return nil
	}
	if err := web.Validate(file); err != nil {
		return invalid.New(variable, file, "a Prometheus web configuration file: "+err.Error())
	}
	return nil
}

// Names returns the names of the series, where settings.None is no name. The
// error names every variable that is wrong.
func Names(s settings.Series) (metrics.Names, error) {
	name := func(name string) string {
		if name == settings.None {
			return ""
		}
		return name
	}
	names := metrics.Names{
		Depth: name(s.Depth), Capacity: name(s.Capacity), Soft: name(s.Soft), Hard: name(s.Hard),
		Accepted: name(s.Accepted), Written: name(s.Written), Dropped: name(s.Dropped),
		CoordinatorLabel: s.CoordinatorLabel, Matchers: s.Matchers,
	}
	var errs []error
	for _, v := range invalid.All(names.Validate()) {
		variable := *v
		if v.Field != "coordinator_label" && v.Field != "matchers" {
			variable.Field = "series_" + v.Field // the settings' word for it
		}
		errs = append(errs, &variable)
	}
	return names, Variables(errors.Join(errs...))
}

// Variables gives the fields of an error the names of the variables that they
// come from.
func Variables(err error) error {
	var errs []error
	for _, v := range invalid.All(err) {
		named := *v
		named.Field = "HEADGATE_" + strings.ToUpper(v.Field)
		errs = append(errs, &named)
	}
	if len(errs) == 0 {
		return err
	}
	return errors.Join(errs...)
}

const (
	readHeaderTimeout = 10 * time.Second
	shutdownLimit     = 5 * time.Second // for requests under way
)

// AddHTTP adds an HTTP server, with the TLS and users of a web configuration
// file if there is one, to a run group. It listens before it returns.
func AddHTTP(group *run.Group, address, webConfigFile string, handler http.Handler, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}
	group.Add(func() error {
		flags := &web.FlagConfig{WebConfigFile: &webConfigFile}
		if err := web.Serve(listener, server, flags, log); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	}, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			log.Warn("the HTTP server did not end in time", "error", err)
			server.Close()
		}
	})
	return nil
}
