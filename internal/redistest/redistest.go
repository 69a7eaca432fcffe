// Package redistest runs a real Redis or Valkey server for one test.
//
// The server's program is taken from PATH, or from where Debian puts it. It
// listens on a free port of the loopback, keeps nothing, and ends with the test.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/headgate/headgate/internal/redisserver"
	"github.com/headgate/headgate/internal/testserver"
)

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
	if _, _, err := redisserver.Program(); err != nil {
		if testserver.Required() {
			t.Fatal(err)
		}
		t.Skipf("skipped: %v", err)
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
	path, name, err := redisserver.Program()
	args, argsErr := redisserver.Arguments(s.address, filepath.Dir(s.log))
	if err := errors.Join(err, argsErr); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.process = exec.Command(path, args...)
	s.process.Args[0], s.process.Stdout, s.process.Stderr = name, log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{}
	testserver.EndWithParent(s.process.SysProcAttr, syscall.SIGKILL)
	if err := s.process.Start(); err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	if err := redisserver.Await(context.Background(), s.address); err != nil {
		said, _ := os.ReadFile(s.log)
		s.t.Fatalf("%v\n%s", err, bytes.TrimSpace(said))
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
