package run

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/promtest/fixture"
)

// coverage is what the decision tests of a fixture have crossed, by target: from
// the start of each test to the last time that it asks for the target.
type coverage map[string]*crossed

// crossed is what was crossed for one target.
type crossed struct {
	marks  [numMarks]bool
	turns  [numTurns]bool
	values [numMarks]controller.Number // of the marks, in items, as they were last
	asked  bool
	depth  float64        // at the last good signals of the test; 0 before
	level  pressure.Level // likewise; OK before
}

// Thresholds. A depth crosses those of entering on its way up, and those of
// leaving on its way down.
const (
	softEnter = iota
	hardEnter
	hardExit
	softExit
	numMarks
)

// Transitions between the levels.
const (
	toSoft = iota
	toHard
	fromHard
	toOK
	numTurns
)

func markNames() []string { return []string{"soft_enter", "hard_enter", "hard_exit", "soft_exit"} }
func turnNames() []string {
	return []string{"up to SOFT", "up to HARD", "back from HARD", "back to OK"}
}

// newCoverage is that of the fixture's targets that are enabled.
func newCoverage(f *fixture.Fixture) coverage {
	c := coverage{}
	for _, t := range f.Targets {
		if t.Enabled {
			c[t.ID()] = &crossed{}
		}
	}
	return c
}

// begin forgets what was before: another test begins, with an empty queue.
func (c coverage) begin() {
	for _, target := range c {
		target.depth, target.level = 0, pressure.OK
	}
}

// see takes in one decision.
func (c coverage) see(d *controller.Decision) {
	t := c[d.Target]
	t.asked = true
	if d.Fault != controller.FaultNone || d.Level == nil {
		return
	}
	t.values = [numMarks]controller.Number{d.SoftEnter, d.HardEnter, d.HardExit, d.SoftExit}
	t.cross(t.depth, float64(d.Depth))
	t.turn(t.level, *d.Level)
	t.depth, t.level = float64(d.Depth), *d.Level
}

// cross notes the marks between two depths. HARD begins at its mark, and SOFT
// above its own; HARD ends below its mark, and SOFT at its own.
func (t *crossed) cross(before, now float64) {
	v := t.values
	t.marks[softEnter] = t.marks[softEnter] || before <= float64(v[softEnter]) && now > float64(v[softEnter])
	t.marks[hardEnter] = t.marks[hardEnter] || before < float64(v[hardEnter]) && now >= float64(v[hardEnter])
	t.marks[hardExit] = t.marks[hardExit] || before >= float64(v[hardExit]) && now < float64(v[hardExit])
	t.marks[softExit] = t.marks[softExit] || before > float64(v[softExit]) && now <= float64(v[softExit])
}

func (t *crossed) turn(before, now pressure.Level) {
	switch {
	case now > before && now == pressure.Soft:
		t.turns[toSoft] = true
	case now > before:
		t.turns[toHard] = true
	case now < before:
		t.turns[fromHard] = t.turns[fromHard] || before == pressure.Hard
		t.turns[toOK] = t.turns[toOK] || now == pressure.OK
	}
}

// Coverage tells what no test has crossed for one target.
type Coverage struct {
	Target      string   `json:"target"`
	Asked       bool     `json:"asked"`       // by any decision test
	Thresholds  []string `json:"thresholds"`  // that no test crossed
	Transitions []string `json:"transitions"` // that no test saw

	marks []string // Thresholds with their values
}

// report tells what was not crossed, by target.
func (c coverage) report() []Coverage {
	all := []Coverage{}
	for _, name := range sortedKeys(c) {
		t := c[name]
		r := Coverage{Target: name, Asked: t.asked, Thresholds: []string{}, Transitions: []string{}}
		for i, mark := range markNames() {
			if t.marks[i] {
				continue
			}
			r.Thresholds = append(r.Thresholds, mark)
			if t.valueKnown(i) {
				mark += fmt.Sprintf(" (%s)", figures.Number(float64(t.values[i])))
			}
			r.marks = append(r.marks, mark)
		}
		for i, turn := range turnNames() {
			if !t.turns[i] {
				r.Transitions = append(r.Transitions, turn)
			}
		}
		all = append(all, r)
	}
	return all
}

// valueKnown reports whether the value of a mark was seen.
func (t *crossed) valueKnown(mark int) bool {
	return t.values != [numMarks]controller.Number{} && t.values[mark].Known()
}

// String tells it in words, without a line break at the end.
func (c Coverage) String() string {
	switch {
	case !c.Asked:
		return fmt.Sprintf("coverage of target %s: no test asks for it", c.Target)
	case len(c.Thresholds)+len(c.Transitions) == 0:
		return fmt.Sprintf("coverage of target %s: all thresholds and transitions", c.Target)
	}
	var lines []string
	if len(c.marks) > 0 {
		lines = append(lines, "thresholds that no test crosses: "+strings.Join(c.marks, ", "))
	}
	if len(c.Transitions) > 0 {
		lines = append(lines, "transitions that no test sees: "+strings.Join(c.Transitions, ", "))
	}
	return strings.Join(slices.Insert(lines, 0, fmt.Sprintf("coverage of target %s:", c.Target)), "\n    ")
}
