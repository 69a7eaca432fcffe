package coordinator

import (
	"context"
	"time"
)

// SharedBudget is where the replicas that share one provider's budget draw their
// tokens from, each some ahead. Its methods are called one at a time.
//
// It counts every replica that has drawn within the last while as one that is
// there, and keeps from the others what one that is not there may be using of the
// budget by itself.
type SharedBudget interface {
	// Terms returns what the times of a draw are bound by. They do not change.
	Terms() SharedTerms

	// Reach fails where the budget cannot be reached. It changes nothing there: the
	// replica does not count as one that is there.
	Reach(ctx context.Context) error

	// Draw takes tokens. Where it fails it may have taken them all the same, and
	// the replica may count as one that is there.
	Draw(ctx context.Context, d Draw) (Drawn, error)
}

// SharedTerms are the times of a shared budget.
type SharedTerms struct {
	// Hold is how long a token may be used after the draw was sent.
	Hold time.Duration

	// Every is the longest time from one draw to the next of a replica that is there.
	Every time.Duration

	// Timeout bounds a call.
	Timeout time.Duration

	// Lost is how long after its last draw was sent a replica may use its own share
	// of the budget: the others are then kept from it, and what they drew before is
	// used.
	Lost time.Duration
}

// Draw is what a replica asks of a shared budget.
type Draw struct {
	// Need is how many tokens must come at once to be of any use; with 0 none are
	// drawn, and the replica only shows that it is there.
	Need int

	Want   int     // how many it would take, >= Need
	Unused float64 // of what it drew before, and now gives back

	// Share is the part of the budget that it falls back to where it cannot draw, in
	// (0, 1]. With 0 it leaves.
	Share float64
}

// Drawn is what a replica got.
type Drawn struct {
	Tokens int           // as many as it needs at least, or none
	Wait   time.Duration // when to ask for more, at the earliest
}
