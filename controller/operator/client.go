package operator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/internal/invalid"
)

// client asks one controller.
type client struct {
	base    string
	http    *http.Client
	timeout time.Duration // of one answer
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 32 << 20

// newClient returns a client of the controller at a base address. The error is
// an *invalid.Value.
func newClient(base string, httpClient *http.Client, timeout time.Duration) (*client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, invalid.NewAddress("--url", base, "an address without user and password such as http://127.0.0.1:8080")
	}
	return &client{strings.TrimSuffix(u.String(), "/"), httpClient, timeout}, nil
}

// Refusal is an answer that says no.
type Refusal struct {
	Status  int               // of HTTP
	Message string            // the controller's own words
	Fields  []*invalid.Value  // what was wrong with the request, if it was that
	Places  []overrides.Place // among which was not chosen

	from string // who said it; empty for the controller
	body []byte // as it came
}

func (r *Refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s answered %d: %s", cmp.Or(r.from, "the controller"), r.Status, clean(r.Message))
	for _, p := range r.Places {
		fmt.Fprintf(&b, "\n  %s at %s: --target %s", clean(p.Provider), clean(p.CoordinatorURL), clean(strings.Join(p.Targets, " or --target ")))
	}
	if len(r.Places) > 0 {
		b.WriteString("\n  or --all")
	}
	return b.String()
}

// OfRequest reports whether it was the request that was wrong, so that the same
// one again would be refused again.
func (r *Refusal) OfRequest() bool {
	return r.Status == http.StatusBadRequest || r.Status == http.StatusNotFound || r.Status == http.StatusConflict ||
		r.Status == http.StatusRequestEntityTooLarge
}

// call makes one request and returns the answer's body, and when it was made by
// the controller's clock, or zero where it does not tell. An answer that is not
// in the 200s is a *Refusal.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body any) ([]byte, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("encode a request: %w", err)
		}
		content = bytes.NewReader(data)
	}
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("make a request: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("ask the controller: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the controller's answer: %w", err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, time.Time{}, refusal(response.StatusCode, data)
	}
	at, _ := http.ParseTime(response.Header.Get("Date")) // zero where there is none
	return data, at, nil
}

// get asks and decodes the answer, which is returned as it came too.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) (json.RawMessage, time.Time, error) {
	data, at, err := c.call(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	return data, at, decode(data, into)
}

func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the controller's answer: %w: is there a controller at this address?", err)
	}
	return nil
}

// refusal reads an answer that says no. One that is no JSON is quoted.
func refusal(status int, data []byte) error {
	var said struct {
		Error  string
		Fields []struct{ Field, Got, Want string }
		Places []overrides.Place
	}
	r := &Refusal{Status: status, body: data}
	if err := json.Unmarshal(data, &said); err != nil || said.Error == "" {
		r.Message = fmt.Sprintf("%.200q", strings.TrimSpace(string(data)))
		return r
	}
	r.Message, r.Places = said.Error, said.Places
	for _, f := range said.Fields {
		r.Fields = append(r.Fields, &invalid.Value{Field: f.Field, Got: f.Got, Want: f.Want})
	}
	return r
}
