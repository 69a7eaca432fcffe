package wiring_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

func TestEachOfManyCoordinatorsKeepsItsConnectionFromTickToTick(t *testing.T) {
	const coordinators = 150 // more than the connections that Go's own transport keeps in all
	transport, err := wiring.CoordinatorTransport(settings.Coordinators{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := wiring.CoordinatorClient(transport)
	defer client.CloseIdleConnections()
	var opened atomic.Int64
	var addresses []string
	for range coordinators {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
		server.Start()
		defer server.Close()
		addresses = append(addresses, server.URL)
	}
	for range 3 {
		for _, address := range addresses {
			response, err := client.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
		}
	}
	if n := opened.Load(); n != coordinators {
		t.Errorf("three rounds of %d coordinators opened %d connections", coordinators, n)
	}
}
