package writequeue

import "github.com/failsafe-go/failsafe-go/circuitbreaker"

// Status says in one word how a queue is.
type Status string

const (
	StatusOK       Status = "ok"
	StatusDegraded Status = "degraded" // it works, but see the reasons
	StatusStopped  Status = "stopped"  // Run has ended
)

// What makes a queue's health degraded.
const (
	HealthStoreFailing       = "store_failing"        // the last write failed and is tried again
	HealthBreakerOpen        = "breaker_open"         // the store is left alone for a while, or being tried
	HealthDeadLettersFailing = "dead_letters_failing" // items wait that neither the store nor the dead letters take
	HealthFull               = "full"                 // there is no room
	HealthDraining           = "draining"             // stopping: no intake
)

// Health is how a queue is, and why.
type Health struct {
	Status  Status   `json:"status"`
	Reasons []string `json:"reasons,omitempty"` // of the constants above; none when the status is ok
}

// Health returns how the queue is now.
func (q *Queue) Health() Health {
	breaker := q.breaker.State()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return Health{Status: StatusStopped}
	}
	h := Health{Status: StatusOK}
	for _, fault := range []struct {
		is     bool
		reason string
	}{
		{q.failing.Load(), HealthStoreFailing},
		{breaker != circuitbreaker.ClosedState, HealthBreakerOpen},
		{q.unburied > 0, HealthDeadLettersFailing},
		{q.room() <= 0, HealthFull},
		{q.closed, HealthDraining},
	} {
		if fault.is {
			h.Status = StatusDegraded
			h.Reasons = append(h.Reasons, fault.reason)
		}
	}
	return h
}
