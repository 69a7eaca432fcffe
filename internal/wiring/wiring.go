// Package wiring holds what the mains share: how settings become a logger, a
// way to Prometheus and an HTTP server.
package wiring

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oklog/run"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/port"
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
	client, err := clientConfig("HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE", s.ClientConfigFile)
	api, apiErr := metrics.NewAPI(s.URL, client)
	return api, errors.Join(err, Variables(apiErr))
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
		Depth: name(s.Depth), Capacity: name(s.Capacity), Soft: name(s.Soft), Hard: name(s.Hard), Shared: name(s.Shared),
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

// Guard makes the guard of an access file, whose variable is given; without a
// file it lets everyone do everything. The error names every line that is wrong.
func Guard(variable, file string, log *slog.Logger) (*access.Guard, error) {
	guard, err := access.New(file, log)
	if err == nil {
		return guard, nil
	}
	all := invalid.All(err)
	if len(all) == 0 {
		return nil, invalid.New(variable, file, "a file that can be read: "+err.Error())
	}
	errs := make([]error, 0, len(all))
	for _, v := range all {
		named := *v
		named.Field = variable + " " + file + ": " + v.Field
		errs = append(errs, &named)
	}
	return nil, errors.Join(errs...)
}

// AddGuard lets a guard read its file anew while a run group runs.
func AddGuard(ctx context.Context, group *run.Group, guard *access.Guard) {
	ctx, stop := context.WithCancel(ctx)
	group.Add(func() error { return guard.Run(ctx) }, func(error) { stop() })
}

const shutdownLimit = 5 * time.Second // for requests under way

// AddHTTP adds a server to a run group, at a port that is right by its Check. It
// listens before it returns.
func AddHTTP(group *run.Group, at port.Port, handler http.Handler, log *slog.Logger) error {
	server, err := at.Open(context.Background(), handler, port.Usual(), log)
	if err != nil {
		return err
	}
	group.Add(server.Serve, func(error) {
		if err := server.Shutdown(shutdownLimit); err != nil {
			log.Warn("the HTTP server did not end well", "error", err)
		}
	})
	return nil
}

const coordinatorClientVariable = "HEADGATE_COORDINATOR_CLIENT_CONFIG_FILE"

// CoordinatorTransport returns the way by which coordinators are asked. Without
// a client configuration file it is the usual one.
//
// Credentials are sent to every address that is asked. So it is an error if
// there are some and one of the addresses says that Prometheus' series tell over
// plain HTTP who is asked: whoever can write a series would be told them.
func CoordinatorTransport(s settings.Coordinators, addresses []string) (http.RoundTripper, error) {
	if s.ClientConfigFile == "" {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = idleConnections
		transport.MaxIdleConns = 0 // without a limit: there may be ten thousand coordinators, each asked at every tick
		return transport, nil
	}
	client, err := clientConfig(coordinatorClientVariable, s.ClientConfigFile)
	if err != nil {
		return nil, err
	}
	secret := client.BasicAuth != nil || client.Authorization != nil || client.OAuth2 != nil || client.HTTPHeaders != nil
	if i := slices.IndexFunc(addresses, func(a string) bool { return strings.HasPrefix(a, "series+http:") }); i >= 0 && secret {
		return nil, invalid.New("HEADGATE_COORDINATOR_URL", addresses[i],
			"series+https://, dns+http:// or a list beside "+coordinatorClientVariable+": else whoever can write a series gets the credentials")
	}
	transport, err := config.NewRoundTripperFromConfig(client, "headgate-coordinator")
	if err != nil {
		return nil, invalid.New(coordinatorClientVariable, s.ClientConfigFile, "HTTP client settings that work: "+invalid.WithoutValues(err).Error())
	}
	return transport, nil
}

// idleConnections are kept to each coordinator between two ticks.
const idleConnections = 16

// CoordinatorClient returns a client that asks coordinators through a transport.
// They send nobody elsewhere, so redirects are not followed.
func CoordinatorClient(through http.RoundTripper) *http.Client {
	return &http.Client{Transport: through, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// clientConfig reads Prometheus' HTTP client settings; without a file they are
// the usual ones. The error repeats no value of the file.
func clientConfig(variable, file string) (config.HTTPClientConfig, error) {
	if file == "" {
		return config.DefaultHTTPClientConfig, nil
	}
	loaded, _, err := config.LoadHTTPConfigFile(file)
	if err != nil {
		return config.DefaultHTTPClientConfig, invalid.New(variable, file, "a file with Prometheus' HTTP client settings: "+invalid.WithoutValues(err).Error())
	}
	return *loaded, nil
}
