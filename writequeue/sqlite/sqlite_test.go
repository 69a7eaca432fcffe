package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// writerPath is set for the child process that is killed while it writes.
const writerPath = "HEADGATE_TEST_SQLITE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerPath); path != "" {
		writeForEver(path)
	}
	goleak.VerifyTestMain(m)
}

var at = time.Date(2026, 11, 23, 14, 30, 0, 123456000, time.UTC)

func items(prefix string, n int) []writequeue.Item {
	made := make([]writequeue.Item, n)
	for i := range made {
		made[i] = writequeue.Item{
			Key: fmt.Sprintf("%s-%d", prefix, i), Time: at.Add(time.Duration(i) * time.Microsecond),
			Payload: fmt.Appendf(nil, `{"n": %d}`, i),
		}
	}
	return made
}

func open(t testing.TB, path string, change func(*sqlite.Config)) *sqlite.Store {
	t.Helper()
	cfg := sqlite.DefaultConfig(path)
	if change != nil {
		change(&cfg)
	}
	store, err := sqlite.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func mustWrite(t testing.TB, store *sqlite.Store, batch []writequeue.Item) {
	t.Helper()
	if err := store.Write(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
}

func checkRows(t testing.TB, store *sqlite.Store, want int64) {
	t.Helper()
	if got, err := store.Rows(context.Background()); err != nil || got != want {
		t.Errorf("%d rows, error %v; want %d", got, err, want)
	}
}

// other is a second connection to the file, as another program has it.
func other(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestAnItemIsKeptAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ü?#%41&.db")
	store := open(t, path, func(c *sqlite.Config) { c.Table = "bars" })
	batch := append(items("a", 2), writequeue.Item{Key: "bare\x00\xff"}, writequeue.Item{Key: "binary", Payload: []byte{0, 0xff}})
	mustWrite(t, store, batch)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where it was asked for: %v", err)
	}
	rows, err := other(t, "file:"+filepath.ToSlash(strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path))).
		Query(`SELECT key, time_us, payload FROM bars ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []writequeue.Item
	for rows.Next() {
		var item writequeue.Item
		var us int64
		if err := rows.Scan(&item.Key, &us, &item.Payload); err != nil {
			t.Fatal(err)
		}
		item.Time = time.UnixMicro(us).UTC()
		got = append(got, item)
	}
	if diff := cmp.Diff(batch, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestWhatIsWrittenAgainMakesNoSecondRow(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "items.db"), nil)
	mustWrite(t, store, items("a", 500))
	mustWrite(t, store, items("a", 700))                             // across batches
	mustWrite(t, store, append(items("b", 300), items("b", 300)...)) // within one
	mustWrite(t, store, nil)
	checkRows(t, store, 1000)
}

func TestEveryBatchSizeIsWrittenInFull(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "items.db"), nil)
	want := int64(0)
	for _, n := range []int{1, 2, 3, 127, 128, 129, 255, 256, 1000} {
		mustWrite(t, store, items(fmt.Sprint(n), n))
		want += int64(n)
	}
	checkRows(t, store, want)
}

func TestBatchesOfOneSizeAfterAnotherAreWrittenInFull(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "items.db"), nil)
	total := 0
	for i, n := range []int{500, 500, 500, 300, 300, 500, 129, 129, 128, 128, 300, 300, 12_000, 12_000, 500, 500} {
		mustWrite(t, store, items(fmt.Sprint(i), n))
		total += n
		checkRows(t, store, int64(total))
	}
	again := items("again", 400)
	for range 3 {
		mustWrite(t, store, again)
	}
	checkRows(t, store, int64(total+400))
}

func TestTheFileIsInWALModeAndAsDurableAsAsked(t *testing.T) {
	for setting, want := range map[sqlite.Synchronous]string{sqlite.Normal: "wal 1", sqlite.Full: "wal 2"} {
		store := open(t, filepath.Join(t.TempDir(), "items.db"), func(c *sqlite.Config) { c.Synchronous = setting })
		var journal, synchronous string
		if err := errors.Join(
			store.DB().QueryRow(`PRAGMA journal_mode`).Scan(&journal),
			store.DB().QueryRow(`PRAGMA synchronous`).Scan(&synchronous),
		); err != nil {
			t.Fatal(err)
		}
		if got := journal + " " + synchronous; got != want {
			t.Errorf("%s: journal mode and synchronous are %s, want %s", setting, got, want)
		}
	}
}

func TestABatchIsWrittenWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items.db")
	execute(t, other(t, path), `CREATE TABLE items (key TEXT PRIMARY KEY, time_us INTEGER, payload BLOB, CHECK (key <> 'bad'))`)
	store := open(t, path, nil)
	err := store.Write(context.Background(), append(items("a", 300), writequeue.Item{Key: "bad"}))
	if !writequeue.IsPermanent(err) {
		t.Errorf("error is %v, want a permanent one", err)
	}
	checkRows(t, store, 0)
	mustWrite(t, store, items("a", 300)) // and the store is well
	checkRows(t, store, 300)
}

func TestATableThatIsGoneIsPermanent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items.db")
	store := open(t, path, nil)
	execute(t, other(t, path), `DROP TABLE items`)
	if err := store.Write(context.Background(), items("a", 1)); !writequeue.IsPermanent(err) {
		t.Errorf("error is %v, want a permanent one", err)
	}
}

func TestAFileThatSomebodyElseWritesIsBusyForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items.db")
	store := open(t, path, func(c *sqlite.Config) { c.BusyTimeout = 0 })
	db := other(t, path)
	execute(t, db, `BEGIN IMMEDIATE`)
	err := store.Write(context.Background(), items("a", 3))
	if err == nil || writequeue.IsPermanent(err) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("error is %v, want one that may pass and says locked", err)
	}
	execute(t, db, `ROLLBACK`)
	mustWrite(t, store, items("a", 3))
	checkRows(t, store, 3)
}

func TestAFullDiskMayPass(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items.db")
	store := open(t, path, nil)
	mustWrite(t, store, items("a", 10))
	// The file may not grow: what SQLite then says is what it says of a full disk.
	limit(t, store, `PRAGMA max_page_count = 1`)
	err := store.Write(context.Background(), items("b", 5000))
	if err == nil || writequeue.IsPermanent(err) || !strings.Contains(err.Error(), "full") {
		t.Errorf("error is %v, want one that may pass and says full", err)
	}
	checkRows(t, store, 10)
	limit(t, store, `PRAGMA max_page_count = 1000000`)
	mustWrite(t, store, items("b", 5000))
	checkRows(t, store, 5010)
}

func TestAWriteEndsWithItsContext(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "items.db"), nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := store.Write(ctx, items("a", 1)); !errors.Is(err, context.Canceled) || writequeue.IsPermanent(err) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	mustWrite(t, store, items("a", 1))
}

func TestOpenSaysWhatIsWrongWithTheFile(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(folder, "foreign.db")
	execute(t, other(t, foreign), `CREATE TABLE items (id INTEGER)`)
	double := filepath.Join(folder, "double.db")
	execute(t, other(t, double), `CREATE TABLE items (key TEXT, time_us INTEGER, payload BLOB)`)
	for name, path := range map[string]string{
		"a folder":                 folder,
		"no such folder":           filepath.Join(folder, "absent", "items.db"),
		"no database":              text,
		"other columns":            foreign,
		"a key that is not unique": double,
	} {
		store, err := sqlite.Open(context.Background(), sqlite.DefaultConfig(path))
		if err == nil {
			store.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error is %v, want one that names %s", name, err, path)
		}
	}
}

func TestAllFaultsOfTheSettingsAreReportedAtOnce(t *testing.T) {
	_, err := sqlite.Open(context.Background(), sqlite.Config{Table: `x"; --`, Synchronous: "off", BusyTimeout: -1})
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"path", "table", "synchronous", "busy_timeout"}, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	for _, table := range []string{"", "1a", "a b", "a.b", "sqlite_items", "SQLite_x", strings.Repeat("a", 64)} {
		cfg := sqlite.DefaultConfig("items.db")
		cfg.Table = table
		if cfg.Validate() == nil {
			t.Errorf("table %q was accepted", table)
		}
	}
}

