package controller

import (
	"time"

	"github.com/headgate/headgate/internal/seldom"
)

// news decides which decisions about one provider are told in the log: a change
// of the level or of an override always; what is amiss at once when it is new,
// and less and less where it comes and goes; and the same for a scale that moves
// while nothing else changes.
type news struct {
	// As last told; the level is empty before the first.
	level    string
	override Override
	told     amiss

	before  amiss // at the decision before, told or not
	amiss   seldom.State[amiss]
	moves   seldom.Changes // of the scale
	leftOut int            // since the last that was told
}

// amiss is what of a decision is not as it should be; all of it is empty where
// nothing is.
type amiss struct {
	reason     Reason
	fault      Fault
	outcome    Outcome
	applyFault ApplyFault
	holder     string
}

func (d *Decision) amiss() amiss {
	a := amiss{d.Reason, d.Fault, d.Outcome, d.ApplyFault, d.Holder}
	if a.reason == ReasonLaw {
		a.reason = ""
	}
	if a.outcome == OutcomeApplied || a.outcome == OutcomeDryRun {
		a.outcome = ""
	}
	return a
}

// look takes in a decision. It reports whether that is to be told, and how many
// changes were left out since the last that was.
func (n *news) look(now time.Time, d *Decision) (leftOut int, tell bool) {
	level, amiss := d.levelName(), d.amiss()
	var override Override
	if d.Override != nil {
		override = *d.Override
		override.ExpiresAt = time.Time{} // which is worked out anew at each look
	}
	still := amiss == n.before
	n.before = amiss
	_, turned := n.amiss.Now(now, amiss)
	switch {
	case level != n.level || override != n.override:
		n.level, n.override = level, override
		n.amiss.Told(amiss)
		n.moves = seldom.Changes{}
		tell = true
	case turned:
		tell = true
	case still && amiss == n.told:
		_, tell = n.moves.Now(now, d.Changed)
	}
	switch {
	case tell:
		n.told = amiss
		n.moves.Told()
		leftOut, n.leftOut = n.leftOut, 0
	case d.Changed:
		n.leftOut++
	}
	return leftOut, tell
}
