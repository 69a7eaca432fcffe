package port

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const users = "basic_auth_users: {alice: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n"

func TestAPortThatStrangersReachIsOpenedOnlyWhereThatIsSaid(t *testing.T) {
	guard, err := access.New(write(t, "access.yaml", "clients: []\n"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, address, web string
		guard              *access.Guard
		allowed            bool
		want               string
	}{
		{"loopback", "127.0.0.1:8080", "", access.Everyone(), false, ""},
		{"all of loopback", "127.8.9.1:8080", "", access.Everyone(), false, ""},
		{"loopback of IPv6", "[::1]:8080", "", access.Everyone(), false, ""},
		{"localhost", "localhost:8080", "", access.Everyone(), false, ""},
		{"every address", "0.0.0.0:8080", "", access.Everyone(), false, `A_LISTEN is "0.0.0.0:8080", want`},
		{"every address, not said", ":8080", "", access.Everyone(), false, "HEADGATE_ALLOW_UNAUTHENTICATED=true"},
		{"every address of IPv6", "[::]:8080", "", access.Everyone(), false, "A_LISTEN"},
		{"one address", "192.0.2.1:8080", "", access.Everyone(), false, "A_LISTEN"},
		{"a name", "loopback.example:8080", "", access.Everyone(), false, "A_LISTEN"},
		{"said", "0.0.0.0:8080", "", access.Everyone(), true, ""},
		{"an access file", "0.0.0.0:8080", "", guard, false, ""},
		{"users", "0.0.0.0:8080", users, access.Everyone(), false, ""},
		{"no users", "0.0.0.0:8080", "basic_auth_users: {}\n", access.Everyone(), false, "A_LISTEN"},
		{"users beside an access file", "127.0.0.1:8080", users, guard, false, "A_WEB is"},
		{"a broken web configuration", "127.0.0.1:8080", "basic_auth_users: sEcReT\n", access.Everyone(), false, "A_WEB is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Port{
				Setting: "A_LISTEN", Address: c.address, WebSetting: "A_WEB", AccessSetting: "A_ACCESS", Guard: c.guard, Allowed: c.allowed,
			}
			if c.web != "" {
				p.WebConfigFile = write(t, "web.yaml", c.web)
			}
			err := p.Check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "sEcReT") {
				t.Errorf("the error repeats what stands in the file: %v", err)
			}
		})
	}
}

func TestClientCertificatesAreAuthenticationOnlyWhereTheyAreRequiredAndVerified(t *testing.T) {
	for kind, want := range map[string]bool{
		"RequireAndVerifyClientCert": true, "RequireAnyClientCert": false, "VerifyClientCertIfGiven": false, "RequestClientCert": false, "": false,
	} {
		content := &web.Config{}
		content.TLSConfig.ClientAuth = kind
		if got := authenticates(content); got != want {
			t.Errorf("%q: %v, want %v", kind, got, want)
		}
	}
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

func TestAPortWithoutAuthenticationAnswersNamesOfItsMachineAlone(t *testing.T) {
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "[::1]:8080": 200, "localhost": 200, "LocalHost.:80": 200, "a.localhost:1": 200, "192.0.2.1": 200, "": 200,
		"evil.example": 421, "evil.example:8080": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example:8080": 421, "notlocalhost": 421,
	} {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.Host = host
		localNames(hello).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q is answered %d, want %d", host, w.Code, want)
		}
	}
}

