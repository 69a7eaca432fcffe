// Package sqlite is the embedded store: one table in one SQLite file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
)

// Synchronous says what a committed batch survives.
type Synchronous string

const (
	Normal Synchronous = "normal" // a crash of the process; the last batches may be lost with the power
	Full   Synchronous = "full"   // a loss of power too, at the price of one flush a batch
)

// Config are the settings of a store. Begin with DefaultConfig.
type Config struct {
	Path        string        // of the file, which is made if it is absent; its folder must exist
	Table       string        // made if it is absent; a plain SQL identifier
	Synchronous Synchronous   // Normal or Full
	BusyTimeout time.Duration // how long a write waits for another process that writes, >= 0
}

// DefaultConfig returns the settings that a store has where nothing else is
// said.
func DefaultConfig(path string) Config {
	return Config{Path: path, Table: "items", Synchronous: Normal, BusyTimeout: 5 * time.Second}
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Validate reports every setting that is out of its range, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, invalid.New("path", c.Path, "the path of a file"))
	}
	if !identifier.MatchString(c.Table) || strings.HasPrefix(strings.ToLower(c.Table), "sqlite_") {
		errs = append(errs, invalid.New("table", c.Table, "letters, digits and _, at most 63, no digit first, not sqlite_"))
	}
	if c.Synchronous != Normal && c.Synchronous != Full {
		errs = append(errs, invalid.New("synchronous", string(c.Synchronous), "normal or full"))
	}
	if c.BusyTimeout < 0 || c.BusyTimeout > time.Hour {
		errs = append(errs, invalid.New("busy_timeout", c.BusyTimeout, "a duration in [0, 1h]"))
	}
	return errors.Join(errs...)
}

// Store writes items to a table of three columns: key (text, the primary key),
// time_us (microseconds since 1970, UTC) and payload (blob). Of items with the
// same key the first one stays. It is a writequeue.Sink.
//
// SQLite has one writer at a time, so all writes share one connection; readers
// are not held up, for the file is in WAL mode.
type Store struct {
	db    *sql.DB
	table string // quoted

	turn chan struct{} // of size one: who takes from it may write, and use what follows

	// inserts[i] inserts 1<<i rows. Each is prepared once.
	inserts [mostRowsLog2 + 1]*sql.Stmt

	// whole inserts wholeRows at once. It is prepared when two batches in a row
	// have that length, as those of a busy queue have.
	whole     *sql.Stmt
	wholeRows int
	lastRows  int

	values []any // of the statement to come
}

const (
	// mostRowsLog2 makes statements of at most 128 rows for batches of any length.
	mostRowsLog2 = 7

	// mostWhole is the most rows of a batch that gets a statement of its own. SQLite
	// takes no more than 32766 values.
	mostWhole = 32766 / columns
)

const columns = 3

// Open opens the file and the table, and makes what is absent. The error says
// what is wrong with the settings, the file or the table. It is marked by
// writequeue.Permanent, unless the file is busy or its disk fails or is full.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("sqlite store: %w", err))
	}
	dsn, err := dataSource(cfg)
	if err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("sqlite store: %w", err))
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, writequeue.Permanent(fmt.Errorf("sqlite store: open %s: %w", cfg.Path, err))
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db, table: `"` + cfg.Table + `"`, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if err := s.prepare(ctx); err != nil {
		wrapped := fmt.Errorf("sqlite store: open %s: %w", cfg.Path, errors.Join(err, db.Close()))
		var fault *sqlite.Error
		if errors.As(err, &fault) && !slices.Contains(passing, fault.Code()&0xff) {
			return nil, writequeue.Permanent(wrapped)
		}
		return nil, wrapped
	}
	return s, nil
}

// passing are the faults of a file that may be over at the next try to open it.
var passing = []int{sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}

// dataSource is the driver's name for the file with the settings of each
// connection.
func dataSource(cfg Config) (string, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return "", err
	}
	settings := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", cfg.BusyTimeout.Milliseconds()),
			"journal_mode(wal)",
			fmt.Sprintf("synchronous(%s)", cfg.Synchronous),
		},
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: settings.Encode()}
	return name.String(), nil
}

