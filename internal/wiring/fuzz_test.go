package wiring

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/settings"
)

// FuzzClientConfig gives the clients of coordinators and of Prometheus their
// client settings. What is accepted makes a client, and credentials never go with
// an address that a series tells over plain HTTP.
func FuzzClientConfig(f *testing.F) {
	for _, seed := range []string{
		"basic_auth: {username: a, password: b}\n", "authorization: {credentials: t}\n", "bearer_token: t\n",
		"authorization: {type: Basic, credentials: t}\n", "oauth2: {client_id: a, client_secret: b, token_url: 'http://127.0.0.1:1/'}\n",
		"tls_config: {ca_file: /none, server_name: a, min_version: TLS12}\nproxy_url: http://127.0.0.1:1\n",
		"http_headers: {X-A: {values: [b], secrets: [c]}}\n", "follow_redirects: maybe\n", "a: &a [*a]\n", "{", "basic_auth: {}\nauthorization: {}\n",
	} {
		f.Add([]byte(seed))
	}
	file := filepath.Join(f.TempDir(), "client.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		client, err := clientConfig("A_CLIENT_CONFIG_FILE", file)
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		_, err = CoordinatorTransport(settings.Coordinators{ClientConfigFile: file}, []string{"series+http://"})
		if err != nil {
			invalidtest.Explained(t, err)
		} else if client.BasicAuth != nil || client.Authorization != nil || client.OAuth2 != nil || client.HTTPHeaders != nil {
			t.Fatalf("credentials go to whom a series tells: %q", data)
		}
	})
}
