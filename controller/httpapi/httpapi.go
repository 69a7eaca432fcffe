// Package httpapi puts together all that a controller serves over HTTP: its
// decisions, its status page, the operators' overrides, its metrics and its
// health.
package httpapi

import (
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/internal/route"
)

// Routes lists all of it.
func Routes(loop *controller.Controller, page *statuspage.Page, desk *overrides.Desk, gatherer prometheus.Gatherer) []route.Route {
	return slices.Concat(page.Routes(), loop.Routes(gatherer), desk.Routes())
}

// New returns the handler of all routes, for those whom the guard lets in.
func New(loop *controller.Controller, page *statuspage.Page, desk *overrides.Desk, gatherer prometheus.Gatherer, guard *access.Guard) http.Handler {
	return route.Mux(Routes(loop, page, desk, gatherer), guard)
}
