// Demo runs Headgate's whole loop on one machine, each part as a process of
// its own: a real Prometheus, a pipeline that replays a market open into
// SQLite while the store's capacity drops and recovers, the controller, and
// the scaler. It shows the loop at work, or with --smoke judges it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/mattn/go-isatty"

	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/trace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the command line says.
type options struct {
	smoke      bool
	compare    bool
	trace      string
	seconds    int
	policy     string
	prometheus string
	bin        string
	keep       string
	beforeStop string
}

// demoRounds is how often the market opens before a demo comes to its end: some
// hours.
const demoRounds = 200

// run does what the arguments say and returns the exit status: 1 when the loop
// did not close or could not be run, 2 when the arguments are wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	rehearsal, err := o.rehearsal()
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	switch {
	case o.compare:
		err = compare(ctx, o, rehearsal, stdout, stderr)
	case o.smoke:
		err = smoke(ctx, o, rehearsal, stdout, stderr)
	default:
		err = show(ctx, o, rehearsal, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.smoke, "smoke", false, "run unattended, judge, and print one JSON object as the last line")
	flags.BoolVar(&o.compare, "compare", false, "run the loop without control, with the step policy and with drain, and compare them with one another and with the simulation")
	flags.StringVar(&o.trace, "trace", "deploy/examples/market-open.csv", "CSV of counts, t_seconds,value, to replay")
	flags.IntVar(&o.seconds, "seconds", 45, "length of each run with --smoke or --compare, and of one round without it; 20 to 3600")
	flags.StringVar(&o.policy, "policy", "step", "the controller's policy")
	flags.StringVar(&o.prometheus, "prometheus", "", "path of the Prometheus server; the one on PATH where empty")
	flags.StringVar(&o.bin, "bin", "bin", "folder of Headgate's binaries")
	flags.StringVar(&o.keep, "keep", "", "folder, not there yet, for all that the run leaves behind; a temporary one that is removed where empty")
	flags.StringVar(&o.beforeStop, "before-stop", "", "shell command that is run at the end of a round that is judged, while everything still runs; it finds the addresses in HEADGATE_PROMETHEUS_URL, HEADGATE_CONTROLLER_URL, HEADGATE_COORDINATOR_URL, HEADGATE_SCALER_URL and HEADGATE_SCALER_ADDRESS (gRPC), and the folder with all files of the run in HEADGATE_LOOP_FOLDER")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("argument %q: want none, see --help", flags.Arg(0))
	}
	if o.seconds < 20 || o.seconds > 3600 {
		return o, fmt.Errorf("--seconds is %d, want 20 to 3600", o.seconds)
	}
	if o.prometheus == "" {
		found, err := promserver.Find()
		if err != nil {
			return o, fmt.Errorf("--prometheus is missing: %w", err)
		}
		o.prometheus = found
	}
	var err error
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}

func (o options) rehearsal() (rehearsal, error) {
	recording, err := os.Open(o.trace)
	if err != nil {
		return rehearsal{}, fmt.Errorf("read the trace: %w", err)
	}
	defer recording.Close()
	arrivals, err := trace.Read(recording)
	if err != nil {
		return rehearsal{}, fmt.Errorf("read the trace %s: %w", o.trace, err)
	}
	return newRehearsal(arrivals, time.Duration(o.seconds)*time.Second)
}

