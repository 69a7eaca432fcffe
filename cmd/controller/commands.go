package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/prometheus/common/version"
	"github.com/willabides/kongplete"

	"github.com/headgate/headgate/controller/operator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/settings"
)

// Exit statuses.
const (
	exitOK       = 0 // done; the loop was stopped by a signal
	exitFailure  = 1 // something failed, or a part of it
	exitSettings = 2 // an argument or a setting was wrong; nothing was started or changed
	exitUnwell   = 3 // the controller answered, and something needs a person
)

const statuses = `Exit statuses:
  0  done; a loop or a watch was stopped by a signal
  1  something failed: the loop, the way to the controller, or a coordinator
  2  an argument or a setting is wrong; nothing was started or changed
  3  the controller answered, and something needs a person
`

const description = `Reads the signals of write queues from Prometheus, and throttles the providers
that fill them. Without a command it runs; its settings are environment variables,
listed below. The other commands ask a controller that runs elsewhere.`

// commands are the program's sub-commands.
type commands struct {
	Help    helpFlag    `short:"h" help:"Show this, or a command's own help."`
	Version versionFlag `help:"Show the version."`

	Run         runCommand        `cmd:"" help:"Run the loop, as the program without a command does."`
	Status      operator.Status   `cmd:"" help:"Show the loop and its targets, those first that need a person."`
	Explain     operator.Explain  `cmd:"" help:"Show why a target's scales are what they are."`
	Watch       operator.Watch    `cmd:"" help:"Show changes as they come."`
	Override    operator.Override `cmd:"" help:"Override providers' scales."`
	CheckConfig checkCommand      `cmd:"" help:"Check the settings and the targets as at start, and start nothing."`
	Completion  completionCommand `cmd:"" help:"Print what lets a shell complete this program's arguments."`
}

// errShown ends the parsing where a flag asked for no more than to be shown
// something.
var errShown = errors.New("shown what was asked for")

// helpFlag shows the help.
type helpFlag bool

// BeforeReset is called by kong where the flag is given.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	return errors.Join(ctx.PrintUsage(false), errShown)
}

// versionFlag shows the version.
type versionFlag bool

// BeforeReset is called by kong where the flag is given.
func (versionFlag) BeforeReset(ctx *kong.Context) error {
	_, err := fmt.Fprintln(ctx.Stdout, version.Print("controller"))
	return errors.Join(err, errShown)
}

// environment is what the program runs in.
type environment struct {
	variables      []string // as os.Environ returns them
	stdout, stderr io.Writer
}

// runMain is the whole program. It returns the exit status when the command is
// done, or ctx ends.
func runMain(ctx context.Context, args []string, env environment) int {
	switch {
	case len(args) == 0:
		args = []string{"run"}
	case len(args) == 1 && args[0] == "help":
		args = []string{"--help"}
	}
	host, _ := os.Hostname() // empty where it has none
	session := &operator.Session{Out: env.stdout, Err: env.stderr, Environ: env.variables, Host: cmp.Or(host, "localhost"), Now: time.Now}
	var chosen commands
	parser, err := kong.New(&chosen, kong.Name("controller"), kong.Description(description), kong.NoDefaultHelp(),
		kong.Writers(env.stdout, env.stderr), kong.Help(printHelp), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(session, env))
	if err != nil {
		fmt.Fprintln(env.stderr, "controller:", err)
		return exitFailure
	}
	if _, completing := settings.Environ(env.variables)("COMP_LINE"); completing {
		if completed(ctx, parser, session) {
			return exitOK
		}
	}
	parsed, err := parser.Parse(args)
	switch {
	case errors.Is(err, errShown):
		return exitOK
	case err != nil:
		fmt.Fprintf(env.stderr, "controller: %v; see controller --help\n", err)
		return exitSettings
	}
	return statusOf(parsed.Run(), env.stderr)
}

// statusOf says what went wrong, and is the exit status that it stands for.
func statusOf(err error, stderr io.Writer) int {
	var refused *operator.Refusal
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, operator.ErrUnwell):
		return exitUnwell // what it is was printed
	case errors.Is(err, errLogged):
		return exitFailure
	}
	fmt.Fprintln(stderr, "controller:", err)
	if errors.Is(err, errSettings) || len(invalid.All(err)) > 0 || errors.As(err, &refused) && refused.OfRequest() {
		return exitSettings
	}
	return exitFailure
}

// printHelp is kong's help, the exit statuses, and for the program as a whole and
// for run the settings too.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(ctx.Stdout, "\n%s", statuses); err != nil {
		return err
	}
	selected := ctx.Selected()
	if selected != nil && selected.Name != "run" && selected.Name != "check-config" {
		return nil
	}
	fmt.Fprint(ctx.Stdout, "\nSettings of the loop, which are environment variables:\n")
	if err := settings.WriteUsage(ctx.Stdout, settings.Variables(settings.Controller{})); err != nil || selected != nil {
		return err
	}
	fmt.Fprint(ctx.Stdout, "\nSettings of the commands that ask a controller:\n")
	return settings.WriteUsage(ctx.Stdout, settings.Variables(settings.Operator{}))
}

// completed completes a command line that a shell gives in COMP_LINE, and
// reports whether it did.
func completed(ctx context.Context, parser *kong.Kong, session *operator.Session) (done bool) {
	names := func(choose func(targets, providers []string) []string) complete.Predictor {
		return complete.PredictFunc(func(complete.Args) []string { return choose(session.Names(ctx)) })
	}
	kongplete.Complete(parser,
		kongplete.WithExitFunc(func(int) { done = true }),
		kongplete.WithPredictor("file", complete.PredictFiles("*")),
		kongplete.WithPredictor("target", names(func(targets, _ []string) []string { return targets })),
		kongplete.WithPredictor("provider", names(func(_, providers []string) []string { return providers })))
	return done
}

// completionCommand prints a shell's part of the completion.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what kong adds to the command's help.
func (completionCommand) Help() string {
	return `Put this into the shell's start file:

  bash, zsh: source <(controller completion bash)    (or zsh)
  fish:      controller completion fish | source

The names of targets and providers are asked of the controller that
HEADGATE_CONTROLLER_URL names.`
}

// scripts let each shell ask this program.
var scripts = map[string]string{
	"bash": "complete -o default -C %[1]q controller\n",
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o default -C %[1]q controller\n",
	"fish": `function __complete_controller
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct); and set COMP_LINE "$COMP_LINE "
    %[1]q
end
complete -f -c controller -a "(__complete_controller)"
`,
}

// Run prints it.
func (c *completionCommand) Run(env environment) error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if _, err := fmt.Fprintf(env.stdout, scripts[c.Shell], path); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
