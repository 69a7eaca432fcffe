package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// NewAPIWithTransport is NewAPI's client over a transport of a test's own.
func NewAPIWithTransport(next http.RoundTripper) v1.API {
	client, err := api.NewClient(api.Config{
		Address: "http://prometheus.invalid", RoundTripper: limited{next: next, most: MaxAnswerBytes},
	})
	if err != nil {
		panic(err)
	}
	return v1.NewAPI(client)
}