// folder makes the folder of a run. done removes it unless it is to be kept.
func (o options) folder() (dir string, done func() error, err error) {
	if o.keep != "" {
		dir, err = filepath.Abs(o.keep)
		if err == nil {
			err = os.Mkdir(dir, 0o755)
		}
		return dir, func() error { return nil }, err
	}
	dir, err = os.MkdirTemp("", "headgate-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// startLimit is how long the whole loop may take until it is ready.
const startLimit = time.Minute

// smoke runs one round, judges it and prints the verdict. The error says why
// the loop did not close.
func smoke(ctx context.Context, o options, r rehearsal, stdout, stderr io.Writer) (err error) {
	dir, done, err := o.folder()
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	announce(stderr, r)
	v, err := o.round(ctx, dir, r, control{policy: o.policy}, stderr)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(v); err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	if !v.Closed {
		return fmt.Errorf("the loop did not close: %s (all that is left is in %s)", strings.Join(v.Faults, "; "), dir)
	}
	return done()
}

// announce tells what a round is like.
func announce(stderr io.Writer, r rehearsal) {
	fmt.Fprintf(stderr, "headgate: a round of %v; each count of the trace times %.3g, so that the market asks for %.3g times of what the store takes from second %.0f to %.0f\n",
		r.length, r.factor, demandOverLowered, r.loweredFrom.Seconds(), r.loweredTill.Seconds())
}

// round runs the loop once, unattended, and returns what it was like. What is
// decided is told on stderr as it falls.
func (o options) round(ctx context.Context, dir string, r rehearsal, how control, stderr io.Writer) (v verdict, err error) {
	starting, cancel := context.WithTimeout(ctx, startLimit)
	l, err := startLoop(starting, dir, binaries{o.prometheus, o.bin}, r, how, 1)
	cancel()
	if err != nil {
		return v, err
	}
	v = verdict{Capacity: uint64(r.capacity), Factor: r.factor, Seconds: r.length.Seconds(), Policy: how.policy}
	round, cancel := context.WithDeadline(ctx, l.started.Add(r.length))
	defer cancel()
	err = l.follow(round, func(d decision) {
		v.see(d)
		if d.Changed {
			fmt.Fprintln(stderr, line(storyOf(d, l.started)))
		}
	})
	if err == nil {
		err = v.whileRunning(ctx, l)
	}
	if err == nil && o.beforeStop != "" {
		err = l.beforeStop(ctx, o.beforeStop, stderr)
	}
	if err = errors.Join(err, l.stop()); err == nil {
		err = v.afterStop(ctx, dir)
	}
	if err != nil {
		return v, fmt.Errorf("%w (all that is left is in %s)", err, dir)
	}
	return v, nil
}

// show runs the loop for somebody to look at, until ctx ends or they quit.
func show(ctx context.Context, o options, r rehearsal, stdout, stderr io.Writer) error {
	dir, done, err := o.folder()
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	fmt.Fprintln(stderr, "headgate: starting Prometheus, the pipeline, the controller and the scaler …")
	starting, cancel := context.WithTimeout(ctx, startLimit)
	l, err := startLoop(starting, dir, binaries{o.prometheus, o.bin}, r, control{policy: o.policy}, demoRounds)
	cancel()
	if err != nil {
		return err
	}
	for _, e := range l.endpoints() {
		fmt.Fprintf(stderr, "headgate: %-12s %s\n", e.name, e.url)
	}
	v := verdict{Capacity: uint64(r.capacity), Factor: r.factor, Policy: o.policy}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	if terminal, is := stdout.(*os.File); is && isatty.IsTerminal(terminal.Fd()) {
		err = live(watching, l, terminal, &v)
	} else {
		err = l.follow(watching, func(d decision) {
			v.see(d)
			fmt.Fprintln(stdout, line(storyOf(d, l.started)))
		})
	}
	v.Seconds = time.Since(l.started).Seconds()
	fmt.Fprintln(stderr, "headgate: stopping; the queue is emptied first …")
	// Asking and stopping go on after Ctrl-C, which is the usual end of it.
	after := context.WithoutCancel(ctx)
	err = errors.Join(err, l.stop())
	if err = errors.Join(err, v.afterStop(after, dir)); err != nil {
		return fmt.Errorf("%w (all that is left is in %s)", err, dir)
	}
	fmt.Fprint(stderr, v.farewell())
	return done()
}

// live shows the loop on a terminal. It returns when the viewer quits, or ctx
// or the loop ends.
func live(ctx context.Context, l *loop, terminal *os.File, v *verdict) error {
	prometheus, err := l.asking()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	program := tea.NewProgram(screen{endpoints: l.endpoints(), dir: l.dir},
		tea.WithContext(ctx), tea.WithOutput(terminal), tea.WithoutSignalHandler())
	followed := make(chan error, 1)
	go func() {
		defer program.Quit()
		followed <- l.follow(ctx, func(d decision) {
			v.see(d)
			if d.Depth != nil && d.Capacity != nil { // until then there is nothing to draw
				accepted, written := l.totals(ctx, prometheus)
				program.Send(l.frame(d, accepted, written))
			}
			if d.Changed {
				program.Send(storyOf(d, l.started))
			}
		})
	}()
	_, err = program.Run()
	cancel()
	if errors.Is(err, tea.ErrProgramKilled) {
		err = nil // by ctx
	}
	return errors.Join(err, <-followed)
}

func storyOf(d decision, started time.Time) story {
	return story{at: d.At.Sub(started), level: d.Level, text: d.Explanation}
}

// line is a story where there is no screen.
func line(s story) string {
	return fmt.Sprintf("%6.1f s  %-4s  %s", s.at.Seconds(), s.level, s.text)
}

// farewell sums a demo up.
func (v *verdict) farewell() string {
	kept := "every item is accounted for"
	if !v.Conserved {
		kept = "ITEMS ARE NOT ACCOUNTED FOR"
	}
	return fmt.Sprintf(`headgate: %.0f s, %d decisions, %d changes of level, %d changes of scale
headgate: accepted %s = written %s + waiting %s + dropped %s + dead-lettered %s; rows in the database %s: %s
headgate: at most %s of %s waited at once; the provider came to %.2f of its budget in its busiest second
`, v.Seconds, v.Decisions, max(0, len(v.Levels)-1), max(0, len(v.Scales)-1),
		thousands(float64(v.Accepted)), thousands(float64(v.Written)), thousands(float64(v.Waiting)),
		thousands(float64(v.Dropped)), thousands(float64(v.DeadLettered)), thousands(float64(v.Rows)), kept,
		thousands(float64(v.MaxDepth)), thousands(float64(v.Capacity)), v.MaxRateOverBudget)
}
