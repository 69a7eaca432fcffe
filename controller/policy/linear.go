package policy

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// LinearName is the name by which settings choose Linear.
const LinearName = "linear"

// Linear gives the scale of OK up to the mark at which SOFT begins, that of
// HARD from the mark at which HARD begins, and in between a straight line from
// the one to the other. It has no state. What a coordinator says of itself caps
// it: no level has more than the mark at which it begins.
type Linear struct {
	ok, hard float64
}

// NewLinear returns the law with the scales at its two ends, each in [0, 1] and
// hard not above ok; the error joins an *invalid.Value for each that is not.
func NewLinear(ok, hard float64) (*Linear, error) {
	var errs []error
	if !(ok >= 0 && ok <= 1) {
		errs = append(errs, invalid.New("scale_ok", ok, "a number in [0, 1]"))
	}
	if !(hard >= 0 && hard <= 1) || hard > ok {
		errs = append(errs, invalid.New("scale_hard", hard, fmt.Sprintf("a number in [0, 1], at most scale_ok, which is %v", ok)))
	}
	return &Linear{ok, hard}, errors.Join(errs...)
}

// Slope is by how much the scale falls for an item more between the marks.
func (l *Linear) Slope(t pressure.Thresholds) float64 {
	return (l.ok - l.hard) / (t.HardEnter - t.SoftEnter)
}

// ReasonDepth says that the depth alone chose the scale.
const ReasonDepth Reason = "depth"

// Decide returns the scale of the depth.
func (l *Linear) Decide(in Input) Output {
	between := 0.0 // the way from the SOFT to the HARD mark
	switch t := in.Thresholds; {
	case in.Depth >= t.HardEnter || in.Level >= pressure.Hard && in.Depth >= t.HardExit:
		between = 1
	case in.Depth > t.SoftEnter:
		between = (in.Depth - t.SoftEnter) / (t.HardEnter - t.SoftEnter)
	}
	out := Output{Scale: l.ok + between*(l.hard-l.ok), Reason: ReasonDepth}
	out.Terms.Add("way_from_soft_to_hard", between)
	return out
}
