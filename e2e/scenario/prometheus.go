package scenario

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/internal/process"
)

// scrapeEvery is how often a scenario's Prometheus looks at each pod.
const scrapeEvery = time.Second

// Prometheus is a real server of one scenario's own. It can be killed, and
// started again at the same address and with the same data.
type Prometheus struct {
	URL string
	API promv1.API

	process *process.Process
	spec    process.Spec
}

// startPrometheus starts a server that scrapes the targets in the file
// dir/targets.json, through an HTTP proxy unless that is empty.
func startPrometheus(ctx context.Context, binary, dir, proxy string) (*Prometheus, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs:
  - job_name: pods
    file_sd_configs: [{files: [%[2]s]}]
`, scrapeEvery, filepath.Join(dir, "targets.json"))
	if proxy != "" {
		// The proxy gives samples their own timestamps; a series that is no longer
		// told is to end at once all the same.
		config += "    proxy_url: " + proxy + "\n    track_timestamps_staleness: true\n"
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "targets.json"), []byte("[]"), 0o644); err != nil {
		return nil, err
	}
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p := &Prometheus{URL: "http://" + address, spec: process.Spec{
		Name: "prometheus", Binary: binary, Log: dir, Args: []string{
			"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address,
		},
	}}
	client, err := api.NewClient(api.Config{Address: p.URL})
	if err != nil {
		return nil, err
	}
	p.API = promv1.NewAPI(client)
	return p, p.Start(ctx)
}

// Start starts the server and waits until it is ready.
func (p *Prometheus) Start(ctx context.Context) error {
	var err error
	if p.process, err = process.Start(p.spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error { return probe(ctx, p.URL+"/-/ready") })
}

// Kill ends the server as a crash would.
func (p *Prometheus) Kill() { p.process.Kill() }

// Stop ends the server.
func (p *Prometheus) Stop() error { return p.process.Stop(10 * time.Second) }

// Value asks for the one value of a query. No value is an error.
func (p *Prometheus) Value(ctx context.Context, query string) (float64, error) {
	value, _, _, err := p.API.Query(ctx, query, time.Time{})
	if err != nil {
		return 0, fmt.Errorf("query %s: %w", query, err)
	}
	vector, is := value.(model.Vector)
	if !is || len(vector) != 1 {
		return 0, fmt.Errorf("query %s: got %v, want one value", query, value)
	}
	return float64(vector[0].Value), nil
}

func probe(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