// writeForEver is the child process: it writes batches until it is killed and
// says so after each.
func writeForEver(path string) {
	store, err := sqlite.Open(context.Background(), sqlite.DefaultConfig(path))
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		if err := store.Write(context.Background(), items(fmt.Sprint(i), 500)); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

func TestAWriterThatIsKilledLosesNothingAndItsReplayDoublesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items.db")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), writerPath+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	confirmed := 0
	for confirmed < 20 {
		if _, err := fmt.Fscanln(out, &confirmed); err != nil {
			t.Fatal(err)
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for { // what it confirmed up to the end
		if _, err := fmt.Fscanln(out, &confirmed); err != nil {
			break
		}
	}
	_ = child.Wait() // killed

	store := open(t, path, nil)
	rows, err := store.Rows(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if rows < int64(confirmed+1)*500 || rows%500 != 0 {
		t.Errorf("%d rows after %d confirmed batches of 500", rows, confirmed+1)
	}
	batches := max(int(rows/500), confirmed+1) + 3
	for i := range batches {
		mustWrite(t, store, items(fmt.Sprint(i), 500))
	}
	checkRows(t, store, int64(batches)*500)
}

func BenchmarkWrite(b *testing.B) {
	for _, mode := range []sqlite.Synchronous{sqlite.Normal, sqlite.Full} {
		b.Run(string(mode), func(b *testing.B) {
			store := open(b, filepath.Join(b.TempDir(), "items.db"), func(c *sqlite.Config) { c.Synchronous = mode })
			batches := make([][]writequeue.Item, b.N)
			for i := range batches {
				batches[i] = items(fmt.Sprint(i), 500)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, batch := range batches {
				mustWrite(b, store, batch)
			}
			b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}

// limit executes a statement on the store's own connection.
func limit(t *testing.T, store *sqlite.Store, statement string) {
	t.Helper()
	if _, err := store.DB().Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
