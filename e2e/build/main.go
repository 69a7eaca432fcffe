// Command build puts the programs that the scenarios run against into the
// cache, and prints their paths. The scenarios do the same by themselves; it
// is here for who wants to have the minutes of a first build behind them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/headgate/headgate/e2e/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	paths, err := servers.Build(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "headgate:", err)
		os.Exit(1)
	}
	for _, p := range servers.Programs {
		fmt.Println(paths[p.Name])
	}
}
