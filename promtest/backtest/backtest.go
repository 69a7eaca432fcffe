// Package backtest replays the past: what the controller and the scaler would
// have made of series that were recorded, by their own code.
package backtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/promtest/simulate"
	"github.com/headgate/headgate/scaler/trigger"
	"github.com/headgate/headgate/settings"
)

// Command is `promtest backtest`. Its arguments and flags are the fields.
type Command struct {
	Source string `arg:"" optional:"" help:"address of a Prometheus server, such as http://127.0.0.1:9090; folder with its data; or OpenMetrics file. HEADGATE_PROMETHEUS_URL where it is left out"`

	From  string        `help:"first tick: a time such as 2026-01-02T14:30:00Z, seconds since 1970, or how long before the last one, such as 6h; all there is in a folder or file, and a day of a server, where it is left out" placeholder:"TIME"`
	To    string        `help:"last tick: likewise, or how long before the end of what there is" placeholder:"TIME"`
	Every time.Duration `help:"time from one look at the signals to the next; HEADGATE_INTERVAL where it is left out" placeholder:"DURATION"`

	Policy        string  `help:"NAME of a policy for all targets, or all; each target's own where it is left out" placeholder:"NAME"`
	BaseRate      float64 `help:"base rate of the providers in items per second, where no series tells it" placeholder:"N"`
	Floor         float64 `help:"items per second below which a provider is never throttled" default:"1"`
	IdleDrain     string  `help:"what the store is held to have been able to take while the recorded queue was empty: busy (as fast as in the fastest of the last three scrapes at which it had work), seen (no more than it took, so that waits and overflow are upper bounds), or items per second" default:"busy" placeholder:"RATE"`
	OpenLoop      bool    `help:"decide from the recorded depth alone, as if the decisions had changed nothing"`
	ScaledObjects string  `help:"YAML file with manifests of KEDA's ScaledObjects, whose replicas are computed too" placeholder:"FILE" type:"path"`

	JSON      bool   `help:"one JSON object a line instead of tables"`
	HTML      string `help:"write a page with the tables and drawings to this file, too" placeholder:"OUT" type:"path"`
	SVG       string `help:"write the drawings alone to this file, too" placeholder:"OUT" type:"path"`
	Decisions string `help:"write every decision that differs from the one before to this file, too, one JSON object a line" placeholder:"OUT" type:"path"`
}

// Help is shown below the flags' list.
func (Command) Help() string {
	return `Shows what the controller would have decided in the past. The settings are
those that it would read: the variables of the environment, and the targets file
that HEADGATE_TARGETS_FILE names. At every tick the controller's own query is
asked of the recorded samples, and its own loop decides.

The queue is computed as it would have been: fed by what arrived, as far as
base rate x scale lets it through, and drained by what the store took. That is
what the decisions are made of, so that they bear their own consequences; with
--open-loop they are made of the depth that was recorded.

- BLIND is the time without good signals, SCALE the mean, TURNS are changes of
  the scale's direction.
- OVERFLOW is what the full queue would have had no room for, WAIT the time in
  the queue, DEPTH the most that waited, WRITTEN what the store got, in percent
  of what it got. "recorded" is what there really was.
- While the recorded queue was empty, the store may have been able to take more
  than it was seen to take; see --idle-drain. While the provider was throttled,
  more may have been there to arrive than did.

Examples:

  HEADGATE_COORDINATOR_IDS=bars promtest backtest http://127.0.0.1:9090 --from 6h
  HEADGATE_COORDINATOR_IDS=bars promtest backtest dump.om --policy all --html out.html`
}

// Run runs the command.
func (c Command) Run(ctx context.Context, to simulate.Streams) (err error) {
	r, err := c.prepare(ctx, to.Err)
	if err != nil {
		return err
	}
	if c.Decisions != "" {
		file, createErr := os.Create(c.Decisions)
		if createErr != nil {
			return createErr
		}
		lines := bufio.NewWriter(file)
		defer func() { err = errors.Join(err, lines.Flush(), file.Close()) }()
		r.decided = decisionsTo(lines)
	}
	if err := r.walk(ctx); err != nil {
		return err
	}
	if err := c.lacking(r, to.Err); err != nil {
		return err
	}
	for _, out := range []struct {
		file string
		make func() ([]byte, error)
	}{{c.HTML, r.page}, {c.SVG, r.picture}} {
		if out.file == "" {
			continue
		}
		content, err := out.make()
		if err != nil {
			return err
		}
		if err := os.WriteFile(out.file, content, 0o644); err != nil {
			return err
		}
	}
	if c.JSON {
		return r.writeJSON(to.Out)
	}
	return r.writeTable(to.Out)
}

