package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/headgate/headgate/internal/invalid"
)

// Address says where the servers are and how they know us.
type Address struct {
	URL             string // nats://host:port, several with commas between them; tls:// for TLS
	CredentialsFile string // of NATS: a token with its key; none where empty
	CAFile          string // certificates that the servers' are signed by; the system's where empty
	CertFile        string // our own certificate; none where empty
	KeyFile         string // of the certificate
}

// Validate reports what is wrong with an address before anybody is asked, joined:
// each is an *invalid.Value that repeats no user, password or token.
func (a Address) Validate() error {
	var errs []error
	for one := range strings.SplitSeq(a.URL, ",") {
		server, err := url.Parse(strings.TrimSpace(one))
		if err != nil || server.Scheme != "nats" && server.Scheme != "tls" || server.Hostname() == "" || strings.Trim(server.Path, "/") != "" {
			errs = append(errs, invalid.NewAddress("url", a.URL, "addresses such as nats://host:4222, with commas between them"))
			break
		}
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		errs = append(errs, invalid.New("cert_file", a.CertFile, "it and key_file, or neither"))
	}
	return errors.Join(errs...)
}

// Connect connects to servers, once; it does not wait for servers that are not
// there. A connection that is lost later is made again for as long as it takes.
func Connect(a Address, name string, log *slog.Logger) (*nats.Conn, error) {
	if err := a.Validate(); err != nil { // what the library says of a wrong one repeats it whole
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	var options []nats.Option
	if a.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(a.CredentialsFile))
	}
	if a.CAFile != "" {
		options = append(options, nats.RootCAs(a.CAFile))
	}
	if a.CertFile != "" {
		options = append(options, nats.ClientCert(a.CertFile, a.KeyFile))
	}
	conn, err := nats.Connect(a.URL, append(options, Options(name, log)...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// Options are those of every connection of a queue.
func Options(name string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a password that is changed on both sides is not wrong for ever
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// What cannot be sent now is an error now: items are offered again, and
		// nobody believes them on their way.
		nats.ReconnectBufSize(-1),
		// A server that is gone without a word is missed after half a minute.
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS was lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connection to NATS is back", "server", c.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) {
				log.Warn("NATS reports an error", "error", err)
			}
		}),
	}
}
