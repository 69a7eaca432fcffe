// Package route lists what an HTTP API serves. The mux that serves it, the
// check of its description and its help are made of the one list.
package route

import "net/http"

// Route is one thing that an API serves.
type Route struct {
	Pattern string // as http.ServeMux has it, with the method
	Help    string // one phrase
	Handler http.Handler
}

// Mux serves the routes. It panics where two have the same pattern, as
// http.ServeMux does.
func Mux(routes []Route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	return mux
}
