package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// beforeStop runs a command of the caller's while the whole loop still runs,
// with the addresses of its parts and its folder in the environment. What it writes goes to
// out; its failure is an error.
func (l *loop) beforeStop(ctx context.Context, command string, out io.Writer) error {
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.Stdout, c.Stderr = out, out
	c.Env = append(os.Environ(),
		"HEADGATE_PROMETHEUS_URL="+l.prometheus.URL,
		"HEADGATE_CONTROLLER_URL="+l.controllerURL,
		"HEADGATE_COORDINATOR_URL="+l.pipelineURL,
		"HEADGATE_SCALER_URL="+l.scalerURL,
		"HEADGATE_SCALER_ADDRESS="+l.scalerAddress,
		"HEADGATE_LOOP_FOLDER="+l.dir)
	if err := c.Run(); err != nil {
		return fmt.Errorf("run %q before the stop: %w", command, err)
	}
	return nil
}
