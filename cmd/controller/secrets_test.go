package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/route/routetest"
)

// secretFiles writes client settings with a secret in them.
func secretFiles(t *testing.T) (good, bad string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.yml": "basic_auth: {username: ann, password: " + routetest.Secret + "}\n",
		"bad.yml":  "basic_auth: {username: ann, password: [" + routetest.Secret + "]}\nauthorization: {credentials: " + routetest.Secret + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "good.yml"), filepath.Join(dir, "bad.yml")
}

func TestTheControllerTellsNoSecret(t *testing.T) {
	good, bad := secretFiles(t)
	environ := []string{
		"HEADGATE_PROMETHEUS_URL=http://ann:" + routetest.Secret + "@127.0.0.1:1", "HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE=" + good,
		"HEADGATE_COORDINATOR_CLIENT_CONFIG_FILE=" + good, "HEADGATE_COORDINATOR_URL=http://127.0.0.1:1",
		"HEADGATE_CONTROLLER_LISTEN=127.0.0.1:0", "HEADGATE_COORDINATOR_IDS=bars", "HEADGATE_INTERVAL=100ms", "HEADGATE_LOG_LEVEL=debug",
		"HEADGATE_CONTROLLER_ACCESS_FILE=" + accesstest.File(t),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://ann:" + routetest.Secret + "@127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS=authorization=" + routetest.Secret,
	}
	with := func(more ...string) []string { return append(append([]string{}, environ...), more...) }
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
	}{
		{"--help", []string{"--help"}, environ},
		{"check-config", []string{"check-config"}, environ},
		{"client settings that are wrong", nil, with("HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE="+bad, "HEADGATE_COORDINATOR_CLIENT_CONFIG_FILE="+bad)},
		{"an access file that is none", nil, with("HEADGATE_CONTROLLER_ACCESS_FILE=" + good)},
		{"a web configuration that is none", nil, with("HEADGATE_CONTROLLER_WEB_CONFIG_FILE=" + bad)},
		{"addresses that are wrong", nil, with("HEADGATE_PROMETHEUS_URL=ftp://ann:"+routetest.Secret+"@x", "HEADGATE_COORDINATOR_URL=http://ann:"+routetest.Secret+"@127.0.0.1:1")},
		{"a command that reaches nobody", []string{"targets"}, with("HEADGATE_CONTROLLER_URL=http://ann:"+routetest.Secret+"@127.0.0.1:1", "HEADGATE_CONTROLLER_CLIENT_CONFIG_FILE="+good)},
		{"a variable that there is not", nil, with("HEADGATE_PROMETHEUS_PASSWORD=" + routetest.Secret)},
	} {
		var stdout, stderr strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		runMain(ctx, c.args, environment{c.environ, &stdout, &stderr})
		if ctx.Err() != nil {
			t.Errorf("%s: it was started", c.name)
		}
		cancel()
		routetest.KeepsSecrets(t, c.name, stdout.String()+stderr.String())
	}

	address, program, stop := start(t, environ...)
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(program.log(), "signals cannot be read"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Prometheus is not asked:\n%s", program.log())
		}
	}
	routetest.KeepsSecrets(t, "the controller's port", routetest.Told(t, address, served(t, environ)))
	stop()
	routetest.KeepsSecrets(t, "the log", program.log())
}
