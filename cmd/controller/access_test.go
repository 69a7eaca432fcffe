package main

import (
	"io"
	"testing"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/controller/httpapi"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/internal/route/routetest"
)

// served is the list from which a controller with that environment serves.
func served(t *testing.T, environ []string) []route.Route {
	t.Helper()
	r, err := prepare(t.Context(), environment{environ, io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	page, err := statuspage.New(r.loop)
	if err != nil {
		t.Fatal(err)
	}
	desk, err := overrides.New(r.loop, r.parts.coordinators, r.settings.ApplyTimeout, r.log)
	if err != nil {
		t.Fatal(err)
	}
	return httpapi.Routes(r.loop, page, desk, prom.NewRegistry())
}

func TestEveryRouteOfTheControllerIsForThoseWithItsRole(t *testing.T) {
	environ := []string{
		"HEADGATE_PROMETHEUS_URL=http://127.0.0.1:1", "HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_COORDINATOR_IDS=bars",
		"HEADGATE_COORDINATOR_URL=http://127.0.0.1:1", "HEADGATE_CONTROLLER_ACCESS_FILE=" + accesstest.File(t),
	}
	address, _, _ := start(t, environ...)
	routes := served(t, environ)
	routetest.Try(t, address, routes)
	routetest.Described(t, "../..", "controller", routes)
}
