package controller

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
)

// Explain says the decision in one sentence, with the numbers from which its
// scale can be recomputed. It may be called once the decision is published.
func (d *Decision) Explain() string {
	if d.Explanation != "" || !d.own {
		return d.Explanation
	}
	return d.explain()
}

func (d *Decision) explain() string {
	var b strings.Builder
	switch d.Reason {
	case ReasonLaw:
		fmt.Fprintf(&b, "%s; %s", d.explainLevel(), d.clause)
		b.WriteString(d.guarded)
	case ReasonHold:
		fmt.Fprintf(&b, "%s; the last scale of %s is renewed until the signals are %s old, now %s",
			d.Detail, scale(d.Scale), figures.Duration(d.staleAfter), seconds(d.AgeSeconds))
	case ReasonFailMode:
		fmt.Fprintf(&b, "%s; the signals are %s old, more than %s, so fail mode %s ",
			d.Detail, seconds(d.AgeSeconds), figures.Duration(d.staleAfter), d.failMode)
		if !d.Scale.Known() {
			b.WriteString("has no last scale to hold")
		} else {
			fmt.Fprintf(&b, "gives a scale of %s", scale(d.Scale))
		}
	case ReasonWaiting:
		fmt.Fprintf(&b, "%s; nothing was decided yet, and nothing is applied until there are signals or %s have passed, now %s",
			d.Detail, figures.Duration(d.staleAfter), seconds(d.AgeSeconds))
	}
	if d.Combined != nil {
		b.WriteString(d.Combined.explain())
	}
	b.WriteString(d.explainOutcome())
	return b.String()
}

// explainLevel says why the level is what it is, where there is one.
func (d *Decision) explainLevel() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s since %s: depth %s", d.Level, moment(d.At, *d.LevelSince), number(d.Depth))
	if d.Capacity.Known() {
		fmt.Fprintf(&b, " of %s", number(d.Capacity))
	}
	depth, t := float64(d.Depth), d.thresholds
	cool := func() string {
		if t.CoolDown > 0 {
			return fmt.Sprintf(" and %s after it began", figures.Duration(t.CoolDown))
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
			fmt.Fprintf(&b, ", HARD once it is at or above %s for %s", number(Number(t.HardEnter)), figures.Duration(t.For))
		}
	default:
		if depth > t.SoftEnter && t.For > 0 {
			fmt.Fprintf(&b, ", SOFT once it is above %s for %s", number(Number(t.SoftEnter)), figures.Duration(t.For))
		} else {
			fmt.Fprintf(&b, " not above %s", number(Number(t.SoftEnter)))
		}
	}
	if d.ReportedLevel > pressure.OK {
		fmt.Fprintf(&b, ", and the coordinator itself says %s", d.ReportedLevel)
	}
	return b.String()
}

// explain says what the guard did to the scale that the law wanted, where the
// last one was this, and it is allowed that; nothing where no limit changed it.
func (l *Limiter) explain(bit Guardrail, elapsed time.Duration, wanted, last, allowed float64) string {
	g := l.guard
	switch bit {
	case GuardRange:
		return fmt.Sprintf("; that is no scale, so it is %s", figures.Scale(allowed))
	case GuardFloor:
		return fmt.Sprintf("; the floor raises it from %s to %s", figures.Scale(wanted), figures.Scale(g.Floor))
	case GuardHardCap:
		return fmt.Sprintf("; the cap at HARD lowers it from %s to %s", figures.Scale(wanted), figures.Scale(g.HardCap))
	case GuardRise:
		return fmt.Sprintf("; the slew limit of %s/s holds it at %s, %s after %s",
			figures.Number(g.RisePerSecond), figures.Scale(allowed), figures.Duration(elapsed), figures.Scale(last))
	case GuardResume:
		return fmt.Sprintf("; parked providers come back one after another within %s, and it is this one's turn in %s, so it stays at 0",
			figures.Duration(g.ResumeWithin), figures.Duration(l.resumeAt-l.clock))
	case GuardReversals:
		return fmt.Sprintf("; it changed its direction as often as it may in an hour, %d of %d, so it stays at %s",
			len(l.reversals), g.ReversalsPerHour, figures.Scale(allowed))
	}
	return ""
}

// explainOutcome says what is in force.
func (d *Decision) explainOutcome() string {
	var b strings.Builder
	switch d.Outcome {
	case OutcomeApplied:
		how := "applied"
		if d.Kept {
			how = "in force already, and not yet due for renewal"
		}
		if d.InForce == d.applied() {
			if !d.Kept {
				how += " and read back"
			}
			b.WriteString("; " + how)
			break
		}
		fmt.Fprintf(&b, "; %s, and a scale of %s is in force, for the lowest of all owners' wins", how, scale(d.InForce))
		if of := ownerInWords(d.InForceOwner); of != "" {
			fmt.Fprintf(&b, ", and that is %s", of)
		}
	case OutcomeFailed:
		fmt.Fprintf(&b, "; not applied: %s", d.ApplyError)
	case OutcomeStandby:
		fmt.Fprintf(&b, "; not applied: %q holds the lease", d.Holder)
	case OutcomeDryRun:
		b.WriteString("; not applied: this is a dry run")
	}
	switch {
	case d.ApplyFault == ApplyNone || d.Outcome == OutcomeFailed:
	case d.InForce.Known(): // some of several replicas answered
		fmt.Fprintf(&b, "; without %s", d.ApplyError)
	default:
		fmt.Fprintf(&b, "; what is in force could not be read: %s", d.ApplyError)
	}
	if o := d.Override; o != nil {
		fmt.Fprintf(&b, "; overridden by %s with %s until %s: %s", o.Holder, scale(o.Scale), moment(d.At, o.ExpiresAt), o.Reason)
	}
	return b.String()
}

// ownerInWords says whose a scale is that is not the controller's.
func ownerInWords(o coordinator.Owner) string {
	switch o {
	case coordinator.OwnerFastLoop:
		return "the queue's own fast loop's"
	case coordinator.OwnerOperator:
		return "an operator's"
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
	clause := fmt.Sprintf("the %s law gives a scale of %s (%s)", p.LawName, figures.Scale(out.Scale), out.Reason)
	if len(terms) > 0 {
		clause += " from " + strings.Join(terms, ", ")
	}
	return clause
}

// number writes a count, a depth or a rate.
func number(n Number) string { return figures.Number(float64(n)) }

// scale writes a scale.
func scale(n Number) string { return figures.Scale(float64(n)) }

func seconds(n Number) string {
	return figures.Seconds(math.Round(10*float64(n)) / 10)
}

// moment writes the time of day, in UTC, and the day where it is not within one
// of now.
func moment(now, at time.Time) string {
	if at.Sub(now).Abs() < 24*time.Hour {
		return at.UTC().Format(time.TimeOnly)
	}
	return at.UTC().Format(time.DateTime)
}