// decisionsTo writes decisions that changed something.
func decisionsTo(to io.Writer) func(*controller.Decision) error {
	encoder := json.NewEncoder(to)
	return func(d *controller.Decision) error {
		if !d.Changed {
			return nil
		}
		if err := encoder.Encode(d); err != nil {
			return fmt.Errorf("write the decisions: %w", err)
		}
		return nil
	}
}

// prepare reads everything but the samples.
func (c Command) prepare(ctx context.Context, stderr io.Writer) (*run, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	environ := os.Environ()
	if c.Every != 0 {
		environ = append(environ, "HEADGATE_INTERVAL="+c.Every.String())
	}
	loaded, all, err := settings.LoadController(ctx, environ, os.ReadFile)
	var scales settings.Scaler
	err = errors.Join(err, settings.Load(ctx, &scales, settings.Environ(environ)))
	if err != nil {
		return nil, fmt.Errorf("the settings are wrong:\n%w", err)
	}
	r := &run{every: loaded.Interval, progress: stderr, stores: map[string]*store{}}
	if r.least, err = idleDrain(c.IdleDrain); err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Enabled {
			r.targets = append(r.targets, t)
			r.pasts = append(r.pasts, newPast())
			for _, id := range t.CoordinatorIDs {
				if known := r.stores[id]; known == nil || known.capacity == 0 {
					r.stores[id] = &store{least: r.least, capacity: t.QueueCapacity}
				}
			}
		}
	}
	if len(r.targets) == 0 {
		return nil, invalid.New("HEADGATE_ENABLED", "false", "true, for one target at least")
	}
	if err := c.chart(r, loaded, stderr); err != nil {
		return nil, err
	}
	if err := c.staff(r, scales, stderr); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if r.source, err = open(c.Source, r.wanted(), loaded.Prometheus, log); err != nil {
		return nil, err
	}
	return r, c.limit(ctx, r)
}

