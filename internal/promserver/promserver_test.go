package promserver_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/promserver"
)

func TestConfigurationIsWhatPrometheusReads(t *testing.T) {
	got, err := promserver.Config{
		Interval: 1500 * time.Millisecond,
		Scrapes: []promserver.Scrape{
			{Job: "bars", Targets: []string{"127.0.0.1:9"}, Labels: map[string]string{"zone": "a"}},
			{Job: "fast", Targets: []string{"127.0.0.1:8"}, Path: "/m", Interval: 200 * time.Millisecond},
		},
		RuleFiles: []string{"alerts.yml"},
	}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	want := `global:
    scrape_interval: 1500ms
    scrape_timeout: 1500ms
    evaluation_interval: 1500ms
    scrape_native_histograms: true
    always_scrape_classic_histograms: true
rule_files:
    - alerts.yml
scrape_configs:
    - job_name: bars
      static_configs:
        - targets:
            - 127.0.0.1:9
          labels:
            zone: a
    - job_name: fast
      metrics_path: /m
      scrape_interval: 200ms
      scrape_timeout: 200ms
      static_configs:
        - targets:
            - 127.0.0.1:8
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestServerStartsReadyAndStops(t *testing.T) {
	server := promserver.StartForTest(t, time.Second)
	response, err := http.Get(server.URL + "/-/healthy")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("health is %s, want 200", response.Status)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Ended():
	default:
		t.Error("the process goes on after Stop")
	}
	if err := server.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

func TestStartTellsThatTheServerEnded(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "prometheus")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho no such flag >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	_, err := promserver.Start(t.Context(), promserver.Config{Binary: binary, Dir: t.TempDir(), Interval: time.Second, Log: &log})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error is %v, want one with its exit status", err)
	}
	if log.String() != "no such flag\n" {
		t.Errorf("log is %q", log.String())
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "prometheus")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\nexec tail -f /dev/null\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := promserver.Start(ctx, promserver.Config{Binary: binary, Dir: t.TempDir(), Interval: time.Second})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the context's", err)
	}
}

func TestFindSaysThatThereIsNone(t *testing.T) {
	t.Setenv(promserver.BinaryVariable, filepath.Join(t.TempDir(), "none"))
	if _, err := promserver.Find(); !errors.Is(err, promserver.ErrNoBinary) {
		t.Errorf("error is %v, want ErrNoBinary", err)
	}
}
