// Package pgtest runs a real PostgreSQL server for the tests of one package.
//
// The server's programs are taken from where Debian puts them, or from PATH. It
// listens on a Unix socket in a folder of its own, keeps nothing, and ends with
// the tests:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.StopAfter(m)) }
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/internal/testserver"
)

// errAbsent says that this machine has no server to run.
var errAbsent = errors.New("no PostgreSQL server")

const (
	superuser = "postgres"

	// startLimit bounds initdb and the start together.
	startLimit = 2 * time.Minute
)

// server is the one server of this process.
var server struct {
	mu      sync.Mutex
	tried   bool
	err     error // why there is none
	folder  string
	process *exec.Cmd
}

// Database makes an empty database for one test and returns its URL. The first
// call starts the server. The database is dropped when the test ends, and those
// who are connected to it then are sent away. Where there is no server to be
// had, the test is skipped, or fails where testserver.Required says so.
func Database(t testing.TB) string {
	t.Helper()
	folder, err := start()
	if errors.Is(err, errAbsent) && !testserver.Required() {
		t.Skipf("skipped: %v (initdb and postgres are neither in /usr/lib/postgresql/*/bin nor on PATH)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), rand.Uint64())
	execute(t, folder, `CREATE DATABASE `+name)
	t.Cleanup(func() { execute(t, folder, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return address(folder, name)
}

// execute runs a statement as the superuser.
func execute(t testing.TB, folder, statement string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address(folder, "postgres"))
	if err == nil {
		_, err = conn.Exec(ctx, statement)
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Stop ends the server, if one runs, and removes what it kept. A later
// Database starts another one.
func Stop() {
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.process != nil {
		// Quit at once: there is nothing to keep.
		_ = server.process.Process.Signal(syscall.SIGQUIT)
		_ = server.process.Wait()
		_ = os.RemoveAll(server.folder)
	}
	server.tried, server.err, server.process = false, nil, nil
}

// StopAfter returns m with a Stop after its tests.
func StopAfter(m *testing.M) interface{ Run() int } { return stopAfter{m} }

type stopAfter struct{ m *testing.M }

func (s stopAfter) Run() int {
	defer Stop()
	return s.m.Run()
}

// start starts the server unless that was tried before, and returns the folder
// of its socket.
func start() (folder string, err error) {
	server.mu.Lock()
	defer server.mu.Unlock()
	if !server.tried {
		server.tried = true
		server.folder, server.process, server.err = launch()
	}
	return server.folder, server.err
}

// launch makes a server's files and runs it until it answers.
func launch() (folder string, process *exec.Cmd, err error) {
	bin, err := programs()
	if err != nil {
		return "", nil, err
	}
	folder, err = os.MkdirTemp("", "pgtest-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(folder)
		}
	}()
	as, err := account(folder)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()

	data := filepath.Join(folder, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", superuser,
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = folder, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}

	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	process = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", folder,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB")
	process.Dir, process.SysProcAttr = folder, as
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		return "", nil, fmt.Errorf("start postgres: %w", err)
	}
	if err := answers(ctx, folder); err != nil {
		_ = process.Process.Kill()
		_ = process.Wait()
		said, _ := os.ReadFile(log.Name())
		return "", nil, fmt.Errorf("postgres does not answer: %w\n%s", err, bytes.TrimSpace(said))
	}
	return folder, process, nil
}

// answers waits until the server in that folder takes connections.
func answers(ctx context.Context, folder string) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, address(folder, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// address is the URL of a database of the server in that folder.
func address(folder, database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{
		"host": {folder}, "user": {superuser}, "sslmode": {"disable"},
	}.Encode()}
	return u.String()
}

// programs is the folder of the newest server's programs.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	version := func(path string) float64 {
		v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64)
		return v
	}
	slices.SortFunc(found, func(a, b string) int { return int(version(a) - version(b)) })
	if onPath, err := exec.LookPath("initdb"); err == nil {
		found = append([]string{onPath}, found...)
	}
	for _, initdb := range slices.Backward(found) {
		bin := filepath.Dir(initdb)
		if _, err := exec.LookPath(filepath.Join(bin, "postgres")); err == nil {
			return bin, nil
		}
	}
	return "", errAbsent
}

// account is how the server is run: as who we are, but never as root, which
// PostgreSQL refuses. It hands the folder over to whom it chooses.
func account(folder string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{}
	testserver.EndWithParent(attr, syscall.SIGQUIT)
	if os.Getuid() != 0 {
		return attr, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		who, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(folder, int(uid), int(gid))); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return attr, nil
	}
	return nil, fmt.Errorf("%w that root can start: there is no user postgres or nobody", errAbsent)
}
