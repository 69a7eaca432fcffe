package policy

import (
	"fmt"
	"math"

	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
)

// Explain says which scale the level has.
func (s *Step) Explain(in Input, out Output) string {
	return fmt.Sprintf("the step law gives %s a scale of %s", in.Level, figures.Scale(out.Scale))
}

// Explain says where the depth lies between the marks.
func (l *Linear) Explain(in Input, out Output) string {
	t, way := in.Thresholds, out.Terms.Value("way_from_soft_to_hard")
	switch {
	case in.Depth >= t.HardEnter:
		return fmt.Sprintf("the linear law gives a scale of %s from %s items on", figures.Scale(out.Scale), figures.Number(t.HardEnter))
	case way >= 1:
		return fmt.Sprintf("the linear law gives a scale of %s at %s until the depth is below %s",
			figures.Scale(out.Scale), in.Level, figures.Number(t.HardExit))
	case way <= 0:
		return fmt.Sprintf("the linear law gives a scale of %s up to %s items", figures.Scale(out.Scale), figures.Number(t.SoftEnter))
	}
	return fmt.Sprintf("that is %s %% of the way from %s items, where the linear law gives a scale of %s, to %s, where it gives %s: a scale of %s",
		figures.Number(100*way), figures.Number(t.SoftEnter), figures.Scale(l.ok), figures.Number(t.HardEnter), figures.Scale(l.hard), figures.Scale(out.Scale))
}

// Explain says what the scale was before, and what was done to it.
func (e *Exponential) Explain(in Input, out Output) string {
	before := out.Terms.Value("scale_before")
	elapsed := figures.Duration(max(0, in.Elapsed))
	if out.Reason == ReasonRecover {
		return fmt.Sprintf("the exponential law adds %s/s at OK: %s + %s/s x %s = %s",
			figures.Number(e.tuning.RecoveryPerSecond), figures.Scale(before), figures.Number(e.tuning.RecoveryPerSecond), elapsed,
			bounded(before+out.Terms.Value("added"), e.tuning.Least, 1))
	}
	factor := e.tuning.Soft
	if in.Level >= pressure.Hard {
		factor = e.tuning.Hard
	}
	dead := figures.Duration(max(in.DeadTime, e.tuning.AtLeastEvery))
	return fmt.Sprintf("the exponential law multiplies by %s in each dead time of %s at %s: %s x %s^(%s / %s) = %s",
		figures.Scale(factor), dead, in.Level, figures.Scale(before), figures.Scale(factor), elapsed, dead,
		bounded(before*out.Terms.Value("factor"), e.tuning.Least, 1))
}

// Explain gives the sum that the scale is made of.
func (p *PID) Explain(in Input, out Output) string {
	if out.Terms.Len() == 0 {
		return "the pid law knows no base rate"
	}
	if out.Reason == ReasonDeadTime {
		return fmt.Sprintf("the dead time is not known yet, so the pid law leaves a scale of %s", figures.Scale(out.Scale))
	}
	setPoint, proportional := out.Terms.Value("set_point_items"), out.Terms.Value("proportional")
	integral, derivative := out.Terms.Value("integral"), out.Terms.Value("derivative")
	each := ""
	if off := setPoint - in.Depth; off != 0 {
		each = fmt.Sprintf(" (%s items x %s)", figures.Number(off), figures.Number(proportional/off))
	}
	return fmt.Sprintf("the set point is %s, so the pid law gives %s in proportion%s, %s by its integral and %s by its derivative, together %s",
		figures.Number(setPoint), figures.Scale(proportional), each, figures.Scale(integral), figures.Scale(derivative),
		bounded(proportional+integral+derivative, 0, 1))
}

// Explain says how the rate came about.
func (d *Drain) Explain(in Input, out Output) string {
	if out.Terms.Len() == 0 {
		return "the drain law knows no base rate"
	}
	term := out.Terms.Value
	allowed, base := figures.Number(term("allowed_per_second")), figures.Number(in.BasePerSecond)
	switch out.Reason {
	case ReasonDeadTime:
		return fmt.Sprintf("the dead time is not known yet, so the drain law leaves the %s/s of %s/s: a scale of %s",
			allowed, base, figures.Scale(out.Scale))
	case ReasonProbe:
		if !d.demanded {
			return fmt.Sprintf("the queue is empty and the provider does not use up its %s/s of %s/s, so the drain law leaves it: a scale of %s",
				allowed, base, figures.Scale(out.Scale))
		}
		dead := max(in.DeadTime.Seconds(), d.tuning.LeastDeadSec)
		more := d.tuning.ProbeGrowth * max(0, in.Elapsed.Seconds()) / dead
		return fmt.Sprintf("the queue is empty and the provider uses up its %s/s, so the drain law gives it %s %% more, for the store may take it: of %s/s that is %s",
			allowed, figures.Number(100*more), base, bounded(term("allowed_per_second")*(1+more)/in.BasePerSecond, 0, 1))
	}
	taken, drain := term("taken_per_second"), term("drain_per_second")
	takes := fmt.Sprintf("drain %s/s", figures.Number(taken))
	if figures.Number(taken) != figures.Number(drain) {
		takes = fmt.Sprintf("drain %s/s counted as %s/s, which the store was seen to take", figures.Number(drain), figures.Number(taken))
	}
	predicted, reference, horizon := term("predicted_depth_items"), term("reference_items"), term("horizon_seconds")
	way := "empty"
	if predicted < reference {
		way = "fill"
	}
	return fmt.Sprintf("%s; to %s from %s predicted to %s in %s the drain law asks for %s/s of %s/s: %s",
		takes, way, figures.Number(predicted), figures.Number(reference), figures.Seconds(horizon),
		figures.Number(taken+(reference-predicted)/horizon), base,
		bounded((taken+(reference-predicted)/horizon)/in.BasePerSecond, 0, 1))
}

// bounded says the scale that a sum gives, and where it is none, that too.
func bounded(sum, least, most float64) string {
	switch {
	case math.IsNaN(sum):
		return "no number, so a scale of 0"
	case sum < least:
		return fmt.Sprintf("%s, so a scale of %s, the least", figures.Scale(sum), figures.Scale(least))
	case sum > most:
		return fmt.Sprintf("%s, so a scale of %s, the most", figures.Scale(sum), figures.Scale(most))
	}
	return "a scale of " + figures.Scale(sum)
}
