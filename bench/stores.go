package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/postgres"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// epoch is the time of all items.
var epoch = time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC)

const batchSize = 500 // the queue's default

func sqliteGroup() group {
	return group{
		name: "sqlite",
		about: fmt.Sprintf("New rows in batches of %d, one transaction each, into a file in WAL mode with synchronous NORMAL. "+
			"The peer is the same driver in a bare loop: begin, one prepared statement, commit. It does not look for keys that are there already.", batchSize),
		measure: func(ctx context.Context, rounds int) ([]Row, error) {
			all, err := byTurns(ctx, rounds,
				contender{"headgate", writeSQLite},
				contender{"row by row", bareSQLite(1)},
				contender{"100 rows a statement", bareSQLite(100)},
			)
			if err != nil {
				return nil, err
			}
			return storeRows("SQLite sink", all, "bare loop, a row a statement", "bare loop, 100 rows a statement"), nil
		},
	}
}

func postgresGroup() group {
	return group{
		name: "postgres",
		about: fmt.Sprintf("New rows in batches of %d into a table with a primary key, one connection. "+
			"The peer is pgx's CopyFrom into a table like it on the same server, which keeps its write-ahead log but does not wait for the disk.", batchSize),
		measure: func(ctx context.Context, rounds int) ([]Row, error) {
			defer pgtest.Stop()
			all, err := byTurns(ctx, rounds, contender{"headgate", writePostgres}, contender{"pgx", barePostgres})
			if err != nil {
				return nil, err
			}
			return storeRows("PostgreSQL sink", all, "bare pgx CopyFrom"), nil
		},
	}
}

// storeRows compares the first contender with each of the others, in rows/s. An
// operation is a batch.
func storeRows(name string, all [][]result, peers ...string) (rows []Row) {
	perSecond := func(r result) float64 { return batchSize * 1e9 / r.nsPerOp }
	for i, peer := range peers {
		ours, theirs := medianRound(all, 0, i+1)
		row := atLeast(0.9).against(name, "rows/s", peer, perSecond(ours), perSecond(theirs))
		row.note = fmt.Sprintf("%.2f allocations a row, the peer %.2f", float64(ours.allocsPerOp)/batchSize, float64(theirs.allocsPerOp)/batchSize)
		rows = append(rows, row)
	}
	return rows
}

// batches are as many as the benchmark writes, all of new rows.
func batches(b *testing.B) [][]writequeue.Item {
	all := make([][]writequeue.Item, b.N)
	for i := range all {
		all[i] = newItems(fmt.Sprint("row-", i), batchSize)
	}
	return all
}

// writeAll writes each batch by the sink.
func writeAll(b *testing.B, sink writequeue.Sink) {
	all := batches(b)
	b.ReportAllocs()
	b.ResetTimer()
	for _, batch := range all {
		if err := sink.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

func writeSQLite(b *testing.B) {
	store, err := sqlite.Open(b.Context(), sqlite.DefaultConfig(filepath.Join(b.TempDir(), "items.db")))
	if err != nil {
		b.Fatal(err)
	}
	writeAll(b, store)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}

// bareSQLite writes with the driver alone, so many rows a statement.
func bareSQLite(rows int) func(b *testing.B) {
	return func(b *testing.B) {
		name := url.URL{Scheme: "file", Path: filepath.Join(b.TempDir(), "items.db"), RawQuery: url.Values{
			"_txlock": {"immediate"}, "_pragma": {"journal_mode(wal)", "synchronous(normal)"},
		}.Encode()}
		db, err := sql.Open("sqlite", name.String())
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		if _, err := db.Exec(`CREATE TABLE items (key TEXT PRIMARY KEY NOT NULL, time_us INTEGER NOT NULL, payload BLOB NOT NULL)`); err != nil {
			b.Fatal(err)
		}
		insert, err := db.Prepare(`INSERT INTO items (key, time_us, payload) VALUES ` +
			strings.TrimSuffix(strings.Repeat("(?,?,?),", rows), ","))
		if err != nil {
			b.Fatal(err)
		}
		all := batches(b)
		b.ReportAllocs()
		b.ResetTimer()
		for _, batch := range all {
			if err := bareTransaction(b.Context(), db, insert, batch, rows); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
	}
}

func bareTransaction(ctx context.Context, db *sql.DB, insert *sql.Stmt, batch []writequeue.Item, rows int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	stmt := tx.StmtContext(ctx, insert)
	values := make([]any, 0, 3*rows)
	for ; len(batch) > 0; batch = batch[rows:] {
		values = values[:0]
		for _, item := range batch[:rows] {
			values = append(values, item.Key, item.Time.UnixMicro(), item.Payload)
		}
		if _, err := stmt.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func writePostgres(b *testing.B) {
	store, err := postgres.Open(b.Context(), postgres.DefaultConfig(pgtest.Database(b)))
	if err != nil {
		b.Fatal(err)
	}
	writeAll(b, store)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}

func barePostgres(b *testing.B) {
	ctx := b.Context()
	conn, err := pgx.Connect(ctx, pgtest.Database(b))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `CREATE TABLE items (key text NOT NULL PRIMARY KEY, time timestamptz NOT NULL, payload bytea NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	all := batches(b)
	b.ReportAllocs()
	b.ResetTimer()
	for _, batch := range all {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"key", "time", "payload"},
			pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
				return []any{batch[i].Key, batch[i].Time, batch[i].Payload}, nil
			})); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := conn.Close(ctx); err != nil {
		b.Fatal(err)
	}
}
