package promserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/testserver"
)

// StartForTest starts a server with those jobs for one test and stops it at
// the test's end. Where there is no Prometheus the test is skipped with a line
// that says so, or fails where testserver.Required says so.
func StartForTest(t testing.TB, interval time.Duration, scrapes ...Scrape) *Server {
	t.Helper()
	binary, err := Find()
	if errors.Is(err, ErrNoBinary) && !testserver.Required() {
		t.Skip("skipped: no Prometheus server")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := Start(ctx, Config{
		Binary: binary, Dir: t.TempDir(), Interval: interval, Scrapes: scrapes, Log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}
