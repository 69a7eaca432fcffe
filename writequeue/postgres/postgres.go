// Package postgres is the store for production: one table in PostgreSQL, plain
// or a Timescale hypertable.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
)

// PayloadType is the type of the payload column of a table that Open makes.
type PayloadType string

const (
	Bytea PayloadType = "bytea" // takes every payload
	JSONB PayloadType = "jsonb" // refuses what is not JSON
	Text  PayloadType = "text"  // refuses what is not UTF-8
)

// Config are the settings of a store. Begin with DefaultConfig.
type Config struct {
	// URL says where the server is, as libpq has it: a postgres:// URL or
	// key=value pairs, with pool_max_conns and its kin.
	URL string

	// Table is "table" or "schema.table", of plain identifiers, taken in the
	// letter case in which they are written. It is made if it is absent.
	Table string

	// KeyColumns is the primary key of a table that Open makes: "key", or
	// "key" and "time". A hypertable needs the second form, for Timescale wants
	// the time in every unique index; an item that comes again has its time
	// again, so it still makes no second row.
	KeyColumns []string

	Payload PayloadType // Bytea, JSONB or Text
}

// DefaultConfig returns the settings that a store has where nothing else is
// said.
func DefaultConfig(url string) Config {
	return Config{URL: url, Table: "items", KeyColumns: []string{"key"}, Payload: Bytea}
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Validate reports every setting that is out of its range, joined. The URL is
// not repeated in the error, for it may hold a password.
func (c Config) Validate() error {
	var errs []error
	if _, err := pgxpool.ParseConfig(c.URL); err != nil || c.URL == "" {
		errs = append(errs, &invalid.Value{Field: "url", Got: "not readable", Want: "a postgres:// URL or key=value pairs"})
	}
	parts := strings.Split(c.Table, ".")
	if len(parts) > 2 || slices.ContainsFunc(parts, func(p string) bool { return !identifier.MatchString(p) }) {
		errs = append(errs, invalid.New("table", c.Table,
			"table or schema.table, each of letters, digits and _, at most 63, no digit first"))
	}
	if !slices.Equal(c.KeyColumns, []string{"key"}) && !slices.Equal(c.KeyColumns, []string{"key", "time"}) {
		errs = append(errs, invalid.New("key_columns", strings.Join(c.KeyColumns, ","), `"key" or "key,time"`))
	}
	if !slices.Contains([]PayloadType{Bytea, JSONB, Text}, c.Payload) {
		errs = append(errs, invalid.New("payload", string(c.Payload), "bytea, jsonb or text"))
	}
	return errors.Join(errs...)
}

// columns are those of the table that the store writes, in this order. Others
// get their defaults.
var columns = []string{"key", "time", "payload"}

// Store writes items to a table with the columns key, time (timestamptz) and
// payload. Of items with the same key the first one stays. It is a
// writequeue.Sink.
//
// A batch is copied straight into the table. Only when it meets a key that is
// there already, the copy is undone and the batch goes through a temporary table
// and INSERT ... ON CONFLICT DO NOTHING: that costs twice as much and is rare,
// for only what is written again takes this way.
//
// When a write's context ends, the server is asked to give the write up, and its
// answer is awaited for two seconds: either the batch is committed, and there is
// no error, or nothing of it is in the table. Only where that answer does not come
// either is it unknown, which is an error.
type Store struct {
	pool  *pgxpool.Pool
	table pgx.Identifier

	// merge inserts what the staging table holds. Its conflict target is the
	// table's own unique index over the key, so that a row which breaks another
	// constraint is an error and not a loss.
	merge string
}

// answerWithin is how long the server may take to say what became of a write whose
// context ended.
const answerWithin = 2 * time.Second

// staging is the temporary table, of which each connection has its own.
const staging = "headgate_staging"

// Open connects and makes the table if it is absent. A table that is there must
// have a unique index over key, or over key and time: without it, what is
// written again would make double rows, and Open refuses.
//
// An error that no further try can mend is marked by writequeue.Permanent; a
// server that cannot be reached, or is still starting, is not.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("postgres store: %w", err))
	}
	settings, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("postgres store: %w", err))
	}
	settings.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: answerWithin}
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("postgres store: %w", err))
	}
	s := &Store{pool: pool, table: strings.Split(cfg.Table, ".")}
	if err := s.prepare(ctx, cfg); err != nil {
		pool.Close()
		wrapped := fmt.Errorf("postgres store: table %s: %w", cfg.Table, err)
		if refusedAtOpen(err) {
			return nil, writequeue.Permanent(wrapped)
		}
		return nil, wrapped
	}
	return s, nil
}

// errNoUniqueIndex is what is wrong with a table that cannot be written to twice.
var errNoUniqueIndex = errors.New("no unique index over (key) or (key, time): what is written again would make double rows")

