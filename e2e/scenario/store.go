package scenario

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/internal/postgres"
)

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
func newStore(ctx context.Context, server *postgres.Server, name string) (*Store, error) {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("make a store: %w", err)
	}
	s := &Store{URL: server.URL(name)}
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
