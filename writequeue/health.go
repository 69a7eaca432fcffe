package writequeue

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
	HealthQueueUnreachable   = "queue_unreachable"    // the durable queue does not answer
)

// Health is how a queue is, and why.
type Health struct {
	Status  Status   `json:"status"`
	Reasons []string `json:"reasons,omitempty"` // of the constants above; none when the status is ok
}

// Health returns how the queue is now.
func (q *Queue) Health() Health {
	reasons := q.writer.Faults()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.room() <= 0 {
		reasons = append(reasons, HealthFull)
	}
	if q.closed {
		reasons = append(reasons, HealthDraining)
	}
	return NewHealth(q.stopped, reasons)
}

// NewHealth is the health of a queue that has ended, or of one that runs and has
// these faults.
func NewHealth(stopped bool, reasons []string) Health {
	switch {
	case stopped:
		return Health{Status: StatusStopped}
	case len(reasons) > 0:
		return Health{Status: StatusDegraded, Reasons: reasons}
	}
	return Health{Status: StatusOK}
}
