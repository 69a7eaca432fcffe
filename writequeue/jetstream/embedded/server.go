// Package embedded runs a NATS server with JetStream within the process, for a
// durable write queue on one machine.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjetstream "github.com/nats-io/nats.go/jetstream"

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
	options  server.Options
	log      *slog.Logger
	lock     *filelock.Lock
	watching sync.WaitGroup
	closing  context.Context
	close    context.CancelFunc

	mu     sync.Mutex
	server *server.Server // nil while it is started anew
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
	s := &Server{options: *options, log: log.With("part", "nats"), lock: lock}
	s.closing, s.close = context.WithCancel(context.Background())
	if err := s.start(); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	s.watching.Go(s.watch)
	return s, nil
}

// start starts the server and waits until it serves.
func (s *Server) start() error {
	options := s.options // which the server fills in
	started, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	started.SetLoggerV2(logger{s.log}, false, false, false)
	started.Start()
	switch {
	case !started.ReadyForConnections(startWithin):
		err = fmt.Errorf("embedded NATS server was not ready after %v", startWithin)
	case !started.JetStreamEnabled():
		err = errors.New("embedded NATS server has no JetStream, see the log")
	default:
		if at, is := started.Addr().(*net.TCPAddr); is {
			s.options.Port = at.Port // the same one the next time
		}
		if err = release(started); err != nil {
			break
		}
		s.mu.Lock()
		s.server = started
		s.mu.Unlock()
		return nil
	}
	started.Shutdown()
	started.WaitForShutdown()
	return err
}

// release removes the consumers of an earlier life, which those who take items make
// again. What these had in their hands is there for all at once. And where the end
// of that life came between a consumer's note that an item is done with and the
// stream's, the item is taken once more, instead of staying for ever.
func release(started *server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	conn, err := nats.Connect("", nats.InProcessServer(started))
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	defer conn.Close()
	js, err := natsjetstream.New(conn)
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	streams := js.StreamNames(ctx)
	for name := range streams.Name() {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("embedded NATS server: stream %s: %w", name, err)
		}
		consumers := stream.ConsumerNames(ctx)
		for consumer := range consumers.Name() {
			if err := stream.DeleteConsumer(ctx, consumer); err != nil {
				return fmt.Errorf("embedded NATS server: stream %s: %w", name, err)
			}
		}
		if err := consumers.Err(); err != nil {
			return fmt.Errorf("embedded NATS server: stream %s: %w", name, err)
		}
	}
	if err := streams.Err(); err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	return nil
}

// stop ends the server.
func (s *Server) stop() {
	s.mu.Lock()
	running := s.server
	s.server = nil
	s.mu.Unlock()
	if running != nil {
		running.Shutdown()
		running.WaitForShutdown()
	}
}

// Connect returns a connection within the process.
func (s *Server) Connect(name string, log *slog.Logger) (*nats.Conn, error) {
	conn, err := nats.Connect("", append(jetstream.Options(name, log), nats.InProcessServer(s))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return conn, nil
}

// InProcessConn is for connections within the process, which outlive a restart.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	running := s.server
	s.mu.Unlock()
	if running == nil {
		return nil, errors.New("the embedded NATS server is not running")
	}
	return running.InProcessConn()
}

// URL is where other processes reach the server.
func (s *Server) URL() string {
	return "nats://" + net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port))
}

// Close ends the server. What it holds is in its files.
func (s *Server) Close() error {
	s.close()
	s.watching.Wait()
	s.stop()
	return s.lock.Release()
}

const (
	lookEvery = time.Second

	// roomAgain is how many bytes must fit on the disk before a server that could
	// not write is started anew.
	roomAgain = 1 << 20
)

// watch starts the server anew once there is room, when it could not write to its
// files: after the first write that failed, a stream takes none any more.
func (s *Server) watch() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	broken := false
	for {
		select {
		case <-ticker.C:
		case <-s.closing.Done():
			return
		}
		if !broken && s.healthy() {
			continue
		}
		if !broken {
			broken = true
			s.log.Error("durable queue cannot write to its files, and is started anew when it can", "directory", s.options.StoreDir)
		}
		if s.room() != nil {
			continue
		}
		s.stop()
		if err := s.start(); err != nil {
			s.log.Error("durable queue could not be started anew, and is tried again", "error", err)
			continue
		}
		broken = false
		s.log.Info("durable queue was started anew")
	}
}

// healthy reports whether the server can write, by its own word.
func (s *Server) healthy() bool {
	var said answer
	s.server.HandleHealthz(&said, &http.Request{URL: &url.URL{Path: server.HealthzPath}})
	return s.server.JetStreamEnabled() && !strings.Contains(said.String(), "write error")
}

// answer keeps the body of what a handler answers.
type answer struct{ strings.Builder }

func (*answer) Header() http.Header { return http.Header{} }
func (*answer) WriteHeader(int)     {}

// room tries whether the disk takes something.
func (s *Server) room() error {
	path := filepath.Join(s.options.StoreDir, "headgate.room")
	err := os.WriteFile(path, make([]byte, roomAgain), 0o600)
	return errors.Join(err, os.Remove(path))
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
