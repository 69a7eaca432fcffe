// Command promtest shows what Headgate's thresholds and policies would do,
// before they are in force.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/headgate/headgate/promtest/backtest"
	"github.com/headgate/headgate/promtest/lint"
	"github.com/headgate/headgate/promtest/run"
	"github.com/headgate/headgate/promtest/simulate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(runMain(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1 // something failed, or a test did
	exitUsage   = 2 // an argument or an input was wrong
)

// commands are the program's sub-commands.
type commands struct {
	Run      run.Command      `cmd:"" help:"Run fixtures: tests of decisions and of rules, in promtool's own format."`
	Backtest backtest.Command `cmd:"" help:"Replay the past: what the policies would have decided, from a Prometheus server, its data, or a file."`
	Lint     lint.Command     `cmd:"" help:"Check the controller's settings and targets, and tell whether they can keep a queue from overflowing."`
	Simulate simulate.Command `cmd:"" help:"Run policies on a simulated pipeline, with recorded or drawn arrivals and capacities."`
	Report   simulate.Report  `cmd:"" help:"Run every scenario with every policy, tuned ones too, and write documents with tables and drawings."`
}

// runMain is the whole program. It returns the exit status.
func runMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	exited, status := false, exitOK
	parser, err := kong.New(&c, kong.Name("promtest"), kong.Writers(stdout, stderr),
		kong.Description("Shows what Headgate's thresholds and policies would do, before they are in force."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(simulate.Streams{Out: stdout, Err: stderr}), kong.UsageOnError(), kong.Exit(func(s int) { exited, status = true, s }))
	if err != nil {
		fmt.Fprintln(stderr, "promtest:", err)
		return exitFailure
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	if exited {
		return status
	}
	if err == nil {
		err = chosen.Run()
	}
	if err != nil {
		fmt.Fprintln(stderr, "promtest:", err)
		return statusOf(err)
	}
	return exitOK
}