// refusedAtOpen reports whether the server answered, and will answer the same
// again: the settings name a user, a database or a table that it does not have so.
func refusedAtOpen(err error) bool {
	var fault *pgconn.PgError
	return errors.Is(err, errNoUniqueIndex) || errors.As(err, &fault) &&
		(hasClass(fault, permanentClasses) || hasClass(fault, []string{"28", "3D", "3F"})) // authorization, catalog, schema
}

// prepare makes the table if it is absent and finds out how conflicts are to
// be met.
func (s *Store) prepare(ctx context.Context, cfg Config) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Of several pipelines that start at once, one makes the table.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, "headgate "+cfg.Table); err != nil {
			return err
		}
		name := s.table.Sanitize()
		var absent bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NULL`, name).Scan(&absent); err != nil {
			return err
		}
		if absent {
			_, err := tx.Exec(ctx, fmt.Sprintf(
				`CREATE TABLE %s (key text NOT NULL, time timestamptz NOT NULL, payload %s NOT NULL, PRIMARY KEY (%s))`,
				name, cfg.Payload, strings.Join(cfg.KeyColumns, ", ")))
			if err != nil {
				return err
			}
		}
		target, err := conflictTarget(ctx, tx, name)
		if err != nil {
			return err
		}
		into := strings.Join(columns, ", ")
		s.merge = fmt.Sprintf(`INSERT INTO %s (%s) SELECT %s FROM pg_temp.%s ON CONFLICT (%s) DO NOTHING`,
			name, into, into, staging, target)
		return nil
	})
}

// conflictTarget is the columns of the table's unique index over the key.
func conflictTarget(ctx context.Context, tx pgx.Tx, table string) (string, error) {
	rows, err := tx.Query(ctx, `
		SELECT array_agg(a.attname::text ORDER BY k.place)
		FROM pg_index i
		CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
		WHERE i.indrelid = $1::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate
			AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
		GROUP BY i.indexrelid`, table)
	if err != nil {
		return "", err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return "", err
	}
	for _, want := range [][]string{{"key"}, {"key", "time"}, {"time", "key"}} {
		if slices.ContainsFunc(indexes, func(have []string) bool { return slices.Equal(have, want) }) {
			return strings.Join(want, ", "), nil
		}
	}
	return "", errNoUniqueIndex
}

// Write copies the batch into the table, all of it or nothing.
func (s *Store) Write(ctx context.Context, batch []writequeue.Item) error {
	_, err := s.pool.CopyFrom(ctx, s.table, columns, &source{items: batch})
	if !breaksUnique(err) {
		return classify(ctx, "copy", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s LIMIT 0`,
			staging, strings.Join(columns, ", "), s.table.Sanitize()))
		if err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", staging}, columns, &source{items: batch}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.merge)
		return err
	})
	return classify(ctx, "merge", err)
}

// Rows is how many rows the table has.
func (s *Store) Rows(ctx context.Context) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, `SELECT count(*) FROM `+s.table.Sanitize()).Scan(&n); err != nil {
		return 0, fmt.Errorf("postgres store: count rows: %w", err)
	}
	return n, nil
}

// Close closes the connections; it waits for writes to end.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// source hands a batch to COPY, row by row.
type source struct {
	items []writequeue.Item
	row   [3]any
	next  int
}

func (s *source) Next() bool { s.next++; return s.next <= len(s.items) }

func (s *source) Values() ([]any, error) {
	item := &s.items[s.next-1]
	payload := item.Payload
	if payload == nil {
		payload = []byte{}
	}
	s.row = [3]any{item.Key, item.Time.UTC(), payload}
	return s.row[:], nil
}

func (s *source) Err() error { return nil }

// Classes of SQLSTATE whose cause lies in the rows or in the table. They are
// the first two characters of a code.
var permanentClasses = []string{
	"0A", // feature not supported
	"21", // cardinality violation
	"22", // data exception
	"23", // integrity constraint violation
	"42", // syntax error or access rule violation
	"44", // WITH CHECK OPTION violation
	"54", // program limit exceeded, such as a key too long for its index
	"P0", // raised by a function, such as a trigger that checks rows
}

const (
	uniqueViolation = "23505"
	queryCanceled   = "57014"
)

func breaksUnique(err error) bool {
	var fault *pgconn.PgError
	return errors.As(err, &fault) && fault.Code == uniqueViolation
}

func hasClass(fault *pgconn.PgError, classes []string) bool {
	return slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(fault.Code, class) })
}

// classify marks the errors that lie in the rows or in the table as permanent.
// All others may pass: a lost connection, too many of them, a server that shuts
// down or starts up, a failed serialization or deadlock, a full disk.
func classify(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("postgres store: %s: %w", doing, err)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), wrapped)
	}
	var fault *pgconn.PgError
	if !errors.As(err, &fault) {
		return wrapped
	}
	if hasClass(fault, permanentClasses) ||
		fault.Code == queryCanceled && fault.Routine != "ProcessInterrupts" {
		// The second: the copy was ended by our side, because a value cannot be
		// had in its column's type. A time limit or a cancellation by the server
		// comes from ProcessInterrupts.
		return writequeue.Permanent(wrapped)
	}
	return wrapped
}
