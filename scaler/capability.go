package scaler

import (
	"math"
	"time"
)

// capability learns from what a coordinator's replicas did how much one of them
// drains when it has enough to do, and whether more of them would drain more.
// It has no clock: time is given. One goroutine uses it.
//
// A replica shows what it is capable of only while there is a backlog. So the
// drain per replica of a busy queue is averaged, and an idle queue teaches
// nothing.
//
// After each scale-out the drain is looked at again once the new replicas had
// time to start. Where it did not rise by at least a part of what the replicas
// did, the store is the limit, not the writers, and is held to be for a while;
// then one more is tried.
type capability struct {
	perReplica float64 // items per second; NaN until seen
	at         time.Time

	replicas int // at the last look
	before   float64
	grewFrom int       // replicas before the scale-out that is watched; 0 while none is
	judgeAt  time.Time // when its effect is judged

	bound      bool
	boundUntil time.Time
}

// Settings of the guard.
const (
	settle = 30 * time.Second // from a scale-out until its effect is judged
	retry  = 5 * time.Minute  // how long the store is held to be the limit

	// enough is the part of the proportional rise that a scale-out has to bring
	// at least. Half of it: the store's own noise is some ten per cent.
	enough = 0.5

	// memory is the time constant of the average of the drain per replica.
	memory = 30 * time.Second

	// busyFor is how many seconds of drain have to wait for the queue to count
	// as busy.
	busyFor = 1.0
)

func newCapability() *capability { return &capability{perReplica: math.NaN()} }

// observe takes one look at a coordinator.
func (c *capability) observe(now time.Time, depth, drain float64, replicas int) {
	if c.bound && !now.Before(c.boundUntil) {
		c.bound = false
	}
	if math.IsNaN(drain) || replicas < 1 {
		c.replicas, c.grewFrom = replicas, 0
		return
	}
	busy := drain > 0 && depth >= busyFor*drain
	if busy {
		c.learn(now, drain/float64(replicas))
	}
	switch {
	case replicas > c.replicas && c.replicas > 0 && busy:
		if c.grewFrom == 0 {
			c.grewFrom, c.before = c.replicas, c.lastDrain(drain)
		}
		c.judgeAt = now.Add(settle)
	case replicas < c.replicas:
		c.grewFrom = 0
	case c.grewFrom > 0 && !now.Before(c.judgeAt):
		c.judge(now, drain, replicas, busy)
	}
	if c.grewFrom == 0 {
		c.before = drain
	}
	c.replicas = replicas
}

// lastDrain is the drain before the scale-out, or the present one at the first
// look.
func (c *capability) lastDrain(drain float64) float64 {
	if c.before > 0 {
		return c.before
	}
	return drain
}

// judge says what a scale-out brought, if the queue was busy to the end of it.
func (c *capability) judge(now time.Time, drain float64, replicas int, busy bool) {
	rise := drain/c.before - 1
	proportional := float64(replicas)/float64(c.grewFrom) - 1
	c.grewFrom = 0
	if busy && rise < enough*proportional {
		c.bound, c.boundUntil = true, now.Add(retry)
	}
}

// learn averages the drain per replica of a busy queue over memory.
func (c *capability) learn(now time.Time, perReplica float64) {
	if math.IsNaN(c.perReplica) {
		c.perReplica = perReplica
	} else {
		weight := 1 - math.Exp(-now.Sub(c.at).Seconds()/memory.Seconds())
		c.perReplica += weight * (perReplica - c.perReplica)
	}
	c.at = now
}
