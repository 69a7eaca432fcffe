package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/pgtest"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/postgres"
)

// between stands between a store and its server, and holds the server's word that
// a batch is committed.
type between struct {
	listener net.Listener
	server   string // its socket
	serving  sync.WaitGroup
	done     chan struct{} // closed at the end

	held   chan struct{} // sent to when a word is held
	asked  chan struct{} // sent to when another connection comes while it is
	passes chan struct{} // closed for the word to pass

	mu      sync.Mutex
	holding bool
}

// put puts one between a database and who connects to the URL that it returns.
func put(t *testing.T, database string) (b *between, to string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	sockets, err := filepath.Glob(filepath.Join(query.Get("host"), ".s.PGSQL.*[0-9]"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("error %v, the server's sockets are %v", err, sockets)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b = &between{
		listener: listener, server: sockets[0], done: make(chan struct{}),
		held: make(chan struct{}, 1), asked: make(chan struct{}, 10), passes: make(chan struct{}),
	}
	b.serving.Go(b.serve)
	t.Cleanup(func() {
		close(b.done)
		listener.Close()
		b.serving.Wait()
	})
	query.Del("host")
	u.Host, u.RawQuery = listener.Addr().String(), query.Encode()
	return b, u.String()
}

func (b *between) serve() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.holding {
			b.asked <- struct{}{}
		}
		b.mu.Unlock()
		server, err := net.Dial("unix", b.server)
		if err != nil {
			client.Close()
			continue
		}
		stop := sync.OnceFunc(func() { client.Close(); server.Close() })
		b.serving.Go(func() { defer stop(); _, _ = io.Copy(server, client) })
		b.serving.Go(func() { defer stop(); b.answer(client, server) })
		b.serving.Go(func() {
			<-b.done
			stop()
		})
	}
}

// answer passes the server's messages on, but for the word on a COPY.
func (b *between) answer(client io.Writer, server io.Reader) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if head[0] == 'C' && bytes.HasPrefix(body, []byte("COPY")) {
			b.mu.Lock()
			b.holding = true
			b.mu.Unlock()
			b.held <- struct{}{}
			select {
			case <-b.passes:
			case <-b.done:
				return
			}
		}
		if _, err := client.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func TestABatchThatIsCommittedWhenItsWriteEndsIsWritten(t *testing.T) {
	b, through := put(t, pgtest.Database(t))
	s, err := postgres.Open(t.Context(), postgres.DefaultConfig(through))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan error, 1)
	go func() { wrote <- s.Write(ctx, items("a", 10)) }()
	<-b.held
	cancel()
	<-b.asked // the server was asked to give it up
	close(b.passes)
	if err := <-wrote; err != nil {
		t.Errorf("the write ended with %v, and its rows are there", err)
	}
	if n, err := s.Rows(t.Context()); n != 10 || err != nil {
		t.Errorf("%d rows, error %v, want 10", n, err)
	}
}

func TestABatchOfWhichTheServerSaysNothingMoreMayBeWrittenAgain(t *testing.T) {
	database := pgtest.Database(t)
	b, through := put(t, database)
	s, err := postgres.Open(t.Context(), postgres.DefaultConfig(through))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan error, 1)
	go func() { wrote <- s.Write(ctx, items("a", 10)) }()
	<-b.held
	begin := time.Now()
	cancel()
	err = <-wrote
	if !errors.Is(err, context.Canceled) || writequeue.IsPermanent(err) {
		t.Errorf("the write ended with %v, want %v", err, context.Canceled)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v after its context", took)
	}
	again, err := postgres.Open(t.Context(), postgres.DefaultConfig(database))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Write(t.Context(), items("a", 10)); err != nil {
		t.Error(err)
	}
	if n, err := again.Rows(t.Context()); n != 10 || err != nil {
		t.Errorf("%d rows, error %v, want 10", n, err)
	}
}

func TestABatchThatIsGivenUpDuringItsCommitIsNotThere(t *testing.T) {
	f := open(t, nil)
	f.exec(t, `CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$`)
	f.exec(t, `CREATE CONSTRAINT TRIGGER late AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()`)
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan error, 1)
	go func() { wrote <- f.Write(ctx, items("a", 1)) }()
	const late = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
	for deadline := time.Now().Add(time.Minute); f.value(t, late) != "1"; {
		if time.Now().After(deadline) {
			t.Fatal("waited a minute in vain for the commit to begin")
		}
	}
	cancel()
	if err := <-wrote; !errors.Is(err, context.Canceled) || writequeue.IsPermanent(err) {
		t.Errorf("the write ended with %v, want %v", err, context.Canceled)
	}
	// At once: nobody is at it any more.
	if got := f.value(t, late); got != "0" {
		t.Errorf("%s writes are still under way", got)
	}
	if n, err := f.Rows(t.Context()); n != 0 || err != nil {
		t.Errorf("%d rows, error %v, want none", n, err)
	}
}
