package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/headgate/headgate/internal/process"
)

func binariesGroup() group {
	return group{
		name: "binaries",
		about: "The binaries in bin/, as they ship. From the start of the process to its first answer that it is ready, which takes one snapshot from a Prometheus " +
			"that answers at once and knows of nothing: the quickest of the rounds, for the bar is that of an idle machine.",
		measure: measureBinaries,
	}
}

// binary is one that is measured. Its environment has the addresses in it.
type binary struct {
	name        string
	environment func(prometheus, listen, other string) []string
}

func measureBinaries(ctx context.Context, rounds int) ([]Row, error) {
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"headgate_part":"now"},"value":[%d,"0"]}]}}`, time.Now().Unix())
	}))
	defer prometheus.Close()
	var rows []Row
	for _, b := range []binary{
		{"controller", func(prometheus, listen, _ string) []string {
			return []string{"HEADGATE_PROMETHEUS_URL=" + prometheus, "HEADGATE_CONTROLLER_LISTEN=" + listen, "HEADGATE_COORDINATOR_IDS=bars-coord"}
		}},
		{"external-scaler", func(prometheus, listen, other string) []string {
			return []string{"HEADGATE_PROMETHEUS_URL=" + prometheus, "HEADGATE_SCALER_LISTEN=" + listen, "HEADGATE_SCALER_GRPC_LISTEN=" + other}
		}},
	} {
		path, err := sibling(b.name)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		rows = append(rows, atMost(1).against(b.name+", size", "MiB", "limit", float64(info.Size())/(1<<20), 25))
		best := time.Duration(0)
		for range rounds {
			took, err := startToReady(ctx, path, b, prometheus.URL)
			if err != nil { // perhaps somebody else took the free address meanwhile
				took, err = startToReady(ctx, path, b, prometheus.URL)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.name, err)
			}
			if best == 0 || took < best {
				best = took
			}
		}
		rows = append(rows, atMost(1).against(b.name+", start to ready", "ms", "limit", best.Seconds()*1e3, 100))
	}
	return rows, nil
}

// startToReady runs a binary until it says that it is ready, and ends it.
func startToReady(ctx context.Context, path string, b binary, prometheus string) (took time.Duration, err error) {
	listen, err := process.FreeAddress()
	if err != nil {
		return 0, err
	}
	other, err := process.FreeAddress()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = b.environment(prometheus, listen, other)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := awaitReady(ctx, listen); err != nil {
		_ = cmd.Wait()
		return 0, err
	}
	took = time.Since(begin)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("ended: %w", err)
	}
	return took, nil
}

// awaitReady waits until the server at an address says that it is ready.
func awaitReady(ctx context.Context, address string) error {
	for {
		response, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%s is not ready: %w", address, err)
		}
	}
}

// sibling is another program in the folder of this one.
func sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: build the binaries first", err)
	}
	return path, nil
}
