package controller

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// explain says the decision in one sentence, with the numbers from which its
// scale can be recomputed.
func (d *Decision) explain() string {
	var b strings.Builder
	switch d.Reason {
	case ReasonLaw:
		fmt.Fprintf(&b, "%s; %s", d.explainLevel(), d.clause)
		b.WriteString(d.explainGuard())
	case ReasonHold:
		fmt.Fprintf(&b, "%s; the last scale of %s is renewed until the signals are %s old, now %s",
			d.Detail, number(d.Scale), d.staleAfter, seconds(d.AgeSeconds))
	case ReasonFailMode:
		fmt.Fprintf(&b, "%s; the signals are %s old, more than %s, so fail mode %s ",
			d.Detail, seconds(d.AgeSeconds), d.staleAfter, d.failMode)
		if !d.Scale.Known() {
			b.WriteString("has no last scale to hold")
		} else {
			fmt.Fprintf(&b, "gives a scale of %s", number(d.Scale))
		}
	case ReasonWaiting:
		fmt.Fprintf(&b, "%s; nothing was decided yet, and nothing is applied until there are signals or %s have passed, now %s",
			d.Detail, d.staleAfter, seconds(d.AgeSeconds))
	}
	b.WriteString(d.explainOutcome())
	return b.String()
}

// explainLevel says why the level is what it is, where there is one.
func (d *Decision) explainLevel() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s since %s: depth %s", d.Level, d.LevelSince.UTC().Format(time.TimeOnly), number(d.Depth))
	if d.Capacity.Known() {
		fmt.Fprintf(&b, " of %s", number(d.Capacity))
	}
	depth, t := float64(d.Depth), d.thresholds
	cool := func() string {
		if t.CoolDown > 0 {
			return fmt.Sprintf(" and %s after it began", t.CoolDown)
		}
		return ""
	}
	switch *d.Level {
	case pressure.Hard:
		if depth >= t.HardEnter {
			fmt.Fprintf(&b, " at or above %s", number(Number(t.HardEnter)))
		} else if d.ReportedLevel < pressure.Hard {
			fmt.Fprintf(&b, ", HARD until it is below %s%s", number(Number(t.HardExit)), cool())
		}
	case pressure.Soft:
		if depth > t.SoftEnter {
			fmt.Fprintf(&b, " above %s", number(Number(t.SoftEnter)))
		} else if d.ReportedLevel < pressure.Soft {
			fmt.Fprintf(&b, ", SOFT until it is at or below %s%s", number(Number(t.SoftExit)), cool())
		}
		if depth >= t.HardEnter && t.For > 0 {
			fmt.Fprintf(&b, ", HARD once it is at or above %s for %s", number(Number(t.HardEnter)), t.For)
		}
	default:
		if depth > t.SoftEnter && t.For > 0 {
			fmt.Fprintf(&b, ", SOFT once it is above %s for %s", number(Number(t.SoftEnter)), t.For)
		} else {
			fmt.Fprintf(&b, " not above %s", number(Number(t.SoftEnter)))
		}
	}
	if d.ReportedLevel > pressure.OK {
		fmt.Fprintf(&b, ", and the coordinator itself says %s", d.ReportedLevel)
	}
	return b.String()
}

func (d *Decision) explainGuard() string {
	switch d.Guard {
	case GuardRange:
		return fmt.Sprintf("; that is no scale, so it is %s", number(d.Scale))
	case GuardFloor:
		return fmt.Sprintf("; the floor raises it from %s to %s", number(d.LawScale), number(d.Scale))
	case GuardHardCap:
		return fmt.Sprintf("; the cap at HARD lowers it from %s to %s", number(d.LawScale), number(d.Scale))
	case GuardRise:
		return fmt.Sprintf("; the limit on its rise holds it at %s", number(d.Scale))
	case GuardResume:
		return "; parked providers come back one after another, and it is not yet this one's turn"
	case GuardReversals:
		return fmt.Sprintf("; it has changed its direction too often in the last hour, so it stays at %s", number(d.Scale))
	}
	return ""
}

func (d *Decision) explainOutcome() string {
	switch d.Outcome {
	case OutcomeApplied:
		if d.InForce != d.Scale {
			return fmt.Sprintf("; applied, and a scale of %s is in force, for the lowest of all owners' wins", number(d.InForce))
		}
		return "; applied and read back"
	case OutcomeFailed:
		return fmt.Sprintf("; not applied: %s", d.ApplyError)
	case OutcomeStandby:
		return fmt.Sprintf("; not applied: %q holds the lease", d.Holder)
	case OutcomeDryRun:
		return "; not applied: this is a dry run"
	}
	return ""
}

// explainLaw is what the law says of its output, or else its terms.
func explainLaw(p *Provider, in policy.Input, out policy.Output) string {
	if law, ok := p.Law.(policy.Explainer); ok {
		return law.Explain(in, out)
	}
	var terms []string
	for term := range out.Terms.All() {
		terms = append(terms, term.Name+" "+number(Number(term.Value)))
	}
	clause := fmt.Sprintf("the %s law gives a scale of %s (%s)", p.LawName, number(Number(out.Scale)), out.Reason)
	if len(terms) > 0 {
		clause += " from " + strings.Join(terms, ", ")
	}
	return clause
}

// number writes a number as a person would: at most four digits after the point.
func number(n Number) string {
	if !n.Known() {
		return "unknown"
	}
	s := strconv.FormatFloat(float64(n), 'f', 4, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func seconds(n Number) string {
	return time.Duration(float64(n) * float64(time.Second)).Round(100 * time.Millisecond).String()
}
