// Command e2e checks every promise about scaling on a real Kubernetes API
// server, a real KEDA and a real HorizontalPodAutoscaler:
//
//	go run . [-run REGEX] [-storm DURATION] [-keep] [-list]
//
// The servers are built from their Go modules once and cached. Progress goes to
// standard error; the last line on standard output is one JSON object. The
// product's binaries are taken from ../bin.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/e2e/scenario"
	"github.com/headgate/headgate/e2e/servers"
	"github.com/headgate/headgate/internal/process"
)

// atOnce is how many scenarios run beside one another, of those that do not
// measure time.
const atOnce = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, err := run(ctx, os.Args[1:])
	process.KillAll()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "headgate: e2e:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// report is the last line of standard output.
type report struct {
	Passed    int                        `json:"passed"`
	Failed    int                        `json:"failed"`
	Seconds   float64                    `json:"seconds"`
	Error     string                     `json:"error,omitempty"` // what kept scenarios from being run
	Scenarios map[string]scenario.Result `json:"scenarios"`
}

// errNotRun is the error of a scenario whose turn did not come.
const errNotRun = "was not run"

func run(ctx context.Context, args []string) (passed bool, err error) {
	flags := flag.NewFlagSet("e2e", flag.ContinueOnError)
	pattern := flags.String("run", "", "run only the scenarios whose name matches this regular expression")
	storm := flags.Duration("storm", scenario.StormFor, "how long the scaler stands under clients that behave badly")
	keep := flags.Bool("keep", false, "keep the folder with all logs, also when everything holds")
	list := flags.Bool("list", false, "list the scenarios and end")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	matches, err := regexp.Compile(*pattern)
	if err != nil {
		return false, fmt.Errorf("-run: %w", err)
	}
	if *storm <= 0 {
		return false, fmt.Errorf("-storm: %v, want more than 0s", *storm)
	}
	var chosen []scenario.Scenario
	for _, s := range scenario.All(*storm) {
		if matches.MatchString(s.Name) {
			chosen = append(chosen, s)
		}
	}
	if *list {
		for _, s := range chosen {
			fmt.Println(s.Name)
		}
		return true, nil
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no scenario matches %q", *pattern)
	}

	started := time.Now()
	dir, results, err := prepareAndCheck(ctx, chosen)
	r := report{Scenarios: map[string]scenario.Result{}, Seconds: time.Since(started).Round(100 * time.Millisecond).Seconds()}
	if err != nil {
		r.Error = err.Error()
	}
	for _, s := range chosen {
		result, was := results[s.Name]
		if !was {
			result.Error = errNotRun
		}
		r.Scenarios[s.Name] = result
		if result.Passed {
			r.Passed++
		} else {
			r.Failed++
		}
	}
	passed = r.Failed == 0 && err == nil
	switch {
	case dir == "":
	case passed && !*keep:
		err = os.RemoveAll(dir)
	default:
		fmt.Fprintln(os.Stderr, "headgate: all logs are kept in", dir)
	}
	line, jsonErr := json.Marshal(r)
	fmt.Println(string(line))
	return passed, errors.Join(err, jsonErr)
}

// prepareAndCheck builds what is not in the cache yet, and runs the scenarios.
// What they leave is in the folder.
func prepareAndCheck(ctx context.Context, chosen []scenario.Scenario) (dir string, results map[string]scenario.Result, err error) {
	programs, err := servers.Build(ctx, os.Stderr)
	if err != nil {
		return "", nil, err
	}
	root := filepath.Dir(filepath.Dir(servers.Folder()))
	prometheus, err := command(ctx, filepath.Join(root, "tools", "setup"), "prometheus")
	if err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", "headgate-e2e-"); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as somebody else
		return dir, nil, err
	}
	fmt.Fprintln(os.Stderr, "headgate: logs are written into", dir)
	results, err = check(ctx, dir, root, prometheus, programs, chosen)
	return dir, results, err
}

// command runs a program and returns the line that it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Stderr = os.Stderr
	text, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// check runs the scenarios on one cluster: first those that may run beside one
// another, then those that need the machine for themselves.
func check(ctx context.Context, dir, root, prometheus string, programs map[string]string, all []scenario.Scenario) (_ map[string]scenario.Result, err error) {
	world, err := scenario.NewWorld(ctx, dir, root, prometheus, programs, os.Stderr)
	if err != nil {
		return nil, err
	}
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	nodeEnded := make(chan error, 1)
	go func() { nodeEnded <- world.Node.Run(nodeCtx) }()
	defer func() {
		stopNode()
		err = errors.Join(err, <-nodeEnded, world.Stop())
	}()

	results := map[string]scenario.Result{}
	var mu sync.Mutex
	one := func(s scenario.Scenario) {
		result := world.Check(ctx, s)
		mu.Lock()
		defer mu.Unlock()
		results[s.Name] = result
	}
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, s := range all {
		if s.Alone || ctx.Err() != nil {
			continue
		}
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			one(s)
		})
	}
	group.Wait()
	for _, s := range all {
		if s.Alone && ctx.Err() == nil {
			one(s)
		}
	}
	return results, context.Cause(ctx)
}
