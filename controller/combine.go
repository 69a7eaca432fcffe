package controller

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Combine says how the scales of several targets that throttle the same
// provider become one. Each target is a source of pressure of its own, with its
// own marks, law and guard.
type Combine string

const (
	CombineWorst   Combine = "worst"   // the lowest
	CombineWeights Combine = "weights" // the mean, by the weights of the targets
	CombineShare   Combine = "share"   // the mean, by what arrives at each target's coordinators
)

func (t Target) validateCombine() error {
	switch t.Combine {
	case CombineWorst:
	case CombineWeights:
		if !(t.Weight > 0) || math.IsInf(t.Weight, 0) {
			return invalid.New("weight", t.Weight, "a number > 0")
		}
	case CombineShare:
		if t.Names.Accepted == "" {
			return invalid.Missing("series_accepted", "the name of a series: to combine by share needs the arrivals")
		}
	default:
		return invalid.New("combine", string(t.Combine), "worst, weights or share")
	}
	return nil
}

// Combined is how the scale of a provider came from those of several targets.
type Combined struct {
	By    Combine `json:"by"`
	Scale Number  `json:"scale"` // null where no target knows one
	Of    []Part  `json:"of"`

	// Held says that the scale would have risen, and did not, because a target
	// knows no scale yet.
	Held bool `json:"held,omitempty"`
}

// Part is one target's part in a combined scale.
type Part struct {
	Target string `json:"target"`
	Scale  Number `json:"scale"`  // null where it knows none; it has no part then
	Weight Number `json:"weight"` // null where the worst counts
}

// combined makes one scale of those of all targets that apply what they decide,
// and returns it with the target whose scale is the lowest. It is NaN where
// there is none. Targets that know no scale have no part in it, but then it is
// not raised: missing is not OK.
func (o *outlet) combined() (Number, source) {
	if len(o.sources) == 1 {
		s := o.sources[0]
		return s.decision.Scale, s
	}
	var lowest source
	var sum, weights float64
	known, unknown := 0, 0
	c := &Combined{By: o.combine, Of: make([]Part, 0, len(o.sources))}
	arrivals := o.arrivals()
	for _, s := range o.sources {
		d := s.decision
		if s.line.target.DryRun {
			continue
		}
		weight := 1.0
		switch {
		case o.combine == CombineWeights:
			weight = s.line.target.Weight
		case o.combine == CombineShare && arrivals > 0:
			weight = float64(d.ArrivalsPerSecond) / arrivals
		}
		part := Part{Target: d.Target, Scale: d.Scale, Weight: Number(weight)}
		if o.combine == CombineWorst {
			part.Weight = Number(math.NaN())
		}
		c.Of = append(c.Of, part)
		if !d.Scale.Known() {
			unknown++
			continue
		}
		known++
		sum, weights = sum+weight*float64(d.Scale), weights+weight
		if lowest.decision == nil || d.Scale < lowest.decision.Scale {
			lowest = s
		}
	}
	c.Scale = Number(math.NaN())
	switch {
	case known == 0:
	case o.combine == CombineWorst || weights == 0:
		c.Scale = lowest.decision.Scale
	default:
		c.Scale = Number(min(1, sum/weights))
	}
	if unknown > 0 && known > 0 {
		switch {
		case !o.read:
			c.Scale = Number(math.NaN())
		case float64(c.Scale) > o.state.Scale:
			c.Scale, c.Held = Number(o.state.Scale), true
		}
	}
	for _, s := range o.sources {
		if !s.line.target.DryRun {
			s.decision.Combined = c
		}
	}
	return c.Scale, lowest
}

// arrivals are those of all targets together, or 0 where one's are not known:
// all count the same then.
func (o *outlet) arrivals() float64 {
	sum := 0.0
	for _, s := range o.sources {
		if s.line.target.DryRun {
			continue
		}
		sum += float64(s.decision.ArrivalsPerSecond)
	}
	if math.IsNaN(sum) {
		return 0
	}
	return sum
}

// lease is the worst level and the shortest lease among the targets that have a
// part in the scale.
func (o *outlet) lease() (level pressure.Level, ttl time.Duration) {
	for _, s := range o.sources {
		if s.line.target.DryRun || !s.decision.Scale.Known() {
			continue
		}
		level = max(level, s.decision.leaseLevel)
		if ttl == 0 || s.line.target.Lease < ttl {
			ttl = s.line.target.Lease
		}
	}
	return level, ttl
}

// explain says how the parts became one scale.
func (c *Combined) explain() string {
	var parts []string
	for _, p := range c.Of {
		what := fmt.Sprintf("%q %s", p.Target, figures.Scale(float64(p.Scale)))
		switch {
		case !p.Scale.Known():
			what = fmt.Sprintf("%q none yet", p.Target)
		case c.By != CombineWorst:
			what += " x " + figures.Number(float64(p.Weight))
		}
		parts = append(parts, what)
	}
	how := map[Combine]string{
		CombineWorst: "the lowest", CombineWeights: "their mean by weight", CombineShare: "their mean by share of the arrivals",
	}[c.By]
	text := fmt.Sprintf("; of the targets %s, %s is %s", strings.Join(parts, ", "), how, figures.Scale(float64(c.Scale)))
	switch {
	case c.Held:
		text = fmt.Sprintf("; of the targets %s, one knows no scale, so it stays at %s", strings.Join(parts, ", "), figures.Scale(float64(c.Scale)))
	case !c.Scale.Known():
		text = fmt.Sprintf("; of the targets %s, one knows no scale, so none is applied before it is read what is in force", strings.Join(parts, ", "))
	}
	return text
}
