// Package redistest runs a real Redis or Valkey server for one test.
//
// The server's program is taken from PATH, or from where Debian puts it. It
// listens on a free port of the loopback, keeps nothing, and ends with the test.
package redistest

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headgate/headgate/internal/testserver"
)

const startLimit = time.Minute

// Server is a server, which may be ended and started again on its address, with
// nothing of what it had.
type Server struct {
	t       testing.TB
	address string
	log     string
	process *exec.Cmd // nil while none runs
}

// Start starts a server for one test. Where there is no program to be had, the
// test is skipped, or fails where testserver.Required says so.
func Start(t testing.TB) *Server {
	t.Helper()
	if _, _, found := program(); !found {
		const why = "no Redis or Valkey server (neither valkey-server nor redis-server is on PATH, nor Debian's valkey-tools or redis-tools installed)"
		if testserver.Required() {
			t.Fatal(why)
		}
		t.Skip("skipped: " + why)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s := &Server{t: t, address: free.Addr().String(), log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// URL is where the server is.
func (s *Server) URL() string { return "redis://" + s.address }

// Restart starts the server that was killed.
func (s *Server) Restart() {
	s.t.Helper()
	path, name, _ := program()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	host, port, _ := net.SplitHostPort(s.address)
	s.process = exec.Command(path, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", filepath.Dir(s.log))
	s.process.Args[0], s.process.Stdout, s.process.Stderr = name, log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{}
	testserver.EndWithParent(s.process.SysProcAttr, syscall.SIGKILL)
	if err := s.process.Start(); err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.address, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			said, _ := os.ReadFile(s.log)
			s.t.Fatalf("%s does not answer: %v\n%s", name, err, bytes.TrimSpace(said))
		}
	}
}

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

// Stop lets the server hang; Continue lets it go on.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue lets a server that was stopped go on.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(what syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(what); err != nil {
		s.t.Fatal(err)
	}
}

// program is the server's program, and the name under which it has to be run.
func program() (path, name string, found bool) {
	for _, name := range []string{"valkey", "redis"} {
		if path, err := exec.LookPath(name + "-server"); err == nil {
			return path, name + "-server", true
		}
		// Debian's package of the server starts one, which nobody asked for. The
		// package of its tools has the same program, which is what its name says.
		if path, err := exec.LookPath(name + "-check-rdb"); err == nil {
			return path, name + "-server", true
		}
	}
	return "", "", false
}
