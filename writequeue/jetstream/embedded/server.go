// Package embedded runs a NATS server with JetStream within the process, for a
// durable write queue on one machine.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/headgate/headgate/internal/filelock"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue/jetstream"
)

// Config says where the server keeps its files and who may reach it.
type Config struct {
	Directory string // made where absent; one process at a time may use it

	// Listen is the loopback address at which other processes of the machine
	// reach the server; empty for none. It asks nobody who they are.
	Listen string

	// SyncAlways brings every item to the disk before it counts as accepted, so
	// that it outlives a loss of power. Without it an item is in the operating
	// system's hands by then, which outlives the process, and is on the disk two
	// minutes later at the latest.
	SyncAlways bool
}

const (
	largestMessage = 8 << 20 // bytes; an item with its headers
	startWithin    = time.Minute
)

// Server is a running server.
type Server struct {
	server *server.Server
	lock   *filelock.Lock
}

// Start starts a server and waits until it serves. What the files hold of an
// earlier run is there again then.
func Start(c Config, log *slog.Logger) (*Server, error) {
	options := &server.Options{
		ServerName: "headgate",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   c.Directory,
		SyncAlways: c.SyncAlways,
		MaxPayload: largestMessage,
	}
	if c.Listen != "" {
		host, port, err := splitLoopback(c.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded NATS server: %w", err)
		}
		options.DontListen, options.Host, options.Port = false, host, port
	}
	if err := os.MkdirAll(c.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	lock, err := filelock.Take(filepath.Join(c.Directory, "headgate.lock"))
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: directory %s: %w", c.Directory, err)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded NATS server: %w", err), lock.Release())
	}
	s.SetLoggerV2(logger{log.With("part", "nats")}, false, false, false)
	started := &Server{server: s, lock: lock}
	s.Start()
	if !s.ReadyForConnections(startWithin) {
		return nil, errors.Join(fmt.Errorf("embedded NATS server was not ready after %v", startWithin), started.Close())
	}
	if !s.JetStreamEnabled() {
		return nil, errors.Join(errors.New("embedded NATS server has no JetStream, see the log"), started.Close())
	}
	return started, nil
}

// Connect returns a connection within the process.
func (s *Server) Connect(name string, log *slog.Logger) (*nats.Conn, error) {
	conn, err := nats.Connect("", append(jetstream.Options(name, log), nats.InProcessServer(s.server))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return conn, nil
}

// URL is where other processes reach the server; empty where they cannot.
func (s *Server) URL() string { return s.server.ClientURL() }

// Close ends the server. What it holds is in its files.
func (s *Server) Close() error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return s.lock.Release()
}

// ValidateListen reports an address at which a server without users must not be
// reached.
func ValidateListen(address string) error {
	_, _, err := splitLoopback(address)
	return err
}

func splitLoopback(address string) (host string, port int, err error) {
	const want = "a loopback address such as 127.0.0.1:4222, for the embedded server asks nobody who they are"
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, invalid.New("listen", address, want)
	}
	port, err = strconv.Atoi(text)
	if ip := net.ParseIP(host); err != nil || port < 0 || port > 65535 || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, invalid.New("listen", address, want)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// logger hands the server's records on.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(text(format, v)) }
func (l logger) Warnf(format string, v ...any)   { l.log.Warn(text(format, v)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error(text(format, v)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(text(format, v)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug(text(format, v)) }
func (l logger) Tracef(format string, v ...any)  { l.log.Debug(text(format, v)) }

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
