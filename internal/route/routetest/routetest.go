// Package routetest tries every route of a server that runs, as clients who may
// ask for it and as others.
package routetest

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/route"
)

// Open are the patterns that anyone may ask for, on any server: what probes ask,
// who have nothing to say of themselves.
func Open() []string { return []string{"GET /-/healthy", "GET /-/ready"} }

// Rules reports routes whose role is not what their kind has: one that changes
// nothing takes the role to read, one that changes something another, and no
// other than those of Open goes without. A route that is open beside them has to
// say no to everyone, which Try sees.
func Rules(t *testing.T, routes []route.Route) {
	t.Helper()
	if len(routes) == 0 {
		t.Fatal("there is no route")
	}
	for _, r := range routes {
		method, path := split(r.Pattern)
		reads := method == http.MethodGet || method == http.MethodHead
		switch {
		case r.Role == access.Open && (slices.Contains(Open(), r.Pattern) || method == ""):
		case r.Role == access.Read && reads:
		case slices.Contains([]access.Role{access.Feed, access.Apply, access.Override}, r.Role) && !reads && path != "/":
		default:
			t.Errorf("%s takes the role %q: a GET takes the role to read, another method one of those that change something, and only %v are open",
				r.Pattern, r.Role, Open())
		}
	}
}

// Try asks the server at a base address, which has the access file of
// accesstest.File, for each of its routes as each client.
func Try(t *testing.T, base string, routes []route.Route) {
	t.Helper()
	Rules(t, routes)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	// What no route has is refused, not served by chance.
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/v1/nothing", "/v2/providers", "/metrics/x"} {
		if got := status(t, client, http.MethodGet, base+path, ""); got != http.StatusNotFound && got != http.StatusMethodNotAllowed {
			t.Errorf("GET %s, which is no route, is answered %d to a stranger", path, got)
		}
	}
	for _, r := range routes {
		method, path := split(r.Pattern)
		for _, c := range accesstest.Clients() {
			got := status(t, client, orOther(method, r.Role), base+path, c.Authorization)
			allowed := got != http.StatusUnauthorized && got != http.StatusForbidden
			switch {
			case r.Role == access.Open && method == "": // the answer to what there is not
				if got != http.StatusNotFound && got != http.StatusMethodNotAllowed {
					t.Errorf("%s is open, and answered %d to %s", r.Pattern, got, c.Name)
				}
			case c.May(r.Role):
				if !allowed || got >= 500 && !slices.Contains(Open(), r.Pattern) && got != http.StatusServiceUnavailable {
					t.Errorf("%s is answered %d to %s, who may ask for it", r.Pattern, got, c.Name)
				}
			case c.Known() && got != http.StatusForbidden, !c.Known() && got != http.StatusUnauthorized:
				t.Errorf("%s is answered %d to %s, who may not ask for it", r.Pattern, got, c.Name)
			}
		}
	}
}

// split tells the method and a path of a pattern.
func split(pattern string) (method, path string) {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = "", pattern
	}
	path = strings.ReplaceAll(path, "{$}", "")
	return method, wildcard.ReplaceAllString(path, "ibkr")
}

var wildcard = regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)

// orOther is the method of a pattern; for one without, that of a change, or one
// that no route has where the pattern only says no.
func orOther(method string, role access.Role) string {
	switch {
	case method != "":
		return method
	case role == access.Open:
		return http.MethodPatch
	}
	return http.MethodPost
}

// status asks, and passes over what is answered: some answers do not end.
func status(t *testing.T, client *http.Client, method, url, authorization string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
