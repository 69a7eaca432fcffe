// Command bench measures Headgate against its peers: the libraries and drivers
// that do the same work barely, in the same run, by turns. It prints a table and,
// as the last line on standard output, one JSON object with a row for each line
// of it. The exit status is 1 where a bar does not hold.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"testing"
	"time"
)

func main() {
	testing.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("run", "", "measure only what matches this regular expression")
	rounds := flags.Int("rounds", 25, "times that each contender is measured, by turns; an odd number")
	each := flags.Duration("time", 50*time.Millisecond, "how long one measurement takes, about")
	docs := flags.String("docs", "", "write the page of the benchmarks to this file")
	list := flags.Bool("list", false, "print the names of the groups of rows, and measure nothing")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	match, err := regexp.Compile(*only)
	if err == nil && (*rounds < 1 || *rounds%2 == 0) {
		err = fmt.Errorf("rounds is %d, want an odd number", *rounds)
	}
	if err == nil {
		err = flag.Set("test.benchtime", each.String())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}

	report := Report{Machine: machine(), Begun: time.Now()}
	failed := false
	for _, g := range groups() {
		if *list {
			fmt.Println(g.name)
			continue
		}
		if !match.MatchString(g.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", g.name)
		rows, err := g.measure(ctx, *rounds)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", g.name, err)
			failed = true
			continue
		}
		report.add(g, rows)
	}
	if *list {
		return 0
	}
	fmt.Print(report.table())
	if *docs != "" && !failed && ctx.Err() == nil {
		if err := os.WriteFile(*docs, []byte(report.page()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			failed = true
		}
	}
	line, err := json.Marshal(map[string]any{"rows": report.rows()})
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	fmt.Println(string(line))
	if failed || ctx.Err() != nil || !report.holds() {
		return 1
	}
	return 0
}
