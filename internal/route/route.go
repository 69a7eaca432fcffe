// Package route lists what an HTTP API serves, and who may ask for it. The mux
// that serves it, the check of its description and its help are made of the one
// list.
package route

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/reply"
)

// Route is one thing that an API serves.
type Route struct {
	Pattern string      // as http.ServeMux has it, with the method
	Role    access.Role // of those who may ask for it
	Help    string      // one phrase
	Handler http.Handler

	// Streams is for a route whose answers last: how many of them may be open at
	// once. Such an answer sets its own limits on the time of each message.
	Streams int

	// Waits is how long the handler may take before it answers, beyond the time
	// that every answer has; 0 for one that answers at once.
	Waits time.Duration
}

// AnswerLimit is how long an answer may take from when its request was read, or
// where its handler waits from when that is over.
const AnswerLimit = time.Minute

// Mux serves the routes to those whom the guard lets in. It panics where two
// have the same pattern, as http.ServeMux does, and where one has no role.
//
// No answer can be framed, loaded into another site's page or taken for what it
// is not, and no page of another origin can ask for a change through somebody's
// browser.
func Mux(routes []Route, guard *access.Guard) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		if r.Role == "" {
			panic(fmt.Sprintf("route %q has no role", r.Pattern))
		}
		mux.Handle(r.Pattern, r.guarded(guard))
	}
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply.JSON(w, http.StatusForbidden, problem{"a page of another origin asked for this"})
	}))
	inner := origins.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		inner.ServeHTTP(w, r)
	})
}

// policy lets an answer load nothing and nobody frame it; a page that has to
// load something sets its own.
const policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// secure sets what all answers have alike.
func secure(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
}

// guarded is the route's handler, for those who have its role.
func (r Route) guarded(guard *access.Guard) http.Handler {
	if r.Streams > 0 {
		return guard.Stream(r.Role, limited(r.Handler, r.Streams))
	}
	if r.Waits > 0 {
		return guard.Handler(r.Role, patient(r.Handler, r.Waits))
	}
	return guard.Handler(r.Role, r.Handler)
}

// problem is the body of a refusal.
type problem struct {
	Error string `json:"error"`
}

// limited answers 503 where so many streams are open already.
func limited(next http.Handler, most int) http.Handler {
	slots := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "10")
			reply.JSON(w, http.StatusServiceUnavailable, problem{fmt.Sprintf("there are %d streams already, and no more may be open", most)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// patient gives a handler that waits its time before the server's limit on an
// answer ends it.
func patient(next http.Handler, waits time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(waits + AnswerLimit))
		if err != nil && !errors.Is(err, http.ErrNotSupported) { // as a recorder in a test has it
			reply.JSON(w, http.StatusInternalServerError, problem{"the time of the answer could not be set"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
