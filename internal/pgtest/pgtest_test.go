package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.StopAfter(m)) }

func TestEachDatabaseIsEmptyAndItsOwn(t *testing.T) {
	ctx := context.Background()
	for range 2 {
		conn, err := pgx.Connect(ctx, pgtest.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(ctx) })
		if _, err := conn.Exec(ctx, `CREATE TABLE items (key text)`); err != nil {
			t.Errorf("the database is not empty: %v", err)
		}
	}
}

func TestTheServerStartsAgainAfterAStop(t *testing.T) {
	t.Run("first", func(t *testing.T) { pgtest.Database(t) })
	pgtest.Stop()
	t.Run("second", func(t *testing.T) {
		conn, err := pgx.Connect(context.Background(), pgtest.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}
