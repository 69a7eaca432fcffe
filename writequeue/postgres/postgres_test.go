package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.StopAfter(m)) }

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

// fixture is a store on a database of the test's own, and a second connection
// to look at it and to disturb it.
type fixture struct {
	*postgres.Store
	look *pgx.Conn
	url  string
}

// open opens a store. before are statements that are executed first; change
// alters the settings.
func open(t testing.TB, change func(*postgres.Config), before ...string) *fixture {
	t.Helper()
	f := connect(t, before...)
	cfg := postgres.DefaultConfig(f.url)
	if change != nil {
		change(&cfg)
	}
	store, err := postgres.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f.Store = store
	return f
}

// connect makes a database and connects to it.
func connect(t testing.TB, before ...string) *fixture {
	t.Helper()
	url := pgtest.Database(t)
	look, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { look.Close(context.Background()) })
	f := &fixture{look: look, url: url}
	for _, statement := range before {
		f.exec(t, statement)
	}
	return f
}

func (f *fixture) exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := f.look.Exec(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// value is the one value that a query returns, as text.
func (f *fixture) value(t testing.TB, query string) string {
	t.Helper()
	var v string
	if err := f.look.QueryRow(context.Background(), `SELECT (`+query+`)::text`).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func (f *fixture) mustWrite(t testing.TB, batch []writequeue.Item) {
	t.Helper()
	if err := f.Write(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) checkRows(t testing.TB, want int64) {
	t.Helper()
	if got, err := f.Rows(context.Background()); err != nil || got != want {
		t.Errorf("%d rows, error %v; want %d", got, err, want)
	}
}

func TestAnItemIsKeptAsItWas(t *testing.T) {
	for _, payload := range []postgres.PayloadType{postgres.Bytea, postgres.JSONB, postgres.Text} {
		t.Run(string(payload), func(t *testing.T) {
			f := open(t, func(c *postgres.Config) { c.Payload = payload })
			f.mustWrite(t, items("a", 3))
			if got := f.value(t, `SELECT extract(epoch FROM time) FROM items WHERE key = 'a-2'`); got != "1795444200.123458" {
				t.Errorf("time is %s", got)
			}
			text := map[postgres.PayloadType]string{
				postgres.Bytea: `convert_from(payload, 'UTF8')`, postgres.JSONB: `payload`, postgres.Text: `payload`,
			}[payload]
			if got := f.value(t, `SELECT `+text+` FROM items WHERE key = 'a-2'`); got != `{"n": 2}` {
				t.Errorf("payload is %s", got)
			}
		})
	}
}

func TestAnItemWithoutAPayloadHasAnEmptyOne(t *testing.T) {
	f := open(t, nil)
	f.mustWrite(t, []writequeue.Item{{Key: "a"}})
	if got := f.value(t, `SELECT length(payload) FROM items`); got != "0" {
		t.Errorf("length is %s, want 0", got)
	}
}

func TestWhatIsWrittenAgainMakesNoSecondRow(t *testing.T) {
	for name, keys := range map[string][]string{"by key": {"key"}, "by key and time": {"key", "time"}} {
		t.Run(name, func(t *testing.T) {
			f := open(t, func(c *postgres.Config) { c.KeyColumns = keys })
			f.mustWrite(t, items("a", 100))                         // copied
			f.mustWrite(t, items("a", 150))                         // merged: the first hundred are there
			f.mustWrite(t, append(items("b", 5), items("b", 5)...)) // merged: twice in one batch
			f.mustWrite(t, items("a", 150))
			f.checkRows(t, 155)
		})
	}
}

func TestTheFirstItemOfAKeyStays(t *testing.T) {
	f := open(t, nil)
	f.mustWrite(t, []writequeue.Item{{Key: "a", Payload: []byte("first")}})
	f.mustWrite(t, []writequeue.Item{{Key: "a", Payload: []byte("second")}})
	if got := f.value(t, `SELECT convert_from(payload, 'UTF8') FROM items`); got != "first" {
		t.Errorf("payload is %q, want the first", got)
	}
}

func TestABatchIsCopiedStraightIntoTheTable(t *testing.T) {
	// A rule would not fire and a trigger sees the statement that it serves: the
	// server itself says by which way the rows came.
	f := open(t, nil,
		`CREATE TABLE items (key text PRIMARY KEY, time timestamptz, payload bytea)`,
		`CREATE TABLE ways (query text)`,
		`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO ways SELECT split_part(current_query(), ' ', 1); RETURN NULL; END $$`,
		`CREATE TRIGGER note AFTER INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION note()`)
	ways := func() string { return f.value(t, `SELECT coalesce(string_agg(query, ','), '') FROM ways`) }

	f.mustWrite(t, items("a", 500))
	if got := strings.ToLower(ways()); got != "copy" {
		t.Errorf("a batch of new items came by %q, want copy", got)
	}
	f.exec(t, `TRUNCATE ways`)
	f.mustWrite(t, items("a", 501))
	if got := strings.ToLower(ways()); got != "insert" {
		t.Errorf("a batch with items written before came by %q, want insert", got)
	}
}

func TestATableOfTheUsersOwnIsTakenAsItIs(t *testing.T) {
	f := open(t, func(c *postgres.Config) { c.Table = "market.Bars" },
		`CREATE SCHEMA market`,
		`CREATE TABLE market."Bars" (id bigserial, payload jsonb, "time" timestamptz, key varchar(40), seen timestamptz DEFAULT now(), UNIQUE ("time", key))`)
	f.mustWrite(t, items("a", 10))
	f.mustWrite(t, items("a", 12))
	f.checkRows(t, 12)
	if got := f.value(t, `SELECT count(*) FROM market."Bars" WHERE id IS NOT NULL AND seen IS NOT NULL`); got != "12" {
		t.Errorf("%s rows have their defaults, want 12", got)
	}
}

func TestOpenRefusesATableWhichWouldTakeDoubleRows(t *testing.T) {
	for name, table := range map[string]string{
		"no index":            `CREATE TABLE items (key text, time timestamptz, payload bytea)`,
		"an index not unique": `CREATE TABLE items (key text, time timestamptz, payload bytea); CREATE INDEX ON items (key)`,
		"a partial index":     `CREATE TABLE items (key text, time timestamptz, payload bytea); CREATE UNIQUE INDEX ON items (key) WHERE key > 'b'`,
		"an expression":       `CREATE TABLE items (key text, time timestamptz, payload bytea); CREATE UNIQUE INDEX ON items (lower(key))`,
		"another column":      `CREATE TABLE items (key text, time timestamptz, payload bytea UNIQUE)`,
		"included only":       `CREATE TABLE items (key text, time timestamptz, payload bytea); CREATE UNIQUE INDEX ON items (time) INCLUDE (key)`,
		"checked late":        `CREATE TABLE items (key text UNIQUE DEFERRABLE, time timestamptz, payload bytea)`,
	} {
		t.Run(name, func(t *testing.T) {
			f := connect(t, table)
			store, err := postgres.Open(context.Background(), postgres.DefaultConfig(f.url))
			if err == nil {
				store.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "no unique index") {
				t.Errorf("error is %v, want that there is no unique index", err)
			}
		})
	}
}

func TestAStoreThatCannotBeReachedMayBeOpenedLater(t *testing.T) {
	f := connect(t, `CREATE TABLE items (key text, time timestamptz, payload bytea)`, `CREATE ROLE nobody`)
	t.Cleanup(func() { f.exec(t, `DROP ROLE nobody`) }) // a server's databases share their roles
	_, name, _ := strings.Cut(f.url, ":///")
	for what, c := range map[string]struct {
		url       string
		permanent bool
	}{
		"nobody listens":     {"postgres://postgres@127.0.0.1:1/db?sslmode=disable", false},
		"no such folder":     {"postgres:///db?host=/nosuch&user=postgres", false},
		"no such database":   {"postgres:///gone_" + name, true},
		"no login":           {strings.Replace(f.url, "user=postgres", "user=nobody", 1), true},
		"a table of no use":  {f.url, true},
		"an address of none": {"postgres://host:notaport/db", true},
	} {
		store, err := postgres.Open(context.Background(), postgres.DefaultConfig(c.url))
		if err == nil {
			store.Close()
			t.Errorf("%s: opened", what)
		}
		if got := writequeue.IsPermanent(err); got != c.permanent {
			t.Errorf("%s: permanent is %v, want %v: %v", what, got, c.permanent, err)
		}
	}
}

func TestSeveralPipelinesMayMakeTheTableAtOnce(t *testing.T) {
	f := connect(t)
	var opening sync.WaitGroup
	for range 5 {
		opening.Go(func() {
			store, err := postgres.Open(context.Background(), postgres.DefaultConfig(f.url))
			if err != nil {
				t.Error(err)
				return
			}
			store.Close()
		})
	}
	opening.Wait()
}

func TestErrorsOfTheRowsArePermanent(t *testing.T) {
	table := func(columns string) string {
		return `CREATE TABLE items (key text PRIMARY KEY, time timestamptz, payload bytea` + columns + `)`
	}
	good := items("good", 1)
	for name, tt := range map[string]struct {
		before []string
		batch  []writequeue.Item
	}{
		"a check":                 {[]string{table(`, CHECK (key <> 'bad')`)}, []writequeue.Item{{Key: "bad"}}},
		"a second unique index":   {[]string{table(`, UNIQUE (payload)`)}, []writequeue.Item{{Key: "a"}, {Key: "b"}}},
		"a column without value":  {[]string{table(`, venue text NOT NULL`)}, good},
		"a zero byte in the key":  {[]string{table(``)}, []writequeue.Item{{Key: "a\x00b"}}},
		"a key that is not UTF-8": {[]string{table(``)}, []writequeue.Item{{Key: "\xff"}}},
		"a payload that is no JSON": {[]string{`CREATE TABLE items (key text PRIMARY KEY, time timestamptz, payload jsonb)`},
			[]writequeue.Item{{Key: "a", Payload: []byte("{")}}},
		"a key too long for its index": {[]string{table(``)}, []writequeue.Item{{Key: incompressible(100_000)}}},
		"a key of another type": {[]string{`CREATE TABLE items (key uuid PRIMARY KEY, time timestamptz, payload bytea)`},
			[]writequeue.Item{{Key: "no-uuid"}}},
		"a trigger that refuses": {[]string{table(``),
			`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`,
			`CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION refuse()`}, good},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, nil, tt.before...)
			err := f.Write(context.Background(), tt.batch)
			if !writequeue.IsPermanent(err) {
				t.Errorf("error is %v, want a permanent one", err)
			}
			f.checkRows(t, 0)
		})
	}
	t.Run("no table any more", func(t *testing.T) {
		f := open(t, nil)
		f.exec(t, `DROP TABLE items`)
		if err := f.Write(context.Background(), good); !writequeue.IsPermanent(err) {
			t.Errorf("error is %v, want a permanent one", err)
		}
	})
}

