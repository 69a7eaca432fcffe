package port

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

// FuzzWebConfig gives a port a web configuration file. No port that strangers
// can reach comes of it unless the file has users or asks for certificates.
func FuzzWebConfig(f *testing.F) {
	for _, seed := range []string{
		"tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n",
		"basic_auth_users:\n  ann: $2y$10$sPmZNt0zZsr9c0ezfWd0GuYz5cOFBdRWgGSRAqYBSGvE3tVRTXXv6\n",
		"tls_server_config: {client_auth_type: RequireAndVerifyClientCert, client_ca_file: /none, min_version: TLS13}\n",
		"http_server_config: {http2: false, headers: {X-Frame-Options: deny, Strict-Transport-Security: \"max-age=1\"}}\n",
		"rate_limit: {interval: 1s, burst: 10}\nbasic_auth_users: [a]\n",
		"a: &a [*a]\n", "\x00", "tls_server_config: &x {<<: *x}", "basic_auth_users: {}\n---\n",
	} {
		f.Add([]byte(seed))
	}
	file := filepath.Join(f.TempDir(), "web.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p := Port{Setting: "A_LISTEN", Address: "0.0.0.0:1", WebSetting: "A_WEB_CONFIG_FILE", WebConfigFile: file, AccessSetting: "AN_ACCESS_FILE", Guard: access.Everyone()}
		content, err := ReadWebConfig(file)
		if checked := p.Check(); checked != nil {
			invalidtest.Explained(t, checked)
			return
		}
		if err != nil {
			t.Fatalf("a file that is wrong got through: %v", err)
		}
		asks := len(content.Users) > 0 || content.TLSConfig.ClientAuth == "RequireAndVerifyClientCert"
		if !asks {
			t.Fatalf("strangers can reach a port with %q", data)
		}
	})
}
