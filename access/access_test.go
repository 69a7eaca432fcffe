package access_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/invalid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

const (
	readToken = "read-token-0123456789"
	feedToken = "feed-token-0123456789"
)

func sum(token string) string {
	s := sha256.Sum256([]byte(token))
	return hex.EncodeToString(s[:])
}

// folder writes files, by name, into a folder and returns the path of the
// access file in it.
func folder(t testing.TB, accessFile string, others ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i+1 < len(others); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, others[i]), []byte(others[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "access.yaml")
	if err := os.WriteFile(path, []byte(accessFile), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func guard(t testing.TB, accessFile string, others ...string) *access.Guard {
	t.Helper()
	g, err := access.New(folder(t, accessFile, others...), quiet)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var two = `
clients:
  - {name: dashboard, token_file: read.token, roles: [read]}
  - {name: bars, token_sha256: ` + sum(feedToken) + `, roles: [feed, read]}
  - {name: ctl, certificate: [controller.headgate.svc, "spiffe://a/b"], roles: [read, apply]}
`

func bearer(token string) access.Credentials {
	return access.Credentials{Authorization: "Bearer " + token}
}

// certified is a connection whose client certificate TLS has verified, or not.
func certified(c x509.Certificate, verified bool) access.Credentials {
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{&c}}
	if verified {
		state.VerifiedChains = [][]*x509.Certificate{{&c}}
	}
	return access.Credentials{TLS: state}
}

func basic(user, password string) access.Credentials {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return access.Credentials{Authorization: r.Header.Get("Authorization")}
}

func TestAClientIsLetInByWhatItSaysOfItself(t *testing.T) {
	uri, _ := url.Parse("spiffe://a/b")
	named := x509.Certificate{DNSNames: []string{"other", "controller.headgate.svc"}}
	for _, c := range []struct {
		name        string
		credentials access.Credentials
		role        access.Role
		client, err string
	}{
		{"a token from a file", bearer(readToken), access.Read, "dashboard", ""},
		{"a token by its sum", bearer(feedToken), access.Feed, "bars", ""},
		{"the scheme in small letters", access.Credentials{Authorization: "bearer " + feedToken}, access.Feed, "bars", ""},
		{"a token as a password", basic("bars", feedToken), access.Feed, "bars", ""},
		{"a DNS name in a certificate", certified(named, true), access.Apply, "ctl", ""},
		{"a URI in a certificate", certified(x509.Certificate{URIs: []*url.URL{uri}}, true), access.Apply, "ctl", ""},
		{"a common name", certified(x509.Certificate{Subject: pkix.Name{CommonName: "controller.headgate.svc"}}, true), access.Apply, "ctl", ""},
		{"an open route and nothing said", access.Credentials{}, access.Open, "", ""},
		{"an open route and a wrong token", bearer("wrong"), access.Open, "", ""},

		{"nothing said", access.Credentials{}, access.Read, "", "is needed"},
		{"an unknown token", bearer("read-token-0123456780"), access.Read, "", "is needed"},
		{"no token after the scheme", access.Credentials{Authorization: "Bearer "}, access.Read, "", "is needed"},
		{"another scheme", access.Credentials{Authorization: "Digest " + readToken}, access.Read, "", "is needed"},
		{"the sum instead of the token", bearer(sum(feedToken)), access.Feed, "", "is needed"},
		{"another's token as a password", basic("dashboard", feedToken), access.Feed, "", "is needed"},
		{"a password without a user", basic("", feedToken), access.Feed, "", "is needed"},
		{"a certificate that is not verified", certified(named, false), access.Apply, "", "is needed"},
		{"a certificate of somebody else", certified(x509.Certificate{DNSNames: []string{"headgate.svc"}}, true), access.Read, "", "is needed"},
		{"a wrong token beside a good certificate", access.Credentials{Authorization: "Bearer x", TLS: certified(named, true).TLS}, access.Apply, "", "is needed"},
		{"a role that is not there", bearer(readToken), access.Override, "dashboard", `client "dashboard" does not have the role "override"`},
		{"a role that nobody knows", bearer(readToken), "write", "dashboard", `does not have the role "write"`},
		{"no role at all", bearer(readToken), "", "dashboard", `does not have the role ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, err := guard(t, two, "read.token", readToken+"\n").Admit(c.credentials, c.role)
			if name != c.client || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("client %q, error %v; want %q and %q", name, err, c.client, c.err)
			}
		})
	}
}

func TestTheAnonymousMayReadWhereTheFileSaysSo(t *testing.T) {
	g := guard(t, "anonymous: [read]\nclients:\n  - {name: ops, token_sha256: "+sum(feedToken)+", roles: [override]}\n")
	if _, err := g.Admit(access.Credentials{}, access.Read); err != nil {
		t.Error(err)
	}
	if _, err := g.Admit(access.Credentials{}, access.Override); err != access.ErrUnauthenticated {
		t.Errorf("an override: %v", err)
	}
	if _, err := g.Admit(bearer("wrong"), access.Read); err != access.ErrUnauthenticated {
		t.Errorf("a wrong token: %v", err)
	}
}

func TestAnAccessFileThatIsWrongIsRefusedWithoutRepeatingIt(t *testing.T) {
	const secret = "sEcReT"
	ok := "{name: a, token_sha256: " + sum(readToken) + ", roles: [read]}"
	for _, c := range []struct{ name, file, want string }{
		{"nothing", "", "access file"},
		{"no YAML", "clients: [" + secret, "access file"},
		{"no mapping", secret, "access file"},
		{"two documents", "clients: []\n---\nclients: []\n", "access file"},
		{"no clients", "anonymous: [read]", "clients is missing"},
		{"clients that are no list", "clients: " + secret, "line 1: clients"},
		{"a client that is no mapping", "clients: [" + secret + "]", "line 1: client"},
		{"an unknown key", "clients: []\n" + secret + ": 1\n", "line 2: key"},
		{"a key twice", "clients: []\nclients: []\n", "line 2: key is wrong, want each key once"},
		{"a client's unknown key", "clients: [{name: a, " + secret + ": x, certificate: b, roles: [read]}]", "line 1: key"},
		{"a token in clear", "clients: [{name: a, token: " + secret + "-in-the-file-itself, roles: [read]}]", "a token does not stand here in clear"},
		{"a path that is a token", "clients: [{name: a, token_file: " + secret + ", roles: [read]}]", "line 1: token_file is wrong, want a file that can be read: no such file or directory"},
		{"a sum that is a token", "clients: [{name: a, token_sha256: " + secret + ", roles: [read]}]", "line 1: token_sha256"},
		{"a token that can be guessed", "clients: [{name: a, token_file: short, roles: [read]}]", "16 to 4096"},
		{"a token in two lines", "clients: [{name: a, token_file: lines, roles: [read]}]", "16 to 4096"},
		{"no way to be known", "clients: [{name: a, roles: [read]}]", "token_file is missing"},
		{"no name", "clients: [{certificate: b, roles: [read]}]", "name is missing"},
		{"a name with a line break", "clients: [{name: \"a\\nb\", certificate: b, roles: [read]}]", "line 1: name"},
		{"a name with a colon", "clients: [{name: \"a:b\", certificate: b, roles: [read]}]", "line 1: name"},
		{"no roles", "clients: [{name: a, certificate: b}]", "roles is missing"},
		{"an empty list of roles", "clients: [{name: a, certificate: b, roles: []}]", "line 1: roles"},
		{"a role that there is not", "clients: [{name: a, certificate: b, roles: [" + secret + "]}]", "read, feed, apply, override"},
		{"the role of open routes", "clients: [{name: a, certificate: b, roles: [open]}]", "line 1: roles"},
		{"an anonymous that may override", "anonymous: [override]\nclients: []\n", "no role but read"},
		{"two of one name", "clients: [" + ok + ", {name: a, certificate: b, roles: [read]}]", "a name that no other client has"},
		{"two of one token", "clients: [" + ok + ", {name: b, token_sha256: " + sum(readToken) + ", roles: [feed]}]", "a token that no other client has"},
		{"two of one certificate", "clients: [{name: a, certificate: b, roles: [read]}, {name: c, certificate: b, roles: [feed]}]", "a name that no other client has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := access.New(folder(t, c.file, "short", "too-short", "lines", readToken+"\n"+readToken), quiet)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if len(invalid.All(err)) == 0 {
				t.Errorf("no field is named: %v", err)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "too-short") || strings.Contains(err.Error(), readToken) {
				t.Errorf("what stands in the file is repeated: %v", err)
			}
		})
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	_, err := access.New(folder(t, "anonymous: [apply]\nclients:\n  - {name: a}\n  - {name: b, certificate: c, roles: [x]}\n"), quiet)
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"line 1: anonymous", "line 3: token_file", "line 3: roles", "line 4: roles"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalsAreToldAsHTTPHasThem(t *testing.T) {
	g := guard(t, two, "read.token", readToken)
	seen := ""
	h := g.Handler(access.Feed, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = access.Client(r.Context()) }))
	ask := func(token string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("POST", "/", nil), httptest.NewRecorder()
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		h.ServeHTTP(w, r)
		return w
	}
	w := ask("")
	if w.Code != 401 || len(w.Header().Values("WWW-Authenticate")) != 2 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("unknown: %d %v", w.Code, w.Header())
	}
	w = ask(readToken)
	if want := `{"error":"client \"dashboard\" does not have the role \"feed\"","role":"feed"}` + "\n"; w.Code != 403 || w.Body.String() != want {
		t.Errorf("wrong role: %d %s", w.Code, w.Body)
	}
	if seen != "" {
		t.Fatal("a refused request got through")
	}
	if w = ask(feedToken); w.Code != 200 || seen != "bars" {
		t.Errorf("the right one: %d, seen as %q", w.Code, seen)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(g)
	want := `
# HELP headgate_access_refused_total Requests and calls that were refused, because it was not known whose they were, or for want of a role.
# TYPE headgate_access_refused_total counter
headgate_access_refused_total{reason="role"} 1
headgate_access_refused_total{reason="unauthenticated"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "headgate_access_refused_total"); err != nil {
		t.Error(err)
	}
}

func TestEveryoneIsLetInWhereNobodyIsAsked(t *testing.T) {
	g, err := access.New("", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Admit(access.Credentials{}, access.Override); err != nil || g.Asks() {
		t.Errorf("asks %v, error %v", g.Asks(), err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(g)
	if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
		t.Errorf("%d series, error %v", n, err)
	}
}

func TestTheFileIsReadAgainWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		file := folder(t, two, "read.token", readToken)
		g, err := access.New(file, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		change := func(name, content string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		may := func(token string, want bool) {
			t.Helper()
			if _, err := g.Admit(bearer(token), access.Read); (err == nil) != want {
				t.Errorf("%s: %v, want it let in %v", token, err, want)
			}
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(g)
		good := func(good, errors string) {
			t.Helper()
			want := "# HELP headgate_access_file_errors_total Times that the access file had changed and was wrong, so that the old one went on counting.\n" +
				"# TYPE headgate_access_file_errors_total counter\nheadgate_access_file_errors_total " + errors + "\n" +
				"# HELP headgate_access_file_good 1 while the access file is as it counts, 0 while it is wrong and an older one counts.\n" +
				"# TYPE headgate_access_file_good gauge\nheadgate_access_file_good " + good + "\n"
			if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "headgate_access_file_errors_total", "headgate_access_file_good"); err != nil {
				t.Error(err)
			}
		}

		stays, doneStays := g.Last(t.Context(), bearer(feedToken), access.Read)
		goes, doneGoes := g.Last(t.Context(), bearer(readToken), access.Read)
		defer doneStays()
		defer doneGoes()

		const next = "another-token-0123456789"
		change("read.token", next)
		may(next, true)
		may(readToken, false)
		good("1", "0")
		if goes.Err() == nil {
			t.Error("a stream outlived its token")
		}
		if stays.Err() != nil {
			t.Error("a stream ended whose token is still good")
		}

		change("access.yaml", "clients: [{name: x, token: clear-text-secret}]")
		may(next, true)
		good("0", "1")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		may(next, true)
		good("0", "2")

		change("access.yaml", two)
		may(next, true)
		good("1", "2")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if text := log.String(); strings.Count(text, "access file is wrong") != 2 || strings.Contains(text, "clear-text-secret") {
			t.Errorf("the log: %s", text)
		}
	})
}

func TestAStreamEndsThatWasLetInJustBeforeTheChange(t *testing.T) {
	g := guard(t, two, "read.token", readToken)
	ctx, done := g.Last(t.Context(), bearer("gone-token-0123456789"), access.Read)
	defer done()
	if ctx.Err() == nil {
		t.Error("the stream goes on")
	}
}

func BenchmarkAdmit(b *testing.B) {
	var file strings.Builder
	file.WriteString("clients:\n")
	for i := range 100 {
		fmt.Fprintf(&file, "  - {name: c%d, token_sha256: %s, roles: [feed]}\n", i, sum(fmt.Sprintf("token-number-%010d", i)))
	}
	g := guard(b, file.String())
	for _, c := range []struct {
		name   string
		number int
	}{{"the first of 100 tokens", 0}, {"the last of 100 tokens", 99}} {
		b.Run(c.name, func(b *testing.B) {
			credentials := bearer(fmt.Sprintf("token-number-%010d", c.number))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Admit(credentials, access.Feed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("as HTTP", func(b *testing.B) {
		h := g.Handler(access.Feed, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r, w := httptest.NewRequest("POST", "/v1/feedback", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer token-number-0000000050")
		b.ReportAllocs()
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	})
}
