package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/reply"
	"github.com/headgate/headgate/metrics"
)

// Guard lets clients in, or not. One guard may stand before any number of
// servers; its methods may be called by several goroutines at once.
type Guard struct {
	file string // empty for a guard that lets everyone do everything
	log  *slog.Logger

	table    atomic.Pointer[table]
	contents [sha256.Size]byte // of the files when they were last looked at; Run's own

	mu      sync.Mutex
	streams map[*stream]struct{} // that are open

	refused    *prometheus.CounterVec
	fileErrors prometheus.Counter
	fileGood   prometheus.Gauge
}

// stream is a request that lasts, and ends when its client may no longer.
type stream struct {
	credentials Credentials
	role        Role
	end         context.CancelFunc
}

// Everyone returns a guard that lets everyone do everything.
func Everyone() *Guard {
	g := &Guard{
		log: slog.New(slog.DiscardHandler), streams: map[*stream]struct{}{},
		refused:    metrics.NewCounter(metrics.AccessRefused),
		fileErrors: metrics.NewCounter(metrics.AccessFileErrors).WithLabelValues(),
		fileGood:   metrics.NewGauge(metrics.AccessFileGood).WithLabelValues(),
	}
	for _, why := range []string{whyUnauthenticated, whyRole} { // 0 from the start
		g.refused.WithLabelValues(why)
	}
	return g
}

// New returns a guard that lets those in whom an access file lists; without a
// file it is Everyone. The error tells all that is wrong with the file; it
// joins an *invalid.Value for each wrong line, and repeats no value.
func New(file string, log *slog.Logger) (*Guard, error) {
	g := Everyone()
	if file == "" {
		return g, nil
	}
	t, contents, err := read(file)
	if err != nil {
		return nil, err
	}
	g.file, g.log, g.contents = file, log, contents
	g.table.Store(t)
	g.fileGood.Set(1)
	return g, nil
}

// Asks reports whether the guard asks clients who they are.
func (g *Guard) Asks() bool { return g.file != "" }

// lookEvery is how often the files are looked at. That is how long a token
// that was taken away still counts.
const lookEvery = 2 * time.Second

// Run reads the files again when they change, until ctx ends, which is no
// error. While they are wrong the old ones count; a warning and a series say
// so. Streams of those who may no longer have them end. It is called once.
func (g *Guard) Run(ctx context.Context) error {
	if !g.Asks() {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.look()
		case <-ctx.Done():
			return nil
		}
	}
}

// look reads the files again where they have changed.
func (g *Guard) look() {
	t, contents, err := read(g.file)
	if contents == g.contents {
		return // also where they are as wrong as they were
	}
	g.contents = contents
	if err != nil {
		g.fileErrors.Inc()
		g.fileGood.Set(0)
		g.log.Warn("the access file is wrong, the old one counts", "file", g.file, "error", oneLine(err))
		return
	}
	g.table.Store(t)
	g.fileGood.Set(1)
	g.log.Info("the access file has changed", "file", g.file, "clients", len(t.clients))
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.streams {
		if _, err := g.Admit(s.credentials, s.role); err != nil {
			s.end()
		}
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Credentials are what a client says of itself.
type Credentials struct {
	Authorization string               // the header, or gRPC's metadata of that name
	TLS           *tls.ConnectionState // nil for a plain connection
}

// ErrUnauthenticated says that a client did not say who it is, or not truly.
var ErrUnauthenticated = errors.New("a bearer token or a client certificate is needed, and it has to be one that is known here")

// RoleError says that a client may not do what it wants to.
type RoleError struct {
	Client string // its name; empty where it did not say
	Role   Role   // that it has not
}

func (e *RoleError) Error() string {
	return fmt.Sprintf("client %q does not have the role %q", e.Client, e.Role)
}

// Reasons for which a request is refused, as the series show them.
const (
	whyUnauthenticated = "unauthenticated"
	whyRole            = "role"
)

// Admit says who a client is, if it has the role. The name is empty where
// nobody is asked, or it may do so without saying. The error is
// ErrUnauthenticated or a *RoleError.
//
// What the Authorization header says counts alone where there is one; else the
// names in the certificate that TLS has verified, with the roles of all that
// are listed; else the client is anonymous.
func (g *Guard) Admit(c Credentials, role Role) (name string, err error) {
	t := g.table.Load()
	if t == nil || role == Open {
		return "", nil
	}
	name, has, known := t.identify(c)
	switch {
	case has.has(role):
		return name, nil
	case known:
		return name, &RoleError{Client: name, Role: role}
	}
	return "", ErrUnauthenticated
}

// identify finds the client, and whether there is one.
func (t *table) identify(c Credentials) (name string, has roles, known bool) {
	if c.Authorization != "" {
		user, token, understood := credential(c.Authorization)
		if !understood {
			return "", 0, false
		}
		found := t.byToken(token)
		if found == nil || user != "" && user != found.name {
			return "", 0, false
		}
		return found.name, found.roles, true
	}
	if certificate := c.Certificate(); certificate != nil {
		for i := range t.clients {
			listed := &t.clients[i]
			if slices.ContainsFunc(listed.certificates, func(name string) bool { return Named(certificate, name) }) {
				if !known {
					name = listed.name
				}
				has, known = has|listed.roles, true
			}
		}
		if known {
			return name, has | t.anonymous, true
		}
	}
	return "", t.anonymous, false
}

// byToken finds the client that has a token. How long that takes tells nothing
// about tokens: they are looked up by a sum with a key that only this process
// knows, and then compared in constant time.
func (t *table) byToken(token string) *client {
	sum := sha256.Sum256([]byte(token))
	at, found := t.index[t.blind(sum)]
	if !found || subtle.ConstantTimeCompare(at.sum[:], sum[:]) != 1 {
		return nil
	}
	return &t.clients[at.client]
}

// place is where a token stands.
type place struct {
	sum    [sha256.Size]byte
	client int // among the clients
}

// blind hides a token's sum.
func (t *table) blind(sum [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(t.key[:], sum[:]...))
}

// arrange makes the index of the tokens.
func (t *table) arrange() {
	rand.Read(t.key[:]) // never fails
	t.index = map[[sha256.Size]byte]place{}
	for i, c := range t.clients {
		for _, sum := range c.tokens {
			t.index[t.blind(sum)] = place{sum, i}
		}
	}
}

// credential reads an Authorization header: a bearer token, or the token as the
// password of the user that the client's name is, which is how browsers send it.
func credential(header string) (user, token string, understood bool) {
	scheme, rest, _ := strings.Cut(header, " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return "", rest, rest != ""
	case strings.EqualFold(scheme, "Basic"):
		decoded, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return "", "", false
		}
		user, token, _ = strings.Cut(string(decoded), ":")
		return user, token, user != "" && token != ""
	}
	return "", "", false
}

// Certificate is the client's own, where TLS has verified it, or nil.
func (c Credentials) Certificate() *x509.Certificate {
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 || len(c.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	return c.TLS.VerifiedChains[0][0] // of every chain the first is the same
}

// Named reports whether a certificate has the name: among its DNS names or URIs,
// or as its common name.
func Named(certificate *x509.Certificate, name string) bool {
	return slices.Contains(certificate.DNSNames, name) || certificate.Subject.CommonName == name ||
		slices.ContainsFunc(certificate.URIs, func(u *url.URL) bool { return u.String() == name })
}

// Handler lets those who have the role through to next. Others are answered 401
// or 403, as JSON.
func (g *Guard) Handler(role Role, next http.Handler) http.Handler {
	if !g.Asks() || role == Open {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r, ok := g.admit(w, r, role); ok {
			next.ServeHTTP(w, r)
		}
	})
}

// Stream is Handler for a route whose answers last: they end when their client
// may no longer have them.
func (g *Guard) Stream(role Role, next http.Handler) http.Handler {
	if !g.Asks() || role == Open {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, ok := g.admit(w, r, role)
		if !ok {
			return
		}
		ctx, end := g.Last(admitted.Context(), credentials(r), role)
		defer end()
		next.ServeHTTP(w, admitted.WithContext(ctx))
	})
}

