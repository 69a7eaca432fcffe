// Command controller closes the loop between a write queue and the providers
// that fill it: it reads the queues' signals from Prometheus, decides on a
// scale for each provider, puts it there under a lease, and explains it. Its
// other commands let an operator look at a controller that runs, and override
// scales.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(runMain(ctx, os.Args[1:], environment{os.Environ(), os.Stdout, os.Stderr}))
}
