// Command pipeline runs a job file: it brings items from sources over gates to
// a store, and slows the sources down when the store cannot keep up.
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
	"slices"
	"strings"
	"syscall"

	"github.com/prometheus/common/version"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/pipeline"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/settings"
	"github.com/headgate/headgate/writequeue/deadletter"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // it ran, or tried to, and something went wrong
	exitUsage  = 2 // a wrong argument, setting or job file; nothing was started
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

const usage = `usage: pipeline [run] JOB [--summary FILE]     run a job until it is done or told to stop
       pipeline check JOB                      say what is wrong with a job, start nothing
       pipeline replay-dead-letters JOB [--file FILE] [--queue NODE]
                                               write the dead letters of a job's queues to their stores
       pipeline --help | --version
`

// run is the whole command, for main and for tests. It returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	a, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exit(stderr, writeHelp(stdout))
	case err != nil:
		fmt.Fprintf(stderr, "pipeline: %v\n%s", err, usage)
		return exitUsage
	case a.version:
		fmt.Fprintln(stdout, version.Print("headgate pipeline"))
		return exitOK
	}
	s, j, err := load(ctx, a, environ)
	options := pipeline.Options{
		Log: wiring.Logger(s.Log, stderr), GrantJournal: s.GrantJournal,
		WebConfigFile: s.WebConfigFile, AllowUnauthenticated: s.Ports.AllowUnauthenticated,
	}
	if a.command != "replay-dead-letters" { // which opens no port
		var accessErr error
		options.Access, accessErr = wiring.Guard("HEADGATE_PIPELINE_ACCESS_FILE", s.AccessFile, options.Log)
		if err = errors.Join(err, accessErr); accessErr == nil && j != nil {
			err = errors.Join(err, pipeline.CheckPorts(j, options))
		}
	}
	if err != nil {
		for _, v := range invalid.All(err) {
			fmt.Fprintf(stderr, "pipeline: %v\n", v)
		}
		return exitUsage
	}
	switch a.command {
	case "check":
		fmt.Fprintf(stdout, "%s is right: job %s, nodes %d, providers %d\n", a.job, j.Name, len(j.Nodes), len(j.Providers))
		return exitOK
	case "replay-dead-letters":
		return exit(stderr, replayDeadLetters(ctx, j, a, stdout))
	}
	return exit(stderr, runJob(ctx, j, options, a))
}

func exit(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "pipeline: %v\n", err)
	return exitFailed
}

// arguments are those of the command line.
type arguments struct {
	command string // run, check or replay-dead-letters
	job     string // path of the job file
	summary string // file for the summary; none where empty
	file    string // dead letters, instead of the job's
	queue   string // node whose dead letters are replayed; all where empty
	version bool
}

// parse reads the command line. Flags may stand before and after the job file.
func parse(args []string) (arguments, error) {
	a := arguments{command: "run"}
	named := false
	if len(args) > 0 && slices.Contains([]string{"run", "check", "replay-dead-letters"}, args[0]) {
		a.command, args, named = args[0], args[1:], true
	}
	flags := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	switch a.command {
	case "run":
		flags.StringVar(&a.summary, "summary", "", "")
	case "replay-dead-letters":
		flags.StringVar(&a.file, "file", "", "")
		flags.StringVar(&a.queue, "queue", "", "")
	}
	if !named {
		flags.BoolVar(&a.version, "version", false, "")
	}
	var paths []string
	for {
		if err := flags.Parse(args); err != nil {
			return a, err
		}
		if flags.NArg() == 0 {
			break
		}
		paths, args = append(paths, flags.Arg(0)), flags.Args()[1:]
	}
	if a.version {
		return a, nil
	}
	if len(paths) != 1 {
		return a, fmt.Errorf("%d job files are given, want one", len(paths))
	}
	a.job = paths[0]
	return a, nil
}

