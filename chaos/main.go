// Command chaos breaks what is around the loop while it works, and watches that
// nothing is lost, nobody runs above the budget, and everything comes back:
//
//	chaos [-run REGEX] [-seed N -minutes M | -baseline [-docs FILE]] [-keep] [-list]
//
// Real processes run on the loopback device: the pipeline, two controllers, the
// scaler, Prometheus and PostgreSQL, in some cases Redis and another pipeline, the
// product's binaries from the folder of this one. A line on standard error tells of
// each case. The last line on standard output is one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/headgate/headgate/internal/postgres"
	"github.com/headgate/headgate/internal/process"
	"github.com/headgate/headgate/internal/promserver"
)

// casesAtOnce is how many cases run beside one another, of those that do not fill
// the machine by themselves.
const casesAtOnce = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	zerolog.SetGlobalLevel(zerolog.Disabled) // Toxiproxy's own
	passed, err := run(ctx, os.Args[1:])
	process.KillAll()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "headgate: chaos:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// report is the last line of standard output.
type report struct {
	Cases  int `json:"cases"`
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	Tally
	Seconds  float64           `json:"seconds"`
	Failures map[string]string `json:"failures,omitempty"`
}

func run(ctx context.Context, args []string) (passed bool, err error) {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	pattern := flags.String("run", "", "run only the cases whose name matches this regular expression")
	seed := flags.Uint64("seed", 0, "mix faults at random from this seed, instead of the cases")
	minutes := flags.Float64("minutes", 0, "how long to mix faults")
	keep := flags.Bool("keep", false, "keep the folder with all logs, also when everything holds")
	baseline := flags.Bool("baseline", false, "run the cases that apply on Headgate and on what one would have otherwise, and print a table")
	docs := flags.String("docs", "", "with -baseline, write the table into this page")
	list := flags.Bool("list", false, "list the cases and end")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	matches, err := regexp.Compile(*pattern)
	if err != nil {
		return false, fmt.Errorf("-run: %w", err)
	}
	chosen := []Case{}
	for _, c := range cases() {
		if matches.MatchString(c.Name) {
			chosen = append(chosen, c)
		}
	}
	if *list {
		for _, c := range chosen {
			fmt.Printf("%-32s %s\n", c.Name, c.Holds)
		}
		return true, nil
	}
	if (*seed == 0) != (*minutes == 0) || *minutes < 0 {
		return false, fmt.Errorf("-seed is %d and -minutes is %v, want both above 0 or neither", *seed, *minutes)
	}
	if *minutes > 0 {
		chosen = []Case{mixed(rand.New(rand.NewPCG(*seed, *seed)), time.Duration(*minutes*float64(time.Minute)))}
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no case matches %q", *pattern)
	}

	dir, err := os.MkdirTemp("", "headgate-chaos-")
	if err != nil {
		return false, err
	}
	// PostgreSQL, which is never root, has to get at its folder.
	if err := os.Chmod(dir, 0o755); err != nil {
		return false, err
	}
	if *baseline {
		passed, err := compare(ctx, dir, chosen, *docs)
		return passed, errors.Join(err, clean(dir, passed && !*keep))
	}
	started := time.Now()
	r := report{Cases: len(chosen), Failures: map[string]string{}}
	results, err := runAll(ctx, dir, chosen)
	for name, result := range results {
		r.Tally.add(result.tally)
		if result.err != nil {
			r.Failed++
			r.Failures[name] = result.err.Error()
		} else {
			r.Passed++
		}
	}
	r.Seconds = time.Since(started).Round(100 * time.Millisecond).Seconds()
	passed = err == nil && r.Failed == 0 && r.Passed == len(chosen)
	err = errors.Join(err, clean(dir, passed && !*keep))
	line, jsonErr := json.Marshal(r)
	fmt.Println(string(line))
	return passed, errors.Join(err, jsonErr)
}

// clean removes the logs, or says where they are.
func clean(dir string, remove bool) error {
	if remove {
		return os.RemoveAll(dir)
	}
	fmt.Fprintln(os.Stderr, "headgate: all logs are kept in", dir)
	return nil
}

type result struct {
	tally Tally
	err   error
}

// runAll runs the cases, some of them beside one another.
func runAll(ctx context.Context, dir string, chosen []Case) (map[string]result, error) {
	binaries, err := findBinaries()
	if err != nil {
		return nil, err
	}
	store, err := postgres.Start(ctx, filepath.Join(dir, "postgres"), "fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=200")
	if err != nil {
		return nil, err
	}
	defer store.Stop()
	var mu sync.Mutex
	results := map[string]result{}
	one := func(c Case) {
		begin := time.Now()
		tally, err := c.run(ctx, filepath.Join(dir, c.Name), binaries, store)
		word := "holds"
		if err != nil {
			word = "FAILS: " + err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		results[c.Name] = result{tally, err}
		fmt.Fprintf(os.Stderr, "headgate: %-32s %5.1f s  %v  %s\n", c.Name, time.Since(begin).Seconds(), tally, word)
	}
	var beside sync.WaitGroup
	room := make(chan struct{}, casesAtOnce)
	for _, c := range chosen {
		if c.Alone || ctx.Err() != nil {
			continue
		}
		room <- struct{}{}
		beside.Go(func() {
			defer func() { <-room }()
			one(c)
		})
	}
	beside.Wait()
	for _, c := range chosen {
		if c.Alone && ctx.Err() == nil {
			one(c)
		}
	}
	return results, ctx.Err()
}

// binaries are the paths of the programs.
type binaries struct{ pipeline, controller, scaler, prometheus string }

func findBinaries() (b binaries, err error) {
	self, err := os.Executable()
	if err != nil {
		return b, err
	}
	for name, path := range map[string]*string{"pipeline": &b.pipeline, "controller": &b.controller, "external-scaler": &b.scaler} {
		*path = filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(*path); err != nil {
			return b, fmt.Errorf("%w: build the binaries first", err)
		}
	}
	b.prometheus, err = promserver.Find()
	return b, err
}