// Last returns a context that ends when a client may no longer do what the role
// allows. The function is to be called when it is done with.
func (g *Guard) Last(ctx context.Context, c Credentials, role Role) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{c, role, cancel}
	g.mu.Lock()
	g.streams[s] = struct{}{}
	g.mu.Unlock()
	// The files may have changed after the client was let in, and before this.
	if _, err := g.Admit(c, role); err != nil {
		cancel()
	}
	return ctx, func() {
		cancel()
		g.mu.Lock()
		delete(g.streams, s)
		g.mu.Unlock()
	}
}

func credentials(r *http.Request) Credentials {
	return Credentials{Authorization: r.Header.Get("Authorization"), TLS: r.TLS}
}

// admit lets a request in, which then says by whom it is, or answers it.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request, role Role) (*http.Request, bool) {
	name, err := g.Admit(credentials(r), role)
	if err == nil {
		if name == "" {
			return r, true
		}
		return r.WithContext(context.WithValue(r.Context(), clientKey{}, name)), true
	}
	g.Refused(err)
	body := problem{Error: err.Error()}
	status := http.StatusUnauthorized
	var lacks *RoleError
	if errors.As(err, &lacks) {
		body.Role, status = lacks.Role, http.StatusForbidden
	} else {
		// Browsers ask for user and password where Basic is offered.
		w.Header().Add("WWW-Authenticate", `Bearer realm="headgate"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="headgate", charset="UTF-8"`)
	}
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, status, body)
	return nil, false
}

// problem is the body of a refusal.
type problem struct {
	Error string `json:"error"`
	Role  Role   `json:"role,omitempty"` // that is missing
}

// Refused counts a refusal of Admit.
func (g *Guard) Refused(err error) {
	why := whyUnauthenticated
	var lacks *RoleError
	if errors.As(err, &lacks) {
		why = whyRole
	}
	g.refused.WithLabelValues(why).Inc()
}

type clientKey struct{}

// Client is the name of the client whose request a context is of; empty where
// nobody was asked.
func Client(ctx context.Context) string {
	name, _ := ctx.Value(clientKey{}).(string)
	return name
}

// Describe implements prometheus.Collector.
func (g *Guard) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range g.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (g *Guard) Collect(ch chan<- prometheus.Metric) {
	for _, c := range g.collectors() {
		c.Collect(ch)
	}
}

// collectors are none for a guard that asks nobody.
func (g *Guard) collectors() []prometheus.Collector {
	if !g.Asks() {
		return nil
	}
	return []prometheus.Collector{g.refused, g.fileErrors, g.fileGood}
}
