package client

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tmaxmax/go-sse"

	"github.com/headgate/headgate/coordinator"
)

// says is a coordinator that answers one thing.
type says struct {
	status int
	body   string
}

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(s.body)), Request: r}, nil
}

// FuzzAnswer asks a coordinator that may have been taken over: whatever it
// answers is an error or a state, and an error has an end.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []struct {
		status int
		body   string
	}{
		{200, `{"provider":"ibkr","base_per_second":100,"scale":0.5,"scales":[{"owner":"controller","holder":"a","expires_in_seconds":null}]}`},
		{409, `{"error":"held","holder":"b","sequence":5,"expires_in_seconds":1e300,"stale":true}`},
		{409, `{"error":"held","holder":"b","expires_in_seconds":-1}`},
		{404, `{"error":"no","fields":[{"field":"provider","got":"x","want":"y"}]}`},
		{500, "<html>"}, {302, ""}, {200, `{"scale": "0"}`}, {200, "null"}, {204, ""},
	} {
		f.Add(seed.status, seed.body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		status = 200 + (status%400+400)%400
		c, err := New("http://127.0.0.1:1", &http.Client{Transport: says{status, body}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.State(t.Context(), "ibkr")
		if (status > 299) && err == nil {
			t.Fatalf("%d %q is no error", status, body)
		}
		var conflict *coordinator.ConflictError
		if errors.As(err, &conflict) && (conflict.ExpiresIn < 0 || conflict.ExpiresIn > longestLease) {
			t.Fatalf("%q stands by for %v", body, conflict.ExpiresIn)
		}
		if err != nil && len(err.Error()) > 4*len(body)+1000 {
			t.Fatalf("an error of %d bytes for an answer of %d", len(err.Error()), len(body))
		}
		for _, kind := range []string{"provider", "feedback", "other"} {
			change, known, err := decode(sse.Event{Type: kind, Data: body})
			switch {
			case known != (err == nil && kind != "other"), known && (change.State == nil) == (change.Event == nil), !known && change != Change{}:
				t.Fatalf("%s %q is read as %+v, %v, %v", kind, body, change, known, err)
			case change.Event != nil && change.Event.Validate() != nil:
				t.Fatalf("%q is read as %+v", body, change.Event)
			}
		}
	})
}
