package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"

	"github.com/headgate/headgate/internal/invalid"
)

// MaxAnswerBytes is the largest answer that NewAPI's client reads; some
// hundred thousand samples.
const MaxAnswerBytes = 64 << 20

// ErrTooLarge says that an answer was longer than the client reads.
var ErrTooLarge = errors.New("answer is too large")

// NewAPI returns a client of the Prometheus server at that address, or of
// anything that speaks its query API. The settings are those that Prometheus
// itself has for its own requests: TLS, basic and bearer authentication,
// OAuth 2, proxies. Answers beyond MaxAnswerBytes fail with ErrTooLarge.
func NewAPI(address string, settings config.HTTPClientConfig) (v1.API, error) {
	parsed, err := url.Parse(address)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" {
		return nil, invalid.NewAddress("prometheus_url", address, "an address such as http://127.0.0.1:9090")
	}
	transport, err := config.NewRoundTripperFromConfig(settings, "headgate")
	if err != nil {
		return nil, fmt.Errorf("prepare the prometheus client: %w", err)
	}
	client, err := api.NewClient(api.Config{
		Address:      address,
		RoundTripper: limited{next: transport, most: MaxAnswerBytes},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the prometheus client: %w", err)
	}
	return v1.NewAPI(client), nil
}

// limited bounds the bodies that a round tripper returns.
type limited struct {
	next http.RoundTripper
	most int64
}

func (l limited) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &limitedBody{ReadCloser: response.Body, left: l.most}
	return response, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64 // bytes that may yet be read
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more tells a full body from one that is too long
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
