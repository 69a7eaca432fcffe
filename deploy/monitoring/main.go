// Monitoring writes what Headgate's monitoring is delivered as: the rules as an
// object of prometheus-operator, the dashboards, and the copies of the chart.
//
//	monitoring write [ROOT]    write all files anew; ROOT is the repository
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

//go:generate go run . write ../..

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

const usage = "usage: monitoring write [ROOT]    write all files anew; ROOT is the repository"

// run does what the arguments say and returns the exit status: 1 when it could
// not be done, 2 when the arguments are wrong.
func run(args []string, stderr io.Writer) int {
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