func (s *Store) prepare(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS `+s.table+
		` (key TEXT PRIMARY KEY NOT NULL, time_us INTEGER NOT NULL, payload BLOB NOT NULL)`); err != nil {
		return err
	}
	for i := range s.inserts {
		stmt, err := s.db.PrepareContext(ctx, s.insert(1<<i))
		if err != nil {
			return err
		}
		s.inserts[i] = stmt
	}
	return nil
}

// insert is the statement that inserts so many rows.
func (s *Store) insert(rows int) string {
	return `INSERT INTO ` + s.table + ` (key, time_us, payload) VALUES ` +
		strings.TrimSuffix(strings.Repeat("(?,?,?),", rows), ",") + ` ON CONFLICT (key) DO NOTHING`
}

// Write writes the batch in one transaction.
func (s *Store) Write(ctx context.Context, batch []writequeue.Item) (err error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return classify(ctx, "wait for the one before", ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	if err := s.prepareWhole(ctx, len(batch)); err != nil {
		return classify(ctx, "prepare", err)
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return classify(ctx, "begin", err)
	}
	defer func() {
		if err != nil {
			// Fails only where the transaction is over already.
			_ = tx.Rollback()
		}
	}()
	for len(batch) > 0 {
		stmt, n := s.largest(len(batch))
		if err := s.exec(ctx, tx.StmtContext(ctx, stmt), batch[:n]); err != nil {
			return classify(ctx, "insert", err)
		}
		batch = batch[n:]
	}
	if err := tx.Commit(); err != nil {
		return classify(ctx, "commit", err)
	}
	return nil
}

// prepareWhole prepares the statement for a batch of that length where it is
// likely to be used again. It is the caller's turn, as in what follows.
func (s *Store) prepareWhole(ctx context.Context, rows int) error {
	again := rows == s.lastRows
	s.lastRows = rows
	if !again || rows == s.wholeRows || rows <= 1<<mostRowsLog2 || rows > mostWhole {
		return nil
	}
	stmt, err := s.db.PrepareContext(ctx, s.insert(rows))
	if err != nil {
		return err
	}
	if s.whole != nil {
		_ = s.whole.Close() // of no consequence: it is not used again
	}
	s.whole, s.wholeRows = stmt, rows
	return nil
}

// largest is the largest statement that the rest of a batch fills, and its rows.
func (s *Store) largest(rest int) (stmt *sql.Stmt, rows int) {
	if rest == s.wholeRows {
		return s.whole, rest
	}
	i := min(bits.Len(uint(rest))-1, mostRowsLog2)
	return s.inserts[i], 1 << i
}

// exec inserts the items by a statement of as many rows.
func (s *Store) exec(ctx context.Context, stmt *sql.Stmt, items []writequeue.Item) error {
	for _, item := range items {
		s.values = append(s.values, item.Key, item.Time.UnixMicro(), notNil(item.Payload))
	}
	_, err := stmt.ExecContext(ctx, s.values...)
	clear(s.values)
	s.values = s.values[:0]
	return err
}

// Rows is how many rows the table has.
func (s *Store) Rows(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM `+s.table).Scan(&n); err != nil {
		return 0, fmt.Errorf("sqlite store: count rows: %w", err)
	}
	return n, nil
}

// Close closes the file. Nothing may be written meanwhile or afterwards.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("sqlite store: close: %w", err)
	}
	return nil
}

// notNil is an empty blob for no payload, which would be NULL.
func notNil(payload []byte) []byte {
	if payload == nil {
		return []byte{}
	}
	return payload
}

// classify marks the errors that lie in the rows or in the table as permanent.
// All others may pass: a busy or locked file, a full disk, a failing device.
func classify(ctx context.Context, doing string, err error) error {
	wrapped := fmt.Errorf("sqlite store: %s: %w", doing, err)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), wrapped)
	}
	var fault *sqlite.Error
	if !errors.As(err, &fault) {
		return wrapped
	}
	switch fault.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG,
		sqlite3.SQLITE_RANGE, sqlite3.SQLITE_ERROR:
		return writequeue.Permanent(wrapped)
	}
	return wrapped
}
