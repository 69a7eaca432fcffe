package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
)

// Replica is one replica's coordinator; *client.Client is one, and so is a fleet
// of them. Its methods may be called by several goroutines at once.
type Replica interface {
	controller.Gate

	// Override puts an operator's scale on a provider until ttl is over.
	Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error)

	// ClearOverride ends an operator's override.
	ClearOverride(ctx context.Context, provider, who, reason string) (coordinator.State, error)
}

// override is an operator's scale that is on all replicas.
type override struct {
	scale       float64
	who, reason string
	until       time.Time
	told        map[string]bool // by address
}

// overrideAll puts an operator's scale on every replica.
func (b *budget) overrideAll(ctx context.Context, provider string, o *override) (coordinator.State, error) {
	r, err := b.round(ctx, provider)
	if err != nil {
		return coordinator.State{}, err
	}
	s, err := r.all(ctx, func(ctx context.Context, replica Replica) (coordinator.State, error) {
		return replica.Override(ctx, provider, o.scale, o.who, o.reason, time.Until(o.until))
	})
	var partial *controller.PartialError
	if err == nil || errors.As(err, &partial) {
		for address := range r.states {
			o.told[address] = true
		}
		b.override = o
	}
	return s, err
}

// clear ends an operator's override on every replica.
func (b *budget) clear(ctx context.Context, provider, who, reason string) (coordinator.State, error) {
	r, err := b.round(ctx, provider)
	if err != nil {
		return coordinator.State{}, err
	}
	b.override = nil
	return r.all(ctx, func(ctx context.Context, replica Replica) (coordinator.State, error) {
		return replica.ClearOverride(ctx, provider, who, reason)
	})
}

// all asks every replica for the same.
func (r *round) all(ctx context.Context, do func(context.Context, Replica) (coordinator.State, error)) (coordinator.State, error) {
	r.ask(ctx, 1, r.addresses, func(ctx context.Context, address string) func() {
		s, err := do(ctx, r.gates[address])
		return func() {
			if err != nil {
				r.fail(address, err)
				return
			}
			r.answered(time.Now(), address, s)
		}
	})
	return r.result()
}

// carry puts the override on those that came later or did not hear of it.
func (r *round) carry(ctx context.Context) {
	o := r.override
	if o == nil {
		return
	}
	left := time.Until(o.until)
	if left <= 0 {
		r.override = nil
		return
	}
	var without []string
	for _, address := range r.addresses {
		if _, answered := r.states[address]; answered && !o.told[address] {
			without = append(without, address)
		}
	}
	r.ask(ctx, 1, without, func(ctx context.Context, address string) func() {
		s, err := r.gates[address].Override(ctx, r.provider, o.scale, o.who, o.reason, left)
		return func() {
			if err != nil {
				r.fail(address, err)
				return
			}
			o.told[address] = true
			r.answered(time.Now(), address, s)
		}
	})
}
