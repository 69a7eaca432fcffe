package policy

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// StepName is the name by which settings choose Step.
const StepName = "step"

// Step gives each level a scale of its own. It is the product's default, with
// the scales 1, 0.5 and 0. It has no state.
type Step struct {
	scales [pressure.Hard + 1]float64
}

// NewStep returns the law with the scales for OK, SOFT and HARD. Each must be
// in [0, 1] and none larger than that of a better level; the error joins an
// *invalid.Value for each that is not.
func NewStep(ok, soft, hard float64) (*Step, error) {
	var errs []error
	for _, scale := range []struct {
		field string
		value float64
		most  float64
		want  string
	}{
		{"scale_ok", ok, 1, "a number in [0, 1]"},
		{"scale_soft", soft, ok, fmt.Sprintf("a number in [0, 1], at most scale_ok, which is %v", ok)},
		{"scale_hard", hard, soft, fmt.Sprintf("a number in [0, 1], at most scale_soft, which is %v", soft)},
	} {
		inRange := scale.value >= 0 && scale.value <= 1
		if !inRange || scale.value > scale.most {
			errs = append(errs, invalid.New(scale.field, scale.value, scale.want))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Step{scales: [...]float64{ok, soft, hard}}, nil
}

// Decide returns the level's scale.
func (s *Step) Decide(in Input) Output {
	out := Output{Scale: s.Scale(in.Level), Reason: ReasonLevel}
	out.Terms.Add("level_scale", out.Scale)
	return out
}

// Scale is the level's scale. A level that is not Known counts as HARD.
func (s *Step) Scale(level pressure.Level) float64 { return s.scales[min(level, pressure.Hard)] }
