package scenario

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
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/e2e/process"
)

// Postgres is a real server, in which each scenario has a database.
type Postgres struct {
	address string
	process *process.Process
}

// startPostgres starts a server with a fresh data folder under dir.
func startPostgres(ctx context.Context, dir string) (*Postgres, error) {
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
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	p := &Postgres{address: address}
	p.process, err = process.Start(process.Spec{
		Name: "postgres", Binary: filepath.Join(bin, "postgres"), Log: dir, As: as, Args: []string{
			"-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + port,
			"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=64MB", "-c", "max_connections=400",
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p, cluster.Poll(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.url("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
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

func (p *Postgres) url(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", p.address, database)
}

// Stop ends the server at once: there is nothing to keep.
func (p *Postgres) Stop() {
	_ = p.process.Signal(syscall.SIGQUIT)
	<-p.process.Ended()
}

// Store is the database of one scenario, whose speed can be set while it is
// written to: so many rows a second, one statement at a time where the capacity
// is shared by all writers, else from each of them.
//
// The capacity goes by the clock. What a statement, or the next one's start,
// takes longer on a busy machine is made good by those that follow, as long as
// it is less than half a second: how fast the store is must not depend on what
// else the machine has to do.
type Store struct {
	URL  string
	pool *pgxpool.Pool
}

const storeSchema = `
CREATE TABLE items (key text NOT NULL, time timestamptz NOT NULL, payload bytea NOT NULL, PRIMARY KEY (key));
CREATE TABLE capacity (rows_per_second float8 NOT NULL, shared boolean NOT NULL);
INSERT INTO capacity VALUES (1e9, true);
-- Until when each writer's capacity is used up; writer 0 is all of them together.
CREATE TABLE used (writer int PRIMARY KEY, until timestamptz NOT NULL);
CREATE FUNCTION pace() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	me int := pg_backend_pid();
	c capacity;
	rest float8;
	so_far timestamptz;
	credit float8;
BEGIN
	SELECT count(*) INTO rest FROM written;
	SELECT * INTO c FROM capacity;
	IF c.shared THEN
		me := 0;
	END IF;
	INSERT INTO used VALUES (me, clock_timestamp()) ON CONFLICT DO NOTHING;
	SELECT until INTO so_far FROM used WHERE writer = me FOR UPDATE; -- one at a time
	so_far := greatest(so_far, clock_timestamp() - interval '0.5 s');
	LOOP
		SELECT * INTO c FROM capacity; -- it may have changed since
		credit := c.rows_per_second * extract(epoch FROM clock_timestamp() - so_far);
		EXIT WHEN credit >= rest;
		so_far := so_far + make_interval(secs => credit / c.rows_per_second);
		rest := rest - credit;
		PERFORM pg_sleep(least(rest / c.rows_per_second, 0.1));
	END LOOP;
	UPDATE used SET until = so_far + make_interval(secs => rest / c.rows_per_second) WHERE writer = me;
	RETURN NULL;
END $$;
CREATE TRIGGER pace AFTER INSERT ON items REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION pace();
`

// store makes a database.
func (p *Postgres) store(ctx context.Context, name string) (*Store, error) {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("make a store: %w", err)
	}
	s := &Store{URL: p.url(name)}
	if s.pool, err = pgxpool.New(ctx, s.URL); err != nil {
		return nil, err
	}
	if _, err := s.pool.Exec(ctx, storeSchema); err != nil {
		return nil, fmt.Errorf("make a store: %w", err)
	}
	return s, nil
}

// SetCapacity changes how many rows the store takes in a second, from all
// writers together or from each.
func (s *Store) SetCapacity(ctx context.Context, perSecond float64, shared bool) error {
	_, err := s.pool.Exec(ctx, "UPDATE capacity SET rows_per_second = $1, shared = $2", perSecond, shared)
	if err != nil {
		return fmt.Errorf("set the store's capacity: %w", err)
	}
	return nil
}

// Rows is how many rows the store holds.
func (s *Store) Rows(ctx context.Context) (int64, error) {
	var n int64
	err := s.pool.QueryRow(ctx, "SELECT count(*) FROM items").Scan(&n)
	return n, err
}
