package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/postgres"
)

// Case is one way to break things, and what must hold meanwhile.
type Case struct {
	Name  string
	Holds string // what must hold, beside what always must
	Alone bool   // it needs the machine, or the shared database, for itself
	Calm  bool   // it looks whether all is normal, so nothing else may be broken meanwhile

	// What is held against what one would have otherwise; see compare.
	Loop, Scaler bool

	// Change adapts the pipeline and its surroundings before they start; may be nil.
	Change func(*Setup)

	// Break does it. It begins when everything works and is fed, and what it
	// broke is whole again when it returns: from then on the time counts until
	// all is back to normal. An error is something that did not hold.
	Break func(ctx context.Context, w *World) error
}

// Tally is what is counted over cases.
type Tally struct {
	Accepted   int `json:"accepted"`   // items that the pipeline said it had taken
	Lost       int `json:"lost"`       // of these, neither written nor dead-lettered nor dropped, though nobody was killed; or missing though they had been written
	Duplicated int `json:"duplicated"` // rows that are there twice

	OverBudgetSeconds int     `json:"over_budget_seconds"` // in which the provider gave more than it might
	StuckSeconds      float64 `json:"stuck_seconds"`       // beyond the time in which it should have been back to normal
}

func (t *Tally) add(u Tally) {
	t.Accepted += u.Accepted
	t.Lost += u.Lost
	t.Duplicated += u.Duplicated
	t.OverBudgetSeconds += u.OverBudgetSeconds
	t.StuckSeconds += u.StuckSeconds
}

func (t Tally) String() string {
	return fmt.Sprintf("accepted %6d, lost %d, twice %d, over budget %d s, stuck %.1f s", t.Accepted, t.Lost, t.Duplicated, t.OverBudgetSeconds, t.StuckSeconds)
}

// holds reports what always must hold.
func (t Tally) holds() error {
	var errs []error
	if t.Lost > 0 {
		errs = append(errs, fmt.Errorf("%d items are lost", t.Lost))
	}
	if t.Duplicated > 0 {
		errs = append(errs, fmt.Errorf("%d rows are there twice", t.Duplicated))
	}
	if t.OverBudgetSeconds > 0 {
		errs = append(errs, fmt.Errorf("%d seconds are above the budget", t.OverBudgetSeconds))
	}
	if t.StuckSeconds > 0 {
		errs = append(errs, fmt.Errorf("it was back to normal %.1f s too late", t.StuckSeconds))
	}
	return errors.Join(errs...)
}

const (
	// caseLimit bounds one case, apart from the mixed one.
	caseLimit = 4 * time.Minute

	// calm is how long everything has to work before it is broken.
	calm = 2 * time.Second
)

// run makes a world, breaks it, waits until it is whole, and counts.
func (c Case) run(ctx context.Context, dir string, b binaries, store *postgres.Server) (tally Tally, err error) {
	if c.Name != mixedName {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, caseLimit, fmt.Errorf("the case took more than %v", caseLimit))
		defer cancel()
	}
	setup := defaultSetup()
	if c.Change != nil {
		c.Change(&setup)
	}
	w, err := newWorld(ctx, dir, b, store, setup)
	if err != nil {
		return tally, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.begin(ctx); err != nil {
		return tally, fmt.Errorf("begin: %w", err)
	}
	w.say("everything works")
	broken := c.Break(ctx, w)
	w.say("everything is whole again: %v", broken)
	late, err := w.recover(ctx)
	broken = errors.Join(broken, err)
	tally, err = w.end(ctx)
	tally.StuckSeconds += late.Seconds()
	return tally, errors.Join(broken, err, tally.holds(), w.watch.faults())
}
