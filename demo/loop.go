package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/promserver"
)

const (
	coordinatorID = "bars"
	provider      = "ibkr"

	// scrapeEvery is how often Prometheus looks at the pipeline, and tickEvery
	// how often the controller and the scaler look at Prometheus.
	scrapeEvery = time.Second
	tickEvery   = time.Second
)

// job is the pipeline's job file. The feedback within the process is off: what
// moves the gate is what Prometheus saw.
var job = template.Must(template.New("job").Parse(`mode: dag
name: {{.Name}}
when_done: stay
dag:
  nodes:
    market: {type: replay, file: arrivals.csv, multiplier: {{printf "%.6f" .Factor}}, loop: {{.Loop}}}
    gate: {type: gate, provider: {{.Provider}}, batch: 50}
    queue: {type: write_queue, capacity: {{.Capacity}}, workers: 2, batch_size: 100, batch_wait: 100ms, overflow: {{.Overflow}}}
    store: {type: sqlite, path: bars.db, pace_file: capacity.csv}
  edges:
    - [market, gate]
    - [gate, queue]
    - [queue, store]
providers:
  {{.Provider}}: {base_per_second: {{.Base}}, burst: {{.Burst}}, fail_mode: {{.FailMode}}}
feedback:
  enable_feedback: false
metrics:
  listen: {{.Listen}}
`))

// loop is the whole of it at work: Prometheus, the pipeline, the controller and
// the scaler, each a process of its own.
type loop struct {
	dir       string // with all files of the rehearsal
	rehearsal rehearsal
	started   time.Time // of the pipeline, which is that of the market too

	prometheus                   *promserver.Server
	pipeline, controller, scaler *process

	pipelineURL, controllerURL, scalerURL string
	scalerAddress                         string
}

// control is how the loop is controlled.
type control struct {
	policy   string
	off      bool              // the provider is always open, and the controller only watches
	overflow string            // what a full queue does; block where empty
	settings map[string]string // of the controller, in place of those of the demo
}

// binaries says where the programs are.
type binaries struct {
	prometheus string
	dir        string // of Headgate's own
}

// startLoop starts everything and returns when all of it is ready. On an error
// nothing runs. Where rounds is more than one the market and the store's
// capacity repeat.
func startLoop(ctx context.Context, dir string, bins binaries, r rehearsal, how control, rounds int) (_ *loop, err error) {
	l := &loop{dir: dir, rehearsal: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.stop())
		}
	}()
	ports, err := freeAddresses(4, "127.0.0.1:9400", "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:6000")
	if err != nil {
		return nil, err
	}
	l.pipelineURL, l.controllerURL, l.scalerURL = "http://"+ports[0], "http://"+ports[1], "http://"+ports[2]
	l.scalerAddress = ports[3]

	if err := l.writeFiles(ports[0], how, rounds); err != nil {
		return nil, err
	}
	prometheusLog, err := os.Create(filepath.Join(dir, "prometheus.log"))
	if err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	defer prometheusLog.Close()
	prometheusDir := filepath.Join(dir, "prometheus")
	if err := os.Mkdir(prometheusDir, 0o755); err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	l.prometheus, err = promserver.Start(ctx, promserver.Config{
		Binary: bins.prometheus, Dir: prometheusDir, Interval: scrapeEvery, Log: prometheusLog,
		Scrapes: []promserver.Scrape{
			{Job: "pipeline", Targets: ports[0:1]},
			{Job: "controller", Targets: ports[1:2]},
			{Job: "external-scaler", Targets: ports[2:3]},
		},
	})
	if err != nil {
		return nil, err
	}

	signals := map[string]string{"HEADGATE_PROMETHEUS_URL": l.prometheus.URL}
	l.scaler, err = start(dir, filepath.Join(bins.dir, "external-scaler"), nil, merged(signals, map[string]string{
		"HEADGATE_SCALER_LISTEN":           ports[2],
		"HEADGATE_SCALER_GRPC_LISTEN":      ports[3],
		"HEADGATE_SCALER_INTERVAL":         tickEvery.String(),
		"HEADGATE_SCALER_COORDINATOR_URLS": l.pipelineURL,
	}))
	if err != nil {
		return nil, err
	}
	l.controller, err = start(dir, filepath.Join(bins.dir, "controller"), nil, merged(signals, merged(map[string]string{
		"HEADGATE_CONTROLLER_LISTEN": ports[1],
		"HEADGATE_INTERVAL":          tickEvery.String(),
		"HEADGATE_LEASE":             (5 * tickEvery).String(),
		"HEADGATE_COOL_DOWN":         (2 * tickEvery).String(),
		"HEADGATE_DECISIONS":         "10000",
		"HEADGATE_COORDINATOR_IDS":   coordinatorID,
		"HEADGATE_COORDINATOR_URL":   l.pipelineURL,
		"HEADGATE_PROVIDER":          provider,
		"HEADGATE_POLICY":            how.policy,
		"HEADGATE_DRY_RUN":           strconv.FormatBool(how.off),
	}, how.settings)))
	if err != nil {
		return nil, err
	}
	l.pipeline, err = start(dir, filepath.Join(bins.dir, "pipeline"),
		[]string{"run", "--summary", "summary.json", "job.yaml"},
		map[string]string{"HEADGATE_PIPELINE_GRANT_JOURNAL": "grants.csv"})
	if err != nil {
		return nil, err
	}
	l.started = time.Now()
	// The controller and the scaler are ready once they have seen the pipeline
	// through Prometheus.
	return l, errors.Join(
		l.pipeline.waitReady(ctx, l.pipelineURL+"/-/ready"),
		l.controller.waitReady(ctx, l.controllerURL+"/-/ready"),
		l.scaler.waitReady(ctx, l.scalerURL+"/-/ready"),
	)
}