func TestStrangersAreWarnedOfAndServed(t *testing.T) {
	var log bytes.Buffer
	p := Port{Setting: "A_LISTEN", Address: "0.0.0.0:0", Guard: access.Everyone(), Allowed: true}
	s, err := p.Open(t.Context(), hello, Usual(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "nobody is asked who it is") != 1 || !strings.Contains(text, "setting=A_LISTEN") {
		t.Errorf("the log: %s", text)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	_, number, _ := net.SplitHostPort(s.Address())
	request, _ := http.NewRequest("GET", "http://127.0.0.1:"+number, nil)
	request.Host = "headgate.example"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("answered %s", response.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := errors.Join(s.Shutdown(time.Minute), <-done); err != nil {
		t.Error(err)
	}
}

func TestTheLoopbackPortRefusesAnotherSitesNameForIt(t *testing.T) {
	s, err := Port{Address: "127.0.0.1:0", Guard: access.Everyone()}.Open(t.Context(), hello, Usual(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	for host, want := range map[string]int{"": 200, "rebound.example": 421} {
		request, _ := http.NewRequest("GET", "http://"+s.Address(), nil)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("Host %q is answered %s, want %d", host, response.Status, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := errors.Join(s.Shutdown(time.Minute), <-done); err != nil {
		t.Error(err)
	}
}

// pipes is a listener whose connections are in memory, so that time can be that
// of a test.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.incoming <- theirs
	return ours
}

// served runs a server with the usual limits in a bubble and gives the test its
// clients.
func served(t *testing.T, handler http.Handler, test func(t *testing.T, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		server := Usual().server(handler)
		server.ErrorLog = errorLog(quiet)
		done := make(chan error, 1)
		go func() { done <- server.Serve(p) }()
		test(t, p.dial)
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// closedAfter is how long the server took to close a connection from now on.
func closedAfter(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func TestAClientThatSaysNothingIsClosed(t *testing.T) {
	served(t, hello, func(t *testing.T, dial func() net.Conn) {
		if took := closedAfter(t, dial()); took != Usual().ReadHeader {
			t.Errorf("closed after %s", took)
		}
	})
}

func TestAClientThatDripsItsHeaderIsClosed(t *testing.T) {
	served(t, hello, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		var dripping sync.WaitGroup
		defer dripping.Wait()
		dripping.Go(func() {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "X-%d: y\r\n", i); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if took := closedAfter(t, c); took > Usual().ReadHeader {
			t.Errorf("closed after %s", took)
		}
	})
}

func TestAClientThatDripsItsBodyIsCutOff(t *testing.T) {
	var failed chan error // of the bubble
	served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		failed <- err
	}), func(t *testing.T, dial func() net.Conn) {
		failed = make(chan error, 1)
		c := dial()
		var dripping sync.WaitGroup
		defer dripping.Wait()
		dripping.Go(func() {
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
			for {
				if _, err := fmt.Fprint(c, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		begin := time.Now()
		dripping.Go(func() { io.Copy(io.Discard, c) })
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != Usual().Read {
			t.Errorf("reading the body ended with %v after %s", err, time.Since(begin))
		}
	})
}

func TestAClientThatDoesNotReadItsAnswerIsCutOff(t *testing.T) {
	var failed chan error // of the bubble
	served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 1<<20))
		failed <- err
	}), func(t *testing.T, dial func() net.Conn) {
		failed = make(chan error, 1)
		c := dial()
		begin := time.Now()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != Usual().Write {
			t.Errorf("writing the answer ended with %v after %s", err, time.Since(begin))
		}
	})
}

func TestARouteThatWaitsIsNotCutOffBeforeItAnswers(t *testing.T) {
	const wait = 5 * time.Minute
	mux := route.Mux([]route.Route{{Pattern: "GET /", Role: access.Read, Waits: wait, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(wait)
		fmt.Fprint(w, "hello")
	})}}, access.Everyone())
	served(t, mux, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(answer), "hello") {
			t.Errorf("got %q, error %v", answer, err)
		}
	})
}

func TestAClientThatKeepsAConnectionIdleIsClosed(t *testing.T) {
	served(t, hello, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		if took := closedAfter(t, c); took != Usual().Idle {
			t.Errorf("closed after %s", took)
		}
	})
}

func TestAHeaderThatIsTooLongIsRefused(t *testing.T) {
	served(t, hello, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
			t.Errorf("answered %q, error %v", answer, err)
		}
	})
}

func TestAFloodOfOneHostLeavesRoomForOthers(t *testing.T) {
	limits := Usual()
	limits.Connections, limits.OfOneHost = 5, 3
	listener, err := limits.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	from := func(host string) net.Conn {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}).Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var flood []net.Conn
	for range limits.OfOneHost {
		from("127.0.0.2")
		flood = append(flood, <-accepted)
	}
	for range 20 { // are closed one and all
		if _, err := from("127.0.0.2").Read(make([]byte, 1)); err == nil {
			t.Error("one connection more than one host may have is open")
		}
	}
	from("127.0.0.3")
	other := <-accepted
	flood[0].Close()
	flood[0].Close() // gives back one place, not two
	from("127.0.0.2")
	again := <-accepted
	if _, err := from("127.0.0.2").Read(make([]byte, 1)); err == nil {
		t.Error("a connection that is closed twice gives two places back")
	}
	listener.Close()
	<-done
	for _, c := range append(flood, other, again) {
		c.Close()
	}
	if n := len(listener.(*fairListener).open); n != 0 {
		t.Errorf("%d hosts are remembered without a connection", n)
	}
}

func TestWhatStrangersCanMakeTheServerSayIsNotWarnedOf(t *testing.T) {
	var log bytes.Buffer
	l := errorLog(slog.New(slog.NewTextHandler(&log, nil)))
	l.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	l.Print("http: panic serving 192.0.2.1:1: oh\nlevel=ERROR msg=forged")
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "panic serving") || strings.Contains(text, "handshake") {
		t.Errorf("the log: %q", text)
	}
}

func TestRequestsEndWithTheBase(t *testing.T) {
	begun, base := make(chan struct{}), context.Background()
	base, cancel := context.WithCancel(base)
	s, err := Port{Address: "127.0.0.1:0", Guard: access.Everyone()}.Open(base, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}), Usual(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if response, err := http.Get("http://" + s.Address()); err == nil {
			response.Body.Close()
		}
	}()
	<-begun
	cancel()
	<-answered
	http.DefaultClient.CloseIdleConnections()
	if err := errors.Join(s.Shutdown(time.Minute), <-done); err != nil {
		t.Error(err)
	}
}
