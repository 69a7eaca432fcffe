// Package lint checks the controller's settings and targets as the controller
// itself would, and tells by arithmetic what they can prevent.
package lint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/headroom"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/promtest/simulate"
	"github.com/headgate/headgate/settings"
)

// Command is `promtest lint`. Its fields are the flags.
type Command struct {
	BaseRate       float64       `help:"base rate of the provider in items per second; 0 checks the settings alone" placeholder:"N"`
	Floor          float64       `help:"items per second below which the provider is never throttled" default:"1"`
	QueueCapacity  float64       `help:"items that the queue holds, where the settings leave it to be read" placeholder:"N"`
	DrainLeast     float64       `help:"items per second that the store takes at the least" default:"0"`
	DrainMost      float64       `help:"items per second that it takes at the most; 0 is the base rate" placeholder:"N"`
	ScrapeInterval time.Duration `help:"at which Prometheus scrapes the coordinator" default:"15s"`
	Apply          time.Duration `help:"time from a decision until the rate has changed" default:"100ms"`
	JSON           bool          `help:"one JSON object a line, for each target"`
}

// Help is shown below the flags' list.
func (Command) Help() string {
	return `Reads the settings that the controller would read: the variables of the
environment, and the targets file that HEADGATE_TARGETS_FILE names. Whatever is
wrong is reported at once, with status 2.

With --base-rate it also tells the headroom: whether the settings can keep the
queue from overflowing and the store from waiting for work, at the dead time of
HEADGATE_DEAD_TIME, or else scrape interval + HEADGATE_INTERVAL + apply. Status 1
says that a queue may overflow.

  HEADGATE_COORDINATOR_IDS=bars promtest lint --base-rate 2000 \
    --queue-capacity 10000 --drain-least 400 --scrape-interval 5s`
}

// ErrOverflow says that the settings cannot keep every queue from overflowing.
var ErrOverflow = errors.New("a queue may overflow")

// result is what is told of one target.
type result struct {
	Target          string  `json:"target"`
	Policy          string  `json:"policy"`
	DeadTimeSeconds float64 `json:"dead_time_seconds,omitempty"`
	*headroom.Report
}

// Run runs the command. It returns ErrOverflow where a queue may overflow.
func (c Command) Run(ctx context.Context, to simulate.Streams) error {
	loaded, all, err := settings.LoadController(ctx, os.Environ(), os.ReadFile)
	var results []result
	for _, t := range all {
		if err != nil {
			break
		}
		var r result
		r, err = c.check(t, loaded.Interval)
		results = append(results, r)
	}
	if err != nil {
		return fmt.Errorf("the settings are wrong:\n%w", err)
	}
	overflows := false
	for _, r := range results {
		if err := c.write(to.Out, r); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
		overflows = overflows || r.Report != nil && !r.Holds()
	}
	if overflows {
		return ErrOverflow
	}
	return nil
}

// check makes the target as the controller would, and does the arithmetic where
// the base rate is given.
func (c Command) check(t settings.Target, interval time.Duration) (result, error) {
	r := result{Target: t.ID(), Policy: t.Policy}
	target, err := targets.New(t, nil)
	if err = errors.Join(err, target.Validate()); err != nil || c.BaseRate == 0 {
		return r, err
	}
	capacity := t.QueueCapacity
	if capacity == 0 {
		capacity = c.QueueCapacity
	}
	if capacity == 0 {
		return r, invalid.Missing("--queue-capacity", "the items that the queue holds, as the settings leave it to be read")
	}
	most := c.DrainMost
	if most == 0 {
		most = max(c.BaseRate, c.DrainLeast)
	}
	deadTime := t.Law.DeadTime
	if deadTime == 0 {
		deadTime = c.ScrapeInterval + interval + c.Apply
	}
	r.DeadTimeSeconds = deadTime.Seconds()
	report, err := headroom.Check(headroom.Case{
		Capacity: capacity, BasePerSecond: c.BaseRate, FloorPerSecond: c.Floor,
		LeastDrainPerSecond: c.DrainLeast, MostDrainPerSecond: most,
		DeadTime: deadTime, Thresholds: t.Thresholds(capacity), Law: target.Providers[0].Law,
	})
	if err != nil {
		return r, flags(err)
	}
	r.Report = &report
	return r, nil
}

// flags gives the fields of an error the names of their flags.
func flags(err error) error {
	var errs []error
	for _, v := range invalid.All(err) {
		named := *v
		named.Field = "--" + strings.ReplaceAll(v.Field, "_", "-")
		errs = append(errs, &named)
	}
	return errors.Join(errs...)
}

func (c Command) write(to io.Writer, r result) error {
	if c.JSON {
		return json.NewEncoder(to).Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "target %s, policy %s: the settings are right", r.Target, r.Policy)
	if r.Report == nil {
		b.WriteString("; give --base-rate to see the headroom")
	} else {
		fmt.Fprintf(&b, "; dead time %.3g s\n", r.DeadTimeSeconds)
		for _, f := range r.Findings {
			fmt.Fprintf(&b, "  %-5s %-12s %s\n", verdict(f), f.Kind, f.Arithmetic)
		}
		fmt.Fprintf(&b, "  headroom %.0f items", r.Items)
	}
	_, err := fmt.Fprintln(to, b.String())
	return err
}

// verdict is a finding in one word.
func verdict(f headroom.Finding) string {
	switch {
	case f.Holds:
		return "ok"
	case f.Severe:
		return "FAULT"
	}
	return "note"
}