// validate reports all flags that are wrong, joined.
func (c Command) validate() error {
	var errs []error
	for _, f := range []struct {
		flag  string
		value float64
	}{{"--base-rate", c.BaseRate}, {"--floor", c.Floor}} {
		if !(f.value >= 0 && f.value <= 1e12) {
			errs = append(errs, invalid.New(f.flag, f.value, "a number in [0, 1e12]"))
		}
	}
	if c.Every < 0 || c.Every%time.Millisecond != 0 {
		errs = append(errs, invalid.New("--every", c.Every, "a duration > 0 in whole milliseconds"))
	}
	if names := policy.Names(); c.Policy != "" && c.Policy != everyPolicy && !slices.Contains(names, c.Policy) {
		errs = append(errs, invalid.New("--policy", c.Policy, "all, or one of "+strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}

// idleDrain reads what stores are held to take; see store.
func idleDrain(text string) (float64, error) {
	switch text {
	case "seen":
		return 0, nil
	case "busy", "":
		return math.NaN(), nil
	}
	least, err := strconv.ParseFloat(text, 64)
	if err != nil || !(least >= 0 && least <= 1e12) {
		return 0, invalid.New("--idle-drain", text, "seen, busy, or items per second in [0, 1e12]")
	}
	return least, nil
}

// everyPolicy stands for one course by each policy.
const everyPolicy = "all"

// chart makes the courses. Of all policies those that the settings do not allow
// are left out, and it is told.
func (c Command) chart(r *run, loaded settings.Controller, stderr io.Writer) error {
	config := controller.Config{
		Interval: loaded.Interval, QueryTimeout: loaded.Prometheus.Timeout, ApplyTimeout: loaded.ApplyTimeout,
		Holder: "promtest", Decisions: 1,
	}
	policies := []string{c.Policy}
	if c.Policy == everyPolicy {
		policies = policy.Names()
	}
	var errs []error
	for _, name := range policies {
		course, err := newCourse(name, config, r.targets, rates{c.BaseRate, c.Floor})
		if err != nil {
			errs = append(errs, err)
			if len(policies) > 1 {
				fmt.Fprintf(stderr, "policy %s is left out: %s\n", name, strings.ReplaceAll(err.Error(), "\n", ", "))
			}
			continue
		}
		course.openLoop = c.OpenLoop
		r.courses = append(r.courses, course)
	}
	if len(r.courses) == 0 {
		return errors.Join(errs...)
	}
	for _, t := range r.targets {
		names, err := wiring.Names(t.Series)
		if err != nil {
			return err
		}
		if !slices.Contains(r.names, names) {
			r.names = append(r.names, names)
		}
	}
	return nil
}

// staff makes the fleets.
func (c Command) staff(r *run, scales settings.Scaler, stderr io.Writer) error {
	if c.ScaledObjects == "" {
		return nil
	}
	names, err := wiring.Names(scales.Series)
	if err != nil {
		return err
	}
	if len(r.names) != 1 || r.names[0] != names {
		r.scaler = &names
	}
	var defaults trigger.Defaults
	if file := scales.DefaultsFile; file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if defaults, err = trigger.ParseDefaults(data); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	objects, err := readScaledObjects(c.ScaledObjects, defaults, scales.StaleAfter)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if len(o.passed) > 0 {
			fmt.Fprintf(stderr, "scaled object %s: what its triggers of type %s ask for is left out\n", o.name, strings.Join(o.passed, ", "))
		}
		r.fleets = append(r.fleets, &fleet{object: o})
	}
	return nil
}

// wanted are the names of the series that the run reads.
func (r *run) wanted() wantedNames {
	var w wantedNames
	for _, n := range slices.Concat(r.names, r.scalerNames()) {
		if !slices.Contains(w.depths, n.Depth) {
			w.depths = append(w.depths, n.Depth)
		}
		for _, name := range []string{n.Depth, n.Capacity, n.Soft, n.Hard, n.Shared, n.Accepted, n.Written, n.Dropped} {
			if name != "" && !slices.Contains(w.all, name) {
				w.all = append(w.all, name)
			}
		}
	}
	w.all = append(w.all, providerSeries()...)
	return w
}

func (r *run) scalerNames() []metrics.Names {
	if r.scaler == nil {
		return nil
	}
	return []metrics.Names{*r.scaler}
}

// shareOfServer is how much of a server's past is looked at where nothing is
// said.
const shareOfServer = 24 * time.Hour

// limit finds the first and the last tick.
func (c Command) limit(ctx context.Context, r *run) error {
	first, last := time.Time{}, time.Now()
	if r.source.span != nil {
		var err error
		if first, last, err = r.source.span(ctx); err != nil {
			return err
		}
		// Ticks at the scrapes' own times would now come before one and now after
		// it, and in the mean a sample is half an interval old.
		first = first.Add(r.every / 2)
	}
	to, toErr := moment("--to", c.To, last, last)
	if first.IsZero() {
		first = to.Add(-shareOfServer)
	}
	from, fromErr := moment("--from", c.From, to, first)
	if err := errors.Join(toErr, fromErr); err != nil {
		return err
	}
	r.from, r.to = from.Truncate(time.Millisecond), to.Truncate(time.Millisecond)
	if r.to.Sub(r.from) < r.every {
		return invalid.New("--from", r.from.UTC().Format(time.RFC3339), fmt.Sprintf("a time at least %v before the last one, which is %s",
			r.every, r.to.UTC().Format(time.RFC3339)))
	}
	r.to = r.to.Add(-(r.to.Sub(r.from) % r.every)) // the last tick
	if c.HTML == "" && c.SVG == "" {
		return nil
	}
	for _, course := range r.courses {
		for _, l := range course.lines {
			l.drawn = drawable(r.from, r.to)
		}
	}
	for _, f := range r.fleets {
		f.drawn.width = bucketWidth(r.from, r.to)
	}
	return nil
}

// moment reads a time, or how long it is before an end.
func moment(flag, text string, end, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if before, err := time.ParseDuration(text); err == nil && before >= 0 {
		return end.Add(-before), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if seconds, numErr := strconv.ParseFloat(text, 64); numErr == nil && seconds >= 0 && seconds < latest/1000 {
		at, err = time.UnixMilli(int64(math.Round(seconds*1000))), nil
	}
	if err != nil || at.Before(time.Unix(0, 0)) || at.UnixMilli() > latest {
		return otherwise, invalid.New(flag, text, "a time such as 2026-01-02T14:30:00Z, seconds since 1970, or a duration such as 6h")
	}
	return at, nil
}

// lacking says what no series told, once all of them were read. Courses that
// could not be run without it are left out.
func (c Command) lacking(r *run, stderr io.Writer) error {
	lacks := func(course *course) *line {
		for _, l := range course.lines {
			if l.needsBase && math.IsNaN(l.gate.state.BasePerSecond) {
				return l
			}
		}
		return nil
	}
	for _, course := range r.courses {
		l := lacks(course)
		if l == nil {
			continue
		}
		if c.Policy != everyPolicy {
			return invalid.Missing("--base-rate", fmt.Sprintf("that of provider %s in items per second, which the policy %s of target %s needs, and no %s tells",
				l.target.Provider, l.target.Policy, l.target.ID(), metrics.BaseRate))
		}
		fmt.Fprintf(stderr, "policy %s is left out: it needs the base rate of provider %s, which no series tells; give --base-rate\n", course.policy, l.target.Provider)
	}
	r.courses = slices.DeleteFunc(r.courses, func(course *course) bool { return lacks(course) != nil })
	for i, p := range r.pasts {
		if p.flow == nil {
			fmt.Fprintf(stderr, "target %s: at no tick there is a depth of all of its coordinators (%s), and what came and what was taken\n", r.targets[i].ID(), strings.Join(r.targets[i].CoordinatorIDs, ", "))
		}
	}
	return nil
}
