package operator

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/internal/figures"
)

// Status shows the loop and its targets.
type Status struct {
	Asking
	Search    string `placeholder:"TEXT" help:"Only targets with this in their name."`
	Condition string `enum:",lost,hard,soft,ok,disabled" default:"" placeholder:"WORD" help:"Only targets that are lost, hard, soft, ok or disabled."`
	Limit     int    `default:"25" help:"How many targets are shown at most, up to 200."`
	Offset    int    `default:"0" help:"How many are passed over first."`
}

// Help is what kong adds to the command's help.
func (Status) Help() string {
	return `The targets that need a person come first: lost signals, then HARD, SOFT, OK.
Times are in UTC. The exit status is 3 where signals are lost, a decision could
not be applied, Prometheus could not be read, or the loop stands still.`
}

// Run asks and prints. Its error is ErrUnwell where something needs a person.
func (c *Status) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}, "offset": {strconv.Itoa(c.Offset)}}
	for name, value := range map[string]string{"search": c.Search, "condition": c.Condition} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var status statuspage.Status
	raw, at, err := ask.get(ctx, "/v1/status", query, &status)
	if err != nil {
		return err
	}
	now := s.at(at)
	if c.json() {
		err = s.printJSON(raw)
	} else {
		err = printStatus(s, now, ask.base, status)
	}
	if err == nil && unwell(now, status) {
		return ErrUnwell
	}
	return err
}

// lateTicks is how many intervals without a tick are no jitter.
const lateTicks = 3

// unwell reports whether something of the loop needs a person.
func unwell(now time.Time, s statuspage.Status) bool {
	return s.List.Counts[statuspage.Lost] > 0 || s.Loop.Decisions[controller.OutcomeFailed] > 0 || s.Loop.QueryError != "" || late(now, s)
}

// late reports whether the loop stands still.
func late(now time.Time, s statuspage.Status) bool {
	last := s.Loop.LastTick
	return last == nil || now.Sub(*last).Seconds() > lateTicks*s.Loop.IntervalSeconds
}

func printStatus(s *Session, now time.Time, base string, status statuspage.Status) error {
	loop, p := status.Loop, page{to: s.Out}
	p.printf("controller %s", loop.Holder)
	if loop.Shard != nil {
		p.printf(", %s,", loop.Shard)
	}
	p.printf(" at %s, tick %s", base, figures.Number(float64(loop.Ticks)))
	if loop.LastTick != nil {
		p.printf(" at %s UTC in %s", moment(now, *loop.LastTick), figures.Seconds(round(loop.TickSeconds)))
	}
	p.printf(", one each %s\n", figures.Seconds(loop.IntervalSeconds))
	if late(now, status) {
		p.printf("  the loop stands still\n")
	}
	if loop.LastSnapshot != nil {
		p.printf("  signals read at %s, the oldest is %s old; %s of %s queries failed\n", moment(now, *loop.LastSnapshot),
			figures.Seconds(round(loop.OldestSignalSeconds)), figures.Number(float64(loop.QueryErrors)), figures.Number(float64(loop.Queries)))
	}
	if loop.QueryError != "" {
		p.printf("  the last query failed: %s\n", loop.QueryError)
	}
	counts := status.List.Counts
	p.printf("  targets")
	if loop.Shard != nil {
		p.printf(" of this shard")
	}
	p.printf(": %d lost, %d hard, %d soft, %d ok, %d disabled\n\n", counts[statuspage.Lost], counts[statuspage.Hard],
		counts[statuspage.Soft], counts[statuspage.OK], counts[statuspage.Disabled])

	t := newTable("TARGET", "CONDITION", "SINCE", "DEPTH", "CAPACITY", "PROVIDER", "LAW", "SCALE", "IN FORCE", "RATE/S", "OUTCOME")
	var notes []string
	for _, target := range status.List.Targets {
		for _, provider := range target.Providers {
			d := provider.Latest
			if d == nil {
				t.add(target.Target, string(target.Condition), none, none, none, provider.Provider, provider.Law, none, none, none, none)
				continue
			}
			t.add(target.Target, string(target.Condition), since(now, target.LevelSince), number(d.Depth), number(d.Capacity),
				provider.Provider, provider.Law, scale(d.Scale), inForce(d), number(d.Effective), string(d.Outcome))
			if note := trouble(d); note != "" {
				notes = append(notes, fmt.Sprintf("%s, %s: %s", target.Target, provider.Provider, note))
			}
		}
	}
	if t.empty() {
		p.printf("no target matches\n")
	} else {
		p.table(t)
	}
	if shown, first := len(status.List.Targets), status.List.Offset; shown > 0 && status.List.Matching > shown {
		p.printf("targets %d to %d of %d; --limit, --offset, --search and --condition show others\n",
			first+1, first+shown, status.List.Matching)
	}
	for i, note := range notes {
		if i == 0 {
			p.printf("\n")
		}
		p.printf("! %s\n", note)
	}
	if len(status.Overrides) > 0 {
		p.printf("\n")
		t := newTable("OVERRIDE", "TARGET", "SCALE", "UNTIL", "BY", "REASON")
		for _, o := range status.Overrides {
			t.add(o.Provider, o.Target, scale(o.Scale), until(now, o.ExpiresAt), o.Holder, o.Reason)
		}
		p.table(t)
		if status.MoreOverrides > 0 {
			p.printf("and %d more; controller override list shows all\n", status.MoreOverrides)
		}
	}
	return p.err
}

// trouble is what a person has to know of a decision.
func trouble(d *controller.Decision) string {
	var parts []string
	if d.Fault != controller.FaultNone {
		parts = append(parts, d.Detail)
	}
	if d.ApplyFault != controller.ApplyNone {
		parts = append(parts, "not applied: "+d.ApplyError)
	}
	return strings.Join(parts, "; ")
}

// inForce is the scale in force, and whose it is if not the controller's.
func inForce(d *controller.Decision) string {
	text := scale(d.InForce)
	if owner := ownerInWords(d.InForceOwner); owner != "" && d.InForce.Known() {
		text += " " + owner
	}
	return text
}

// until writes when something ends, and in how long.
func until(now, at time.Time) string {
	return fmt.Sprintf("%s (in %s)", moment(now, at), at.Sub(now).Round(time.Second))
}

// round leaves milliseconds.
func round(seconds float64) float64 {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).Seconds()
}
