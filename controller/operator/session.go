// Package operator holds the commands by which an operator looks at a running
// controller and overrides scales. They speak to the controller's HTTP API, or
// for overrides to a coordinator's; print tables for people or JSON for
// machines; and run nothing themselves.
//
// The commands are structs with kong's tags; their Run methods are given a
// Session.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/common/config"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/settings"
)

// Session is what the commands need of the process that they run in.
type Session struct {
	Out, Err io.Writer
	Environ  []string // as os.Environ returns it
	Host     string   // its name, for who an operator is
	Now      func() time.Time

	transport http.RoundTripper // instead of the network, in tests; nil elsewhere
}

// ErrUnwell says that the controller answered, and that something needs a
// person.
var ErrUnwell = errors.New("something is not well")

// Asking are the flags of all commands that ask a controller.
type Asking struct {
	URL          string        `placeholder:"ADDRESS" help:"Base address of the controller. Default: HEADGATE_CONTROLLER_URL, or http://127.0.0.1:8080."`
	ClientConfig string        `placeholder:"FILE" predictor:"file" help:"Prometheus' HTTP client settings (TLS, passwords, tokens) by which it is reached. Default: HEADGATE_CONTROLLER_CLIENT_CONFIG_FILE."`
	Timeout      time.Duration `placeholder:"DURATION" help:"How long an answer may take. Default: HEADGATE_CONTROLLER_TIMEOUT, or 10s."`
	Output       string        `short:"o" enum:"table,json" default:"table" help:"What is printed: table or json."`
}

// connection is how a command asks.
type connection struct {
	*client
	operator settings.Operator
}

// connect makes the client that the flags and the environment describe. The
// error joins an *invalid.Value for each that is wrong.
func (a Asking) connect(ctx context.Context, s *Session) (connection, error) {
	var op settings.Operator
	errs := []error{settings.Load(ctx, &op, settings.Environ(s.Environ))}
	if a.URL != "" {
		op.URL = a.URL
	}
	if a.ClientConfig != "" {
		op.ClientConfigFile = a.ClientConfig
	}
	if a.Timeout != 0 {
		op.Timeout = a.Timeout
	}
	if op.Timeout <= 0 {
		errs = append(errs, invalid.New("--timeout", op.Timeout, "a duration above 0"))
	}
	httpClient, err := newHTTPClient(op.ClientConfigFile)
	if s.transport != nil {
		httpClient = &http.Client{Transport: s.transport}
	}
	c, clientErr := newClient(op.URL, httpClient, op.Timeout)
	return connection{c, op}, errors.Join(append(errs, err, clientErr)...)
}

// newHTTPClient returns a client as a file with Prometheus' HTTP client settings
// says, or a plain one where there is none.
func newHTTPClient(file string) (*http.Client, error) {
	c := config.DefaultHTTPClientConfig
	if file != "" {
		loaded, _, err := config.LoadHTTPConfigFile(file)
		if err != nil {
			return nil, invalid.New("--client-config", file, "a file with Prometheus' HTTP client settings: "+invalid.WithoutValues(err).Error())
		}
		c = *loaded
	}
	made, err := config.NewClientFromConfig(c, "headgate-operator")
	if err != nil {
		return nil, invalid.New("--client-config", file, "HTTP client settings that work: "+invalid.WithoutValues(err).Error())
	}
	return made, nil
}

// at is when an answer was made: as the controller's clock tells, or now.
func (s *Session) at(told time.Time) time.Time {
	if told.IsZero() {
		return s.Now()
	}
	return told
}

// json reports whether machines read the output.
func (a Asking) json() bool { return a.Output == "json" }

// printJSON writes one value, as it is or as it came, on one line.
func (s *Session) printJSON(value any) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.Out, "%s\n", data); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
