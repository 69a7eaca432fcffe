package routetest

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/route"
)

// Secret is in every secret that a test gives to a binary.
const Secret = "s3cr3t-0123456789"

// Told returns all that the server at a base address answers on the routes that
// are read, to one who may and to one who may not.
func Told(t *testing.T, base string, routes []route.Route) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	var all strings.Builder
	for _, r := range routes {
		method, path := split(r.Pattern)
		if method != http.MethodGet {
			continue
		}
		for _, authorization := range []string{"Bearer " + accesstest.Token(access.Read), "Bearer wrong-" + Secret, "Basic " + base64.StdEncoding.EncodeToString([]byte(Secret+":x"))} {
			request, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", authorization)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(&all, response.Body) // a stream ends with the client's time
			response.Body.Close()
			response.Header.Write(&all)
		}
	}
	return all.String()
}

// KeepsSecrets fails where a text holds a secret, or it in another form.
func KeepsSecrets(t *testing.T, where, text string) {
	t.Helper()
	if text == "" {
		t.Fatalf("%s: nothing was said", where)
	}
	forms := []string{Secret, base64.StdEncoding.EncodeToString([]byte(Secret)), base64.StdEncoding.EncodeToString([]byte("ann:" + Secret)), "0123456789"}
	for _, form := range forms {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s tells a secret: …%s…", where, text[max(0, i-200):min(len(text), i+len(form)+50)])
		}
	}
}
