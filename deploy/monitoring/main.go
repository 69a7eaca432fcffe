// Monitoring writes what Headgate's monitoring is delivered as: the rules as an
// object of prometheus-operator, the dashboards, and the copies of the chart; and
// it checks dashboards, rules and the commands of pages on a loop that runs.
//
//	monitoring write ROOT    write all files anew; ROOT is the repository
//	monitoring live ROOT     ask a running loop for everything that the
//	                         dashboards show, and run the pages' commands
//
// Where the loop is, live reads from the environment, as "demo --before-stop"
// sets it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/headgate/headgate/deploy/monitoring/check"
	"github.com/headgate/headgate/deploy/monitoring/rules"
	"github.com/headgate/headgate/internal/pages"
)

//go:generate go run . write ../..

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stderr)) }

const usage = `usage: monitoring write ROOT    write all files anew; ROOT is the repository
       monitoring live ROOT     ask a running loop for all that the dashboards show`

// run does what the arguments say and returns the exit status: 1 when it could
// not be done, 2 when the arguments are wrong.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("monitoring", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintln(stderr, usage) }
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	switch rest := flags.Args(); {
	case len(rest) == 2 && rest[0] == "write":
		err = write(rest[1])
	case len(rest) == 2 && rest[0] == "live":
		err = live(ctx, rest[1], stderr)
	default:
		flags.Usage()
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "monitoring:", err)
		return 1
	}
	return 0
}

func write(root string) error {
	files, err := generate(root)
	if err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write a file: %w", err)
		}
	}
	return nil
}

// live checks the dashboards, the rules and the pages' commands on the loop that the environment
// names, and tells what it found.
func live(ctx context.Context, root string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	client, err := api.NewClient(api.Config{Address: os.Getenv("HEADGATE_PROMETHEUS_URL")})
	if err != nil {
		return fmt.Errorf("HEADGATE_PROMETHEUS_URL: %w", err)
	}
	server := v1.NewAPI(client)
	started, err := server.Runtimeinfo(ctx)
	if err != nil {
		return fmt.Errorf("HEADGATE_PROMETHEUS_URL: %w", err)
	}
	if err := check.AskAsKEDA(ctx, os.Getenv("HEADGATE_SCALER_ADDRESS"), "bars", server); err != nil {
		return err
	}
	var all []*check.Board
	paths, err := filepath.Glob(filepath.Join(root, boards, "*.json"))
	if err != nil {
		return fmt.Errorf("find the dashboards: %w", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read a dashboard: %w", err)
		}
		b, err := check.Decode(data)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	source, err := os.ReadFile(filepath.Join(root, rulesFile))
	if err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	file, err := rules.Parse(source)
	if err != nil {
		return err
	}
	lines, problems := check.Live(ctx, server, all, started.StartTime, time.Now())
	evaluated, wrong := check.LiveRules(ctx, server, file, time.Now())
	wrong = append(wrong, check.Exporters(ctx, server, time.Now())...)
	said, more := commands(ctx, root)
	for _, line := range slices.Concat(lines, evaluated, said) {
		fmt.Fprintln(out, "monitoring:", line)
	}
	return errors.Join(slices.Concat(problems, wrong, more)...)
}

// commands runs the pages' commands for a loop in a copy of the repository, with
// the programs that were built in it. The addresses that stand in the pages are
// those of the usual ports.
func commands(ctx context.Context, root string) (lines []string, problems []error) {
	dir, err := os.MkdirTemp("", "headgate-pages-")
	if err != nil {
		return nil, []error{err}
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	if err == nil {
		err = pages.Copy(root, dir)
	}
	if err == nil {
		err = os.Symlink(bin, filepath.Join(dir, "bin"))
	}
	if err != nil {
		return nil, []error{err}
	}
	controller, coordinator := os.Getenv("HEADGATE_CONTROLLER_URL"), os.Getenv("HEADGATE_COORDINATOR_URL")
	scaler, prometheus := os.Getenv("HEADGATE_SCALER_URL"), os.Getenv("HEADGATE_PROMETHEUS_URL")
	// What demo sets is no setting of a program, but for these two.
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HEADGATE_") })
	return check.Commands(ctx, root, pages.Session{
		Dir: dir,
		Environ: append(environ, "HEADGATE_CONTROLLER_URL="+controller, "HEADGATE_PROMETHEUS_URL="+prometheus, "PATH="+bin+":"+os.Getenv("PATH"), "USER=somebody",
			"CONTROLLER="+controller, "COORDINATOR="+coordinator, "SCALER="+scaler, "SCALED_OBJECT=demo/pipeline",
			"PROMETHEUS="+prometheus, "FOLDER="+os.Getenv("HEADGATE_LOOP_FOLDER")),
		Edit: strings.NewReplacer(
			"http://127.0.0.1:8080", controller, "http://127.0.0.1:9400", coordinator,
			"http://127.0.0.1:8081", scaler, "http://127.0.0.1:9090", prometheus, "http://prometheus:9090", prometheus,
		).Replace,
	})
}
