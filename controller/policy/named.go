package policy

import "github.com/headgate/headgate/internal/invalid"

// Settings are those of all laws. A law looks at its own.
type Settings struct {
	OK, Soft, Hard float64 // scales of the levels
	Exponential    ExponentialTuning
	PID            PIDTuning
}

// Names are the names by which settings choose a law.
func Names() []string {
	return []string{StepName, LinearName, ExponentialName, PIDName, DrainName}
}

// New makes the law of that name. The error joins an *invalid.Value for each of
// its settings that is out of its range, or says that there is no such law.
func New(name string, s Settings) (Law, error) {
	switch name {
	case StepName:
		return NewStep(s.OK, s.Soft, s.Hard)
	case LinearName:
		return NewLinear(s.OK, s.Hard)
	case ExponentialName:
		return NewExponential(s.Exponential)
	case PIDName:
		return NewPID(s.PID)
	case DrainName:
		return NewDrain(), nil
	}
	return nil, invalid.New("policy", name, "step, linear, exponential, pid or drain")
}
