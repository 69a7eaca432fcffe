package route_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/route"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

func TestARouteWithoutARoleIsNotServed(t *testing.T) {
	defer func() {
		if fault := recover(); fault == nil || !strings.Contains(fmt.Sprint(fault), `"GET /a" has no role`) {
			t.Errorf("panicked with %v", fault)
		}
	}()
	route.Mux([]route.Route{{Pattern: "GET /a", Handler: hello}}, access.Everyone())
}

func TestAPageOfAnotherOriginCanChangeNothing(t *testing.T) {
	mux := route.Mux([]route.Route{
		{Pattern: "/a", Role: access.Feed, Handler: hello},
	}, access.Everyone())
	for _, c := range []struct {
		method, name, value string
		want                int
	}{
		{"POST", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "Sec-Fetch-Site", "same-site", 403},
		{"POST", "Origin", "https://elsewhere.example", 403},
		{"POST", "Origin", "null", 403},
		{"PUT", "Sec-Fetch-Site", "cross-site", 403},
		{"DELETE", "Sec-Fetch-Site", "cross-site", 403},
		{"PATCH", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "Sec-Fetch-Site", "same-origin", 200},
		{"POST", "Sec-Fetch-Site", "none", 200},
		{"POST", "Origin", "http://example.com", 200},
		{"POST", "Accept", "*/*", 200},
		{"GET", "Sec-Fetch-Site", "cross-site", 200}, // which its page cannot read
	} {
		r, w := httptest.NewRequest(c.method, "/a", nil), httptest.NewRecorder()
		r.Header.Set(c.name, c.value)
		mux.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s with %s: %s is answered %d, want %d", c.method, c.name, c.value, w.Code, c.want)
		}
	}
}

func TestEveryAnswerIsLocked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(file, []byte("clients: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := access.New(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := route.Mux([]route.Route{
		{Pattern: "GET /open", Role: access.Open, Handler: hello},
		{Pattern: "GET /read", Role: access.Read, Handler: hello},
	}, guard)
	for path, status := range map[string]int{"/open": 200, "/read": 401, "/none": 404} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status {
			t.Errorf("%s is answered %d, want %d", path, w.Code, status)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestOnlySoManyStreamsAreOpen(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	mux := route.Mux([]route.Route{{Pattern: "GET /stream", Role: access.Read, Streams: 2, Handler: http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-end })}}, access.Everyone())
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/stream", nil))
		return w
	}
	done := make(chan struct{})
	for range 2 {
		go func() { ask(); done <- struct{}{} }()
		<-begun
	}
	if w := ask(); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "2 streams already") {
		t.Errorf("a third is answered %d %s", w.Code, w.Body)
	}
	end <- struct{}{}
	<-done
	go func() { ask(); done <- struct{}{} }()
	<-begun // there is a place again
	close(end)
	<-done
	<-done
}
