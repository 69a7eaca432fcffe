// Package client speaks to a coordinator over HTTP, as httpapi serves it.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Client speaks to one coordinator. It may be used by several goroutines at
// once.
type Client struct {
	base string
	http *http.Client
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// New returns a client for the coordinator at a base address such as
// http://127.0.0.1:9400. Limits on time are the caller's, by each call's
// context; httpClient may be shared, and nil is http.DefaultClient.
func New(base string, httpClient *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, invalid.NewAddress("coordinator_url", base, "an address without user and password such as http://127.0.0.1:9400")
	}
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	return &Client{base: strings.TrimSuffix(u.String(), "/"), http: httpClient}, nil
}

// Error is an answer that says no. Errors.Is and As see through it to
// coordinator.ErrUnknownProvider and *coordinator.ConflictError.
type Error struct {
	Status  int              // of HTTP
	Message string           // the coordinator's own words
	Fields  []*invalid.Value // what was wrong with the request, if it was that
	cause   error
}

func (e *Error) Error() string {
	return fmt.Sprintf("coordinator answered %d: %s", e.Status, e.Message)
}

// Unwrap returns what the answer stands for, if a caller decides on it.
func (e *Error) Unwrap() error { return e.cause }

// Apply puts a controller's leased scale on a provider and returns the state
// read back. Only the controller's requests go this way: Override is for the
// operator's, Feedback for the fast loop's.
func (c *Client) Apply(ctx context.Context, provider string, r coordinator.ScaleRequest) (coordinator.State, error) {
	body := map[string]any{
		"scale": r.Scale, "level": r.Level, "reason": r.Reason, "ttl": r.TTL.String(),
		"holder": r.Holder, "sequence": r.Sequence,
	}
	if r.Share != 0 { // so that a coordinator that knows of no shares can be asked too
		body["share"] = r.Share
	}
	return c.put(ctx, provider, "scale", body)
}

// Override puts an operator's scale on a provider until ttl is over, and
// returns the state read back.
func (c *Client) Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error) {
	return c.put(ctx, provider, "override", map[string]any{
		"scale": scale, "reason": reason, "ttl": ttl.String(), "holder": who,
	})
}

func (c *Client) put(ctx context.Context, provider, what string, body any) (coordinator.State, error) {
	var state coordinator.State
	err := c.call(ctx, http.MethodPut, providerPath(provider)+"/"+what, body, &state)
	return state, err
}

// ClearOverride ends an operator's override and returns the state read back.
// Why it is ended may be empty.
func (c *Client) ClearOverride(ctx context.Context, provider, who, reason string) (coordinator.State, error) {
	var state coordinator.State
	path := providerPath(provider) + "/override?" + url.Values{"holder": {who}, "reason": {reason}}.Encode()
	err := c.call(ctx, http.MethodDelete, path, nil, &state)
	return state, err
}

// State returns a provider's state.
func (c *Client) State(ctx context.Context, provider string) (coordinator.State, error) {
	var state coordinator.State
	err := c.call(ctx, http.MethodGet, providerPath(provider), nil, &state)
	return state, err
}

// States returns every provider's state, by name.
func (c *Client) States(ctx context.Context) ([]coordinator.State, error) {
	var answer struct {
		Providers []coordinator.State `json:"providers"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/providers", nil, &answer)
	return answer.Providers, err
}

// Acquire takes n tokens of a provider, waiting for them up to timeout.
func (c *Client) Acquire(ctx context.Context, provider string, n int, timeout time.Duration) error {
	return c.call(ctx, http.MethodPost, providerPath(provider)+"/acquire",
		map[string]any{"tokens": n, "timeout": timeout.String()}, nil)
}

// Feedback publishes an event.
func (c *Client) Feedback(ctx context.Context, e pressure.Event) error {
	return c.call(ctx, http.MethodPost, "/v1/feedback", e, nil)
}

func providerPath(provider string) string { return "/v1/providers/" + url.PathEscape(provider) }

// call makes one request and decodes the answer into into, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the coordinator: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the coordinator's answer: %w", err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return refusal(response.StatusCode, data)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the coordinator's answer: %w", err)
	}
	return nil
}

// longestLease is the most that a coordinator grants. One that says more is not
// believed.
const longestLease = 7 * 24 * time.Hour

// refusal reads an answer that says no. One that is no JSON is quoted.
func refusal(status int, data []byte) error {
	var said struct {
		Error            string  `json:"error"`
		Holder           string  `json:"holder"`
		Sequence         uint64  `json:"sequence"`
		ExpiresInSeconds float64 `json:"expires_in_seconds"`
		Stale            bool    `json:"stale"`
		Fields           []struct{ Field, Got, Want string }
	}
	e := &Error{Status: status}
	if err := json.Unmarshal(data, &said); err != nil || said.Error == "" {
		e.Message = fmt.Sprintf("%.200q", data)
		return e
	}
	e.Message = said.Error
	for _, f := range said.Fields {
		e.Fields = append(e.Fields, &invalid.Value{Field: f.Field, Got: f.Got, Want: f.Want})
	}
	// A 404 without the field is another server's: no coordinator is there.
	if status == http.StatusNotFound && len(e.Fields) > 0 {
		e.cause = coordinator.ErrUnknownProvider
	}
	if status == http.StatusConflict && said.Holder != "" {
		e.cause = &coordinator.ConflictError{
			Holder: said.Holder, Sequence: said.Sequence, Stale: said.Stale,
			ExpiresIn: time.Duration(min(max(0, said.ExpiresInSeconds), longestLease.Seconds()) * float64(time.Second)),
		}
	}
	return e
}