// incompressible is a text of n letters that the server cannot make short.
func incompressible(n int) string {
	var b strings.Builder
	for seed := uint64(1); b.Len() < n; seed = seed*6364136223846793005 + 1442695040888963407 {
		fmt.Fprintf(&b, "%x", seed)
	}
	return b.String()[:n]
}

func TestErrorsThatMayPassAreNotPermanent(t *testing.T) {
	tests := map[string]struct {
		change  func(*postgres.Config)
		disturb func(t *testing.T, f *fixture)
	}{
		"the server ends the connection": {nil, func(t *testing.T, f *fixture) {
			f.mustWrite(t, items("warm", 1))
			f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		}},
		"the database is read only": {nil, func(t *testing.T, f *fixture) {
			f.exec(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
		}},
		"a time limit of the server": {func(c *postgres.Config) { c.URL += "&statement_timeout=50" }, func(t *testing.T, f *fixture) {
			f.exec(t, `BEGIN`)
			f.exec(t, `LOCK TABLE items IN ACCESS EXCLUSIVE MODE`)
			t.Cleanup(func() { f.exec(t, `ROLLBACK`) })
		}},
		"a lock that is not to be had": {func(c *postgres.Config) { c.URL += "&lock_timeout=50" }, func(t *testing.T, f *fixture) {
			f.exec(t, `BEGIN`)
			f.exec(t, `LOCK TABLE items IN ACCESS EXCLUSIVE MODE`)
			t.Cleanup(func() { f.exec(t, `ROLLBACK`) })
		}},
		"too many connections": {nil, func(t *testing.T, f *fixture) {
			// The superuser is not held back, so the store comes as somebody else.
			f.exec(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$`)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			role := fmt.Sprintf("writer_%d", time.Now().UnixNano())
			f := connect(t)
			f.exec(t, `CREATE ROLE `+role+` LOGIN`)
			f.exec(t, `CREATE TABLE items (key text PRIMARY KEY, time timestamptz, payload bytea)`)
			f.exec(t, `ALTER TABLE items OWNER TO `+role)
			t.Cleanup(func() { f.exec(t, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
			cfg := postgres.DefaultConfig(strings.Replace(f.url, "user=postgres", "user="+role, 1) + "&pool_max_conns=1")
			if tt.change != nil {
				tt.change(&cfg)
			}
			store, err := postgres.Open(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			f.Store = store
			tt.disturb(t, f)
			if strings.Contains(name, "many") || strings.Contains(name, "read only") {
				f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '`+role+`'`)
				_ = store.Write(context.Background(), items("first", 1)) // meets the connection that was ended
			}
			err = store.Write(context.Background(), items("a", 3))
			store.Close()
			if err == nil || writequeue.IsPermanent(err) {
				t.Errorf("error is %v, want one that may pass", err)
			}
		})
	}
}

