package coordinator

import (
	"math"
	"time"

	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/pressure"
)

// news keeps out of the log what goes on about one provider: a law that follows
// a store moves the scale at every tick. What is new is logged, then less and
// less, with the number of those left out. It is guarded as its gate is.
type news struct {
	// As last told, and before that as it came up.
	scale, share float64
	level        pressure.Level

	moves     seldom.Changes
	leases    seldom.Line // that ran out
	coolDowns seldom.Line // that were begun anew while they lasted
	broken    seldom.Condition
}

// worthTelling is the change of a scale, and the part of a share by which it has
// to change, that an operator would want to hear of.
const worthTelling = 0.05

// look takes in what the scale, the share and the level are after a request, and
// whether it changed the first two. It reports whether they are to be told: with
// a new level always, else where the change is worth it.
func (n *news) look(now time.Time, changed bool, scale, share float64, level pressure.Level) (leftOut int, tell bool) {
	worth := (scale == 0) != (n.scale == 0) || (scale == 1) != (n.scale == 1) ||
		math.Abs(scale-n.scale) >= worthTelling || math.Abs(share-n.share) >= worthTelling*n.share
	leftOut, tell = n.moves.Now(now, changed && worth)
	if changed && level != n.level && !tell {
		leftOut, tell = n.moves.Told(), true
	}
	if tell {
		n.told(scale, share, level)
	}
	return leftOut, tell
}

// told notes what the log has said.
func (n *news) told(scale, share float64, level pressure.Level) {
	n.scale, n.share, n.level = scale, share, level
}

// ignored counts what is asked for by mistake and is ignored with a warning.
type ignored struct {
	outcome, coolDown, scale, pressure, level seldom.Shared
}

// warn logs a warning, less and less where it goes on.
func (c *Coordinator) warn(of *seldom.Shared, message string, attributes ...any) {
	if leftOut, tell := of.Tell(time.Now()); tell {
		c.log.Warn(message, append(attributes, "left_out", leftOut)...)
	}
}
