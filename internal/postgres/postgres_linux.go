// Package postgres runs a real PostgreSQL server on the loopback device, for
// programs that check Headgate from outside. It keeps what is written only as
// long as its folder.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/internal/process"
)

// startLimit bounds how long a server may take until it answers.
const startLimit = time.Minute

// Server is a server that runs, or that was stopped and can be started again on
// its address with what it holds.
type Server struct {
	Address string // host:port

	process *process.Process
	spec    process.Spec
}

// Start makes a data folder under dir, which is made where it is absent, and
// starts a server in it. Further settings are NAME=VALUE.
func Start(ctx context.Context, dir string, settings ...string) (*Server, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		onPath, err := exec.LookPath("initdb")
		if err != nil {
			return nil, errors.New("no PostgreSQL server: tools/setup postgresql installs one")
		}
		found = []string{onPath}
	}
	bin := filepath.Dir(found[len(found)-1])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	as, err := account(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	if text, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a database cluster: %w: %s", err, text)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	if err := free.Close(); err != nil {
		return nil, err
	}
	args := []string{"-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + port}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	s := &Server{Address: free.Addr().String(), spec: process.Spec{Name: "postgres", Binary: filepath.Join(bin, "postgres"), Log: dir, As: as, Args: args}}
	return s, s.Restart(ctx)
}

// account is whom the server runs as: PostgreSQL refuses to be root.
func account(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("root cannot run PostgreSQL: %w", err)
	}
	uid, err1 := strconv.Atoi(who.Uid)
	gid, err2 := strconv.Atoi(who.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, uid, gid)
}

// Restart starts a server that was stopped, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	var err error
	if s.process, err = process.Start(s.spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-again.C:
		case <-s.process.Ended():
			return fmt.Errorf("postgres ended: %w, see %s", s.process.Err(), s.process.LogPath)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		}
	}
}

// URL is the address of one of its databases, for the superuser.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.Address, database)
}

// PID is the id of its first process.
func (s *Server) PID() int { return s.process.PID() }

// Stop ends the server at once, with all its connections. What was committed
// stays.
func (s *Server) Stop() {
	_ = s.process.Signal(syscall.SIGQUIT)
	<-s.process.Ended()
}
