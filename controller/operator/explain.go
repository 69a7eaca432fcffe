package operator

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/statuspage"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/internal/invalid"
)

// Explain shows why a target's scales are what they are.
type Explain struct {
	Asking
	Target string `arg:"" predictor:"target" help:"Name of the target."`
	Last   int    `default:"10" help:"How many of the last changes are shown, up to 50."`
}

// Help is what kong adds to the command's help.
func (Explain) Help() string {
	return `The sentence under WHY holds every figure from which the scale can be recomputed
by hand. Times are in UTC. The exit status is 3 where the target's signals are
lost, or a scale could not be applied.`
}

// explained is what machines get.
type explained struct {
	Target  json.RawMessage   `json:"target"`
	Changes []json.RawMessage `json:"changes"`
}

// Run asks and prints. Its error is ErrUnwell where something needs a person.
func (c *Explain) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if err := checkLast(c.Last); err != nil {
		return err
	}
	var status statuspage.Status
	raw, at, err := ask.get(ctx, "/v1/status", url.Values{"target": {c.Target}, "limit": {"1"}}, &status)
	if err != nil {
		return err
	}
	if status.Selected == nil { // the controller refuses one that it does not know
		return invalid.New("target", c.Target, "the name of a target, as controller status lists them")
	}
	if c.json() {
		var parts struct {
			Selected json.RawMessage
			Changes  []json.RawMessage
		}
		if err := decode(raw, &parts); err != nil {
			return err
		}
		err = s.printJSON(explained{parts.Selected, append([]json.RawMessage{}, parts.Changes[:min(c.Last, len(parts.Changes))]...)})
	} else {
		err = printExplained(s, s.at(at), status, c.Last)
	}
	if err != nil {
		return err
	}
	unwell := status.Selected.Condition == statuspage.Lost
	for _, p := range status.Selected.Providers {
		unwell = unwell || p.Latest != nil && p.Latest.Outcome == controller.OutcomeFailed
	}
	if unwell {
		return ErrUnwell
	}
	return nil
}

func printExplained(s *Session, now time.Time, status statuspage.Status, last int) error {
	target, p := status.Selected, page{to: s.Out}
	p.printf("%s: %s", target.Target, target.State)
	if target.Condition == statuspage.Lost {
		p.printf(", its signals are lost")
	}
	if target.Level != nil {
		p.printf(", %s since %s", level(target.Level), since(now, target.LevelSince))
	}
	p.printf("\n  observes %s", list(target.CoordinatorIDs))
	if target.AgeSeconds != nil && target.AgeSeconds.Known() {
		p.printf(", whose signals are %s old", figures.Seconds(round(float64(*target.AgeSeconds))))
	}
	p.printf("\n  SOFT above %s until %s, HARD from %s until below %s\n", target.SoftEnter.String(), target.SoftExit.String(),
		target.HardEnter.String(), target.HardExit.String())
	for _, provider := range target.Providers {
		p.printf("\n%s at %s\n", provider.Provider, provider.URL)
		d := provider.Latest
		if d == nil {
			p.printf("  nothing was decided yet\n")
			continue
		}
		p.printf("  scale %s, in force %s, %s of %s tokens/s, decided at %s\n", scale(d.Scale), inForce(d),
			number(d.Effective), number(d.BaseRate), moment(now, d.At))
		p.printf("  why: %s\n", d.Explanation)
		p.printf("  law %s: scale %s", d.Law, scale(d.LawScale))
		for _, term := range d.Terms {
			p.printf(", %s %s", term.Name, number(term.Value))
		}
		p.printf("\n  arrivals %s/s, drain %s/s, dead time %s s\n", number(d.ArrivalsPerSecond), number(d.DrainPerSecond), number(d.DeadTimeSeconds))
		if o := d.Override; o != nil {
			p.printf("  override by %s: scale %s until %s: %s\n", o.Holder, scale(o.Scale), until(now, o.ExpiresAt), o.Reason)
		}
	}
	if changes := status.Changes[:min(last, len(status.Changes))]; len(changes) > 0 {
		p.printf("\n")
		t := newTable("LAST CHANGES", "PROVIDER", "LEVEL", "SCALE", "IN FORCE", "OUTCOME", "WHY")
		for _, change := range changes {
			t.add(moment(now, change.At), change.Provider, level(change.Level), scale(change.Scale), scale(change.InForce),
				string(change.Outcome), change.Explanation)
		}
		p.table(t)
	}
	return p.err
}

// ownerInWords says whose a scale is that is not the controller's.
func ownerInWords(o coordinator.Owner) string {
	switch o {
	case coordinator.OwnerFastLoop:
		return "(fast loop)"
	case coordinator.OwnerOperator:
		return "(override)"
	}
	return ""
}

// list joins names as a sentence does.
func list(names []string) string {
	text := ""
	for i, name := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			text += " and "
		default:
			text += ", "
		}
		text += name
	}
	return text
}