func TestAServerThatIsNotThereIsAnErrorWhichMayPass(t *testing.T) {
	cfg := postgres.DefaultConfig("postgres://127.0.0.1:1/none?connect_timeout=1")
	store, err := postgres.Open(context.Background(), cfg)
	if err == nil {
		store.Close()
	}
	if err == nil || writequeue.IsPermanent(err) {
		t.Errorf("error is %v, want one that may pass", err)
	}
}

func TestAWriteEndsWithItsContext(t *testing.T) {
	f := open(t, nil)
	f.exec(t, `BEGIN`)
	f.exec(t, `LOCK TABLE items IN ACCESS EXCLUSIVE MODE`)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := f.Write(ctx, items("a", 1))
	f.exec(t, `ROLLBACK`)
	if !errors.Is(err, context.DeadlineExceeded) || writequeue.IsPermanent(err) {
		t.Errorf("error is %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestABatchWhoseConnectionIsEndedIsRetriedWithoutDoubleRows(t *testing.T) {
	f := open(t, nil)
	// The copy stops at a key that another transaction has inserted and not
	// committed; there, in the middle of the batch, the server ends its
	// connection.
	f.exec(t, `BEGIN`)
	f.exec(t, `INSERT INTO items VALUES ('a-250', now(), '')`)

	cfg := writequeue.DefaultConfig("bars-coord")
	cfg.Workers, cfg.Retry.Initial, cfg.BatchWait = 1, time.Millisecond, 0
	dead := &letters{}
	q, err := writequeue.New(cfg, f.Store, dead, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	batch := items("a", 500)
	if _, err := q.Put(context.Background(), batch...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	limited, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	killer, err := pgx.Connect(limited, f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer killer.Close(context.Background())
	for killed := 0; killed == 0; {
		tag, err := killer.Exec(limited, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND query ILIKE 'copy%' AND wait_event_type = 'Lock'`)
		if err != nil {
			t.Fatal(err)
		}
		killed = int(tag.RowsAffected())
	}
	f.exec(t, `ROLLBACK`)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s := q.Stats()
	if s.Written != 500 || len(dead.all) != 0 {
		t.Errorf("stats %+v, %d dead letters; want all 500 written", s, len(dead.all))
	}
	f.checkRows(t, 500)
}

// letters are dead letters in memory.
type letters struct {
	mu  sync.Mutex
	all []writequeue.Letter
}

func (l *letters) Append(_ context.Context, add []writequeue.Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, add...)
	return nil
}

func TestConcurrentWritersOfTheSameItemsMakeOneRowEach(t *testing.T) {
	f := open(t, nil)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for i := range 5 {
				// Deadlocks and the like pass when the batch is written again.
				for try := 0; ; try++ {
					err := f.Write(context.Background(), items(fmt.Sprint(i), 100))
					if err == nil {
						break
					}
					if writequeue.IsPermanent(err) || try == 100 {
						t.Error(err)
						break
					}
				}
			}
		})
	}
	writers.Wait()
	f.checkRows(t, 500)
}

func TestAllFaultsOfTheSettingsAreReportedAtOnce(t *testing.T) {
	cfg := postgres.Config{
		URL: "postgres://user:secret@host:notaport/db", Table: `items"; DROP TABLE x; --`,
		KeyColumns: []string{"payload"}, Payload: "json",
	}
	_, err := postgres.Open(context.Background(), cfg)
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"url", "table", "key_columns", "payload"}, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	for _, table := range []string{"", ".", "a.b.c", "1a", "a b", strings.Repeat("a", 64)} {
		cfg := postgres.DefaultConfig("postgres://localhost/db")
		cfg.Table = table
		if cfg.Validate() == nil {
			t.Errorf("table %q was accepted", table)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, again := range []bool{false, true} {
		name := "copy"
		if again {
			name = "merge"
		}
		b.Run(name, func(b *testing.B) {
			f := open(b, nil)
			batches := make([][]writequeue.Item, b.N)
			for i := range batches {
				batches[i] = items(fmt.Sprint(i), 500)
				if again {
					batches[i][0].Key = "same"
				}
			}
			f.mustWrite(b, []writequeue.Item{{Key: "same"}})
			b.ReportAllocs()
			b.ResetTimer()
			for _, batch := range batches {
				f.mustWrite(b, batch)
			}
			b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