func (l *loop) writeFiles(listen string, how control, rounds int) error {
	r := l.rehearsal
	failMode := coordinator.FailSafe
	if how.off {
		failMode = coordinator.FailOpen
	}
	var text strings.Builder
	err := job.Execute(&text, map[string]any{
		"Name": coordinatorID, "Provider": provider, "Factor": r.factor, "Loop": rounds > 1,
		"Capacity": r.capacity, "Base": r.base, "Burst": r.burst, "Listen": listen,
		"Overflow": cmp.Or(how.overflow, "block"), "FailMode": failMode,
	})
	if err != nil {
		return fmt.Errorf("write the job file: %w", err)
	}
	for name, content := range map[string]string{
		"job.yaml": text.String(), "arrivals.csv": r.arrivalsCSV(), "capacity.csv": r.capacityCSV(rounds),
	} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the rehearsal: %w", err)
		}
	}
	return nil
}

// stop ends everything, the pipeline first so that the last of it is seen.
func (l *loop) stop() error {
	var errs []error
	for _, p := range []*process{l.pipeline, l.controller, l.scaler} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if l.prometheus != nil {
		errs = append(errs, l.prometheus.Stop())
	}
	return errors.Join(errs...)
}

// endpoints are the addresses that somebody may want to open.
func (l *loop) endpoints() []endpoint {
	return []endpoint{
		{"Prometheus", l.prometheus.URL},
		{"pipeline", l.pipelineURL + "/v1/providers"},
		{"status page", l.controllerURL + "/"},
		{"controller", l.controllerURL + "/v1/decisions"},
		{"scaler", l.scalerURL + "/metrics"},
		{"KEDA's gRPC", l.scalerAddress},
	}
}

func merged(a, b map[string]string) map[string]string {
	all := map[string]string{}
	for _, of := range []map[string]string{a, b} {
		for k, v := range of {
			all[k] = v
		}
	}
	return all
}

// freeAddresses returns addresses on the loopback that nobody listens on: the
// preferred ones where they are free.
func freeAddresses(n int, preferred ...string) ([]string, error) {
	addresses := make([]string, 0, n)
	for i := range n {
		listener, err := net.Listen("tcp", preferred[i])
		if err != nil {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() // all are held until the last is found
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
