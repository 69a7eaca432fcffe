package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
	"time"

	"github.com/headgate/headgate/internal/exposition"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/metrics"
)

func pollingGroup() group {
	return group{
		name: "polling",
		about: fmt.Sprintf("ScaledObjects, each of another coordinator, that KEDA's own code looks at once a second for %v: by the binary external-scaler, "+
			"whose interval is a second too, and by KEDA's own Prometheus scaler. Both have the same real Prometheus, and tell the same depths. "+
			"The time is that of KEDA's call, which is two calls of the external scaler.", pollingTime),
		measure: measurePolling,
	}
}

const (
	pollingTime = 15 * time.Second
	warmingTime = 3 * time.Second
)

// polled is what the command polling tells.
type polled struct {
	Calls         int
	Errors        int
	FirstError    string `json:"first_error"`
	Values        float64
	MedianSeconds float64 `json:"median_seconds"`
	P99Seconds    float64 `json:"p99_seconds"`

	queries float64 // that Prometheus answered meanwhile
}

func measurePolling(ctx context.Context, _ int) (rows []Row, err error) {
	prometheus, err := promserver.Find()
	if err != nil {
		return nil, err
	}
	fleets := []int{10, 100, 1_000}
	held, err := hold(ctx, prometheus, fleets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.stop()) }()
	scaler, stop, err := startScaler(ctx, held.server.URL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var p99s []float64
	for _, objects := range fleets {
		external, prometheus := make([]map[string]string, objects), make([]map[string]string, objects)
		want := 0.0
		for i := range objects {
			id := coordinatorID(objects, i)
			external[i] = map[string]string{"scalerAddress": scaler, "coordinatorIds": id}
			prometheus[i] = map[string]string{
				"serverAddress": held.server.URL, "threshold": "2000", "ignoreNullValues": "false",
				"query": fmt.Sprintf("%s{%s=%q}", metrics.QueueDepth, metrics.LabelCoordinatorID, id),
			}
			want += float64(i)
		}
		ours, err := poll(ctx, held.server.URL, "external", external, want)
		if err != nil {
			return nil, err
		}
		theirs, err := poll(ctx, held.server.URL, "prometheus", prometheus, want)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%v ScaledObjects, 1 s polling", Figure(objects))
		// One query more may fall into the time that is watched.
		rows = append(rows, atMost(1.1/float64(objects)).against(name+": queries of Prometheus", "1/s", "KEDA's Prometheus scaler", ours.queries, theirs.queries))
		p99s = append(p99s, ours.P99Seconds)
		latency := none() // where a Prometheus is hardly asked, it answers as quickly
		if objects == fleets[len(fleets)-1] {
			latency = atMost(0.1)
		}
		rows = append(rows, latency.against(name+": p99 of a call", "ms", "KEDA's Prometheus scaler", ours.P99Seconds*1e3, theirs.P99Seconds*1e3))
	}
	rows[len(rows)-1].note = growth(fleets, p99s)
	return rows, nil
}

// poll runs KEDA's code on these triggers, whose values have a known sum.
func poll(ctx context.Context, prometheus, kind string, triggers []map[string]string, want float64) (p polled, err error) {
	path, err := sibling("polling")
	if err != nil {
		return p, err
	}
	in, err := json.Marshal(triggers)
	if err != nil {
		return p, err
	}
	command := exec.CommandContext(ctx, path, "-kind", kind, "-warm", warmingTime.String(), "-for", pollingTime.String())
	command.Stdin = bytes.NewReader(in)
	var told bytes.Buffer
	command.Stderr = &told
	out, err := command.StdoutPipe()
	if err != nil {
		return p, err
	}
	if err := command.Start(); err != nil {
		return p, err
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // it begins
	before, err := queriesOf(ctx, prometheus)
	begin := time.Now()
	lines.Scan() // the result
	after, afterErr := queriesOf(ctx, prometheus)
	p.queries = (after - before) / time.Since(begin).Seconds()
	if err := errors.Join(err, afterErr, command.Wait()); err != nil {
		return p, fmt.Errorf("poll %d triggers of kind %s: %w: %s", len(triggers), kind, err, told.Bytes())
	}
	if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
		return p, fmt.Errorf("read what polling tells: %w", err)
	}
	if p.Errors > 0 || p.Values != want {
		return p, fmt.Errorf("%d triggers of kind %s: %d errors (%s), the values' sum is %v, want %v", len(triggers), kind, p.Errors, p.FirstError, p.Values, want)
	}
	return p, nil
}

// queriesOf is how many instant queries a Prometheus has answered, as it tells
// without being queried.
func queriesOf(ctx context.Context, server string) (float64, error) {
	families, err := exposition.Read(ctx, http.DefaultClient, server+"/metrics")
	return families.Sum("prometheus_http_requests_total", "handler", "/api/v1/query"), err
}

// startScaler starts the binary as it ships, and waits until it is ready.
func startScaler(ctx context.Context, prometheus string) (address string, stop func() error, err error) {
	path, err := sibling("external-scaler")
	if err != nil {
		return "", nil, err
	}
	listen, err := process.FreeAddress()
	if err != nil {
		return "", nil, err
	}
	if address, err = process.FreeAddress(); err != nil {
		return "", nil, err
	}
	command := exec.CommandContext(ctx, path)
	command.Env = []string{
		"HEADGATE_PROMETHEUS_URL=" + prometheus, "HEADGATE_SCALER_LISTEN=" + listen, "HEADGATE_SCALER_GRPC_LISTEN=" + address,
		"HEADGATE_SCALER_INTERVAL=1s", "HEADGATE_SCALER_STALE_AFTER=1h",
	}
	if err := command.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		_ = command.Process.Signal(syscall.SIGTERM)
		return command.Wait()
	}
	if err := awaitReady(ctx, listen); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return address, stop, nil
}
