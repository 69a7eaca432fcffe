package controller

import (
	"time"

	"github.com/headgate/headgate/controller/shard"
)

// Health is how the loop itself does.
type Health struct {
	Holder          string       `json:"holder"`          // of the leases
	Shard           *shard.Shard `json:"shard,omitempty"` // which part of the targets these are; nil where it is all
	IntervalSeconds float64      `json:"interval_seconds"`
	Ticks           uint64       `json:"ticks"`
	LastTick        *time.Time   `json:"last_tick"` // when it ended; null before the first
	TickSeconds     float64      `json:"tick_seconds"`

	Queries      uint64     `json:"queries"` // answered or failed
	QueryErrors  uint64     `json:"query_errors"`
	QueryError   string     `json:"query_error,omitempty"` // of the last query; empty where it was answered
	QueryPending bool       `json:"query_pending"`         // one is under way
	LastSnapshot *time.Time `json:"last_snapshot"`         // when it came; null before the first
}

// Health returns how the loop does.
func (c *Controller) Health() Health {
	c.mu.RLock()
	defer c.mu.RUnlock()
	h := c.health
	h.Holder, h.IntervalSeconds, h.Shard = c.config.Holder, c.config.Interval.Seconds(), c.shard()
	return h
}

// shard is the controller's part of the targets, nil where that is all.
func (c *Controller) shard() *shard.Shard {
	if c.config.Shard.Only() {
		return nil
	}
	return &c.config.Shard
}

// Ticked returns a channel that is closed when the next tick has ended. Whoever
// asks for it before looking at what there is misses nothing.
func (c *Controller) Ticked() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.ticked
}

// Row is a target and its last decisions. Neither is ever changed.
type Row struct {
	Target *Target
	Latest []*Decision // of each provider, in their order; nil before the first
}

// Rows returns all targets in their order.
func (c *Controller) Rows() []Row {
	c.mu.RLock()
	defer c.mu.RUnlock()
	rows := make([]Row, len(c.rows))
	for i, r := range c.rows {
		rows[i] = Row{&r.target, r.latest}
	}
	return rows
}

// answered notes what came of a read.
func (c *Controller) answered(r readResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.Queries++
	c.health.QueryError = ""
	if r.err != nil {
		c.health.QueryErrors++
		c.health.QueryError = r.err.Error()
		return
	}
	c.health.LastSnapshot = &r.at
}

// ended tells those who wait that a tick that began at start is over.
func (c *Controller) ended(start time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.Ticks++
	c.health.LastTick, c.health.TickSeconds = &now, now.Sub(start).Seconds()
	c.health.QueryPending = c.inFlight
	close(c.ticked)
	c.ticked = make(chan struct{})
}