// load reads the settings and the job. All that is wrong is in the error.
func load(ctx context.Context, a arguments, environ []string) (settings.Pipeline, *job.Job, error) {
	var s settings.Pipeline
	lookup := settings.Environ(environ)
	// What is wrong with the log is no reason to overlook the rest, and the
	// feedback's variables are keys of the job.
	others := func(name string) (string, bool) {
		if strings.HasPrefix(name, "HEADGATE_LOG_") || strings.HasPrefix(name, "MDP_FB_") {
			return "", false
		}
		return lookup(name)
	}
	errs := []error{settings.Unknown(environ), settings.Load(ctx, &s, others), settings.Load(ctx, &s.Log, lookup)}
	report := func(field, got, want string) { errs = append(errs, invalid.New(field, got, want)) }
	for _, written := range []struct{ field, path string }{
		{"HEADGATE_PIPELINE_GRANT_JOURNAL", s.GrantJournal}, {"--summary", a.summary},
	} {
		if info, err := os.Stat(filepath.Dir(written.path)); written.path != "" && (err != nil || !info.IsDir()) {
			report(written.field, written.path, "a file in a folder that exists")
		}
	}
	data, err := os.ReadFile(a.job)
	if err != nil {
		report("JOB", a.job, "a file that can be read")
		return s, nil, errors.Join(errs...)
	}
	j, err := job.Load(ctx, job.Input{
		Path: a.job, Data: data, Environ: environ,
		Policies: pipeline.PolicyNames(nil),
		Open:     func(path string) (io.ReadCloser, error) { return os.Open(path) },
	})
	return s, j, errors.Join(append(errs, err)...)
}

func runJob(ctx context.Context, j *job.Job, o pipeline.Options, a arguments) error {
	p, err := pipeline.New(ctx, j, o)
	if err != nil {
		return err
	}
	summary, err := p.Run(ctx)
	if a.summary != "" {
		err = errors.Join(err, writeSummary(a.summary, summary))
	}
	return err
}

func writeSummary(path string, s pipeline.Summary) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

// replayDeadLetters writes the dead letters of the job's queues to the stores
// behind them. What a store refuses for good stays in the file.
func replayDeadLetters(ctx context.Context, j *job.Job, a arguments, stdout io.Writer) error {
	nodes := map[string]job.Node{}
	var queues []job.Node
	for _, n := range j.Nodes {
		nodes[n.Name] = n
		if n.Role == job.RoleWriteQueue && (a.queue == "" || a.queue == n.Name) {
			queues = append(queues, n)
		}
	}
	switch {
	case len(queues) == 0 && a.queue != "":
		return fmt.Errorf("the job has no write queue %q", a.queue)
	case len(queues) == 0:
		return errors.New("the job has no write queue, so it has no dead letters")
	case len(queues) > 1 && a.file != "":
		return errors.New("the job has several write queues: say by --queue whose dead letters the file holds")
	}
	var errs []error
	for _, q := range queues {
		if len(q.Next) == 0 {
			errs = append(errs, fmt.Errorf("%s: this job only puts items into it, so it has no dead letters", q.Name))
			continue
		}
		path := q.Settings.(*job.WriteQueue).DeadLetterPath
		if a.file != "" {
			path = a.file
			if _, err := os.Stat(path); err != nil {
				return err
			}
		}
		errs = append(errs, replayOne(ctx, q.Name, path, nodes[q.Next[0]], stdout))
	}
	return errors.Join(errs...)
}

func replayOne(ctx context.Context, queue, path string, sink job.Node, stdout io.Writer) error {
	store, closer, _, err := pipeline.OpenSink(ctx, sink)
	if err != nil {
		return err
	}
	report, err := deadletter.Replay(ctx, path, store)
	if closer != nil {
		err = errors.Join(err, closer.Close())
	}
	fmt.Fprintf(stdout, "%s: %d written to %s, %d refused, %d lines without a letter\n",
		queue, report.Written, sink.Name, report.Kept, report.Bad)
	if err == nil && report.Kept+report.Bad > 0 {
		err = fmt.Errorf("%s: %d letters stay in %s", queue, report.Kept+report.Bad, path)
	}
	return err
}

// writeHelp lists everything that can be set.
func writeHelp(w io.Writer) error {
	if _, err := fmt.Fprintf(w, `%s
Variables:

`, usage); err != nil {
		return err
	}
	own := slices.DeleteFunc(settings.Variables(settings.Pipeline{}), func(v settings.Variable) bool {
		return strings.HasPrefix(v.Name, "MDP_FB_")
	})
	if err := settings.WriteUsage(w, own); err != nil {
		return err
	}
	if _, err := fmt.Fprint(w, `
Keys of the job file, which is YAML or JSON. Each may be given by a variable
instead, which wins: HEADGATE_JOB_ and the key with its path, in capitals, with _
for all that is no letter or digit, such as HEADGATE_JOB_PROVIDERS_IBKR_BURST or
HEADGATE_JOB_DAG_NODES_STORE_PATH. Those of feedback may also be given by MDP_FB_
and the key, such as MDP_FB_SCALE_SOFT. dag.edges is a list of pairs [from, to].
`); err != nil {
		return err
	}
	return job.WriteUsage(w)
}
