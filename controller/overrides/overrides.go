// Package overrides lets operators override the scales of the providers that a
// controller throttles.
//
// An override lives at the provider's coordinator, which ends it at its expiry:
// it outlives the controller that forwarded it. Every override has an expiry and
// a reason, and is written to the audit log here and there.
package overrides

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
)

// Coordinator holds overrides; *client.Client is one. Its methods may be called
// by several goroutines at once.
type Coordinator interface {
	Override(ctx context.Context, provider string, scale float64, who, reason string, ttl time.Duration) (coordinator.State, error)
	ClearOverride(ctx context.Context, provider, who, reason string) (coordinator.State, error)
}

// Loop says what was read back of the providers at the last tick;
// *controller.Controller is one.
type Loop interface {
	Rows() []controller.Row
}

// Place is a provider at its coordinator.
type Place struct {
	Provider       string   `json:"provider"`
	CoordinatorURL string   `json:"coordinator_url"`
	Targets        []string `json:"targets"` // that throttle it, in their order

	coordinator Coordinator
}

// placeKey tells places apart.
type placeKey struct{ provider, url string }

// Desk takes overrides to the coordinators. Its methods may be called by
// several goroutines at once.
type Desk struct {
	loop    Loop
	timeout time.Duration
	log     *slog.Logger
	places  []*Place // in the order of the targets

	mu    sync.Mutex
	fresh map[placeKey]readBack // what was read back here since the loop's last decision
}

// readBack is the override at a place at a time; nil is none.
type readBack struct {
	at       time.Time
	override *controller.Override
}

// atOnce is how many coordinators are talked to side by side.
const atOnce = 16

// New returns a desk for the providers of the loop's targets. Each target's
// coordinator is found by its address, and may take timeout to answer.
func New(loop Loop, coordinators map[string]Coordinator, timeout time.Duration, log *slog.Logger) (*Desk, error) {
	d := &Desk{loop: loop, timeout: timeout, log: log, fresh: map[placeKey]readBack{}}
	known := map[placeKey]*Place{}
	for _, row := range loop.Rows() {
		for _, p := range row.Target.Providers {
			key := placeKey{p.Name, p.URL}
			place := known[key]
			if place == nil {
				c, found := coordinators[p.URL]
				if !found {
					return nil, fmt.Errorf("no coordinator for provider %q at %q of target %q", p.Name, p.URL, row.Target.Name)
				}
				place = &Place{Provider: p.Name, CoordinatorURL: p.URL, coordinator: c}
				known[key] = place
				d.places = append(d.places, place)
			}
			place.Targets = append(place.Targets, row.Target.Name)
		}
	}
	return d, nil
}

// Selection says at which of its coordinators a provider is meant.
type Selection struct {
	Provider string
	Target   string // where this target throttles it; empty where it does not matter
	All      bool   // at every coordinator that has it
}

// AmbiguousError says that a provider is throttled at several coordinators and
// that it was not said which one is meant.
type AmbiguousError struct {
	Provider string
	Places   []*Place
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("provider %q is throttled at %d coordinators: name one of their targets, or ask for all", e.Provider, len(e.Places))
}

// UnknownError says that no target throttles such a provider. It wraps an
// *invalid.Value.
type UnknownError struct{ value *invalid.Value }

func (e *UnknownError) Error() string { return e.value.Error() }

// Unwrap returns the *invalid.Value.
func (e *UnknownError) Unwrap() error { return e.value }

// find returns the places that are meant: one, or all.
func (d *Desk) find(s Selection) ([]*Place, error) {
	if s.Target != "" && s.All {
		return nil, invalid.New("target", s.Target, "none, or all not asked for: either one target is meant or all")
	}
	var found []*Place
	named := false
	for _, p := range d.places {
		at := s.Target == "" || slices.Contains(p.Targets, s.Target)
		named = named || at
		if p.Provider == s.Provider && at {
			found = append(found, p)
		}
	}
	switch {
	case s.Target != "" && !named:
		return nil, &UnknownError{invalid.New("target", s.Target, "the name of a target, as /v1/targets lists them")}
	case len(found) == 0 && s.Target != "":
		return nil, &UnknownError{invalid.New("provider", s.Provider, fmt.Sprintf("one that target %q throttles", s.Target))}
	case len(found) == 0:
		return nil, &UnknownError{invalid.New("provider", s.Provider, "one that a target throttles, as /v1/targets lists them")}
	case len(found) > 1 && !s.All:
		return nil, &AmbiguousError{s.Provider, found}
	}
	return found, nil
}

// Request is an override that somebody asks for.
type Request struct {
	Scale  float64       // in [0, 1]
	TTL    time.Duration // until it ends by itself
	Holder string        // who asks
	Reason string        // why
}

// validate reports every field that is wrong, joined. A scale beyond [0, 1]
// would be clamped by the coordinator; from a person it is a slip.
func (r Request) validate() error {
	var errs []error
	asked := coordinator.ScaleRequest{Owner: coordinator.OwnerOperator, Holder: r.Holder, Scale: r.Scale, Reason: r.Reason, TTL: r.TTL}
	if r.Scale < 0 || r.Scale > 1 {
		errs = append(errs, invalid.New("scale", r.Scale, "a number in [0, 1]"))
	}
	return errors.Join(append(errs, asked.Validate())...)
}

// Result is what became of a request at one place.
type Result struct {
	*Place
	State *coordinator.State `json:"state"`           // read back; null where nobody did it
	Error string             `json:"error,omitempty"` // why it is not known to have been done, or not by all replicas
}

// Set puts an override in force at the places that are meant, and tells what
// became of it at each. The error says that the request was wrong and nothing
// was done: it is an *AmbiguousError or an *UnknownError, or joins an
// *invalid.Value for each wrong field.
func (d *Desk) Set(ctx context.Context, s Selection, r Request, from string) ([]Result, error) {
	places, err := d.find(s)
	if err := errors.Join(err, r.validate()); err != nil {
		return nil, err
	}
	ask := func(ctx context.Context, p *Place) (coordinator.State, error) {
		return p.coordinator.Override(ctx, p.Provider, r.Scale, r.Holder, r.Reason, r.TTL)
	}
	return d.forward(ctx, places, ask, func(p *Place, err error) {
		d.audit("set", p, r.Holder, r.Reason, from, err, "scale", r.Scale,
			"expires_at", time.Now().Add(r.TTL).Round(time.Second).UTC().Format(time.RFC3339))
	}), nil
}

// Clear ends the overrides at the places that are meant, as Set puts them in
// force. That there is none is no error.
func (d *Desk) Clear(ctx context.Context, s Selection, holder, reason, from string) ([]Result, error) {
	places, err := d.find(s)
	// What is right in a request to set one is right here too.
	asked := Request{Scale: 1, TTL: time.Second, Holder: holder, Reason: cmp.Or(reason, "none")}
	if err := errors.Join(err, asked.validate()); err != nil {
		return nil, err
	}
	ask := func(ctx context.Context, p *Place) (coordinator.State, error) {
		return p.coordinator.ClearOverride(ctx, p.Provider, holder, reason)
	}
	return d.forward(ctx, places, ask, func(p *Place, err error) {
		d.audit("cleared", p, holder, reason, from, err)
	}), nil
}

// forward asks all places side by side. What was begun is brought to its end,
// though the one who asked may have gone.
func (d *Desk) forward(ctx context.Context, places []*Place, ask func(context.Context, *Place) (coordinator.State, error), audit func(*Place, error)) []Result {
	results := make([]Result, len(places))
	ctx = context.WithoutCancel(ctx)
	var asking errgroup.Group
	asking.SetLimit(atOnce)
	for i, p := range places {
		asking.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, d.timeout)
			defer cancel()
			state, err := ask(ctx, p)
			audit(p, err)
			results[i] = Result{Place: p}
			var partial *controller.PartialError
			if err != nil {
				results[i].Error = err.Error()
			}
			if err == nil || errors.As(err, &partial) { // some of several replicas did it
				results[i].State = &state
				d.note(p, state)
			}
			return nil
		})
	}
	_ = asking.Wait() // no call returns an error
	return results
}

// note remembers what was read back, until the loop has read it too.
func (d *Desk) note(p *Place, state coordinator.State) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh[placeKey{p.Provider, p.CoordinatorURL}] = readBack{now, controller.OverrideOf(now, state)}
}

// audit logs what was forwarded, with the keys that the coordinator's records
// have too, and from where and whether it came through.
func (d *Desk) audit(action string, p *Place, holder, reason, from string, err error, more ...any) {
	attrs := append([]any{
		"audit", "override", "action", action, "provider", p.Provider, "holder", holder, "reason", reason,
		"coordinator", p.CoordinatorURL, "targets", p.Targets, "from", from,
	}, more...)
	if err != nil {
		d.log.Error("override not forwarded", append(attrs, "error", err)...)
		return
	}
	d.log.Warn("override forwarded", attrs...)
}

// View is an override in force.
type View struct {
	*Place
	*controller.Override
}

// Unread is a place of which it is not known whether there is an override.
type Unread struct {
	*Place
	Error string `json:"error"`
}

// List returns the overrides in force, as they were read back at the last tick
// or since, by their expiry; and the places that could not be read, where there
// may be others.
func (d *Desk) List(now time.Time) ([]View, []Unread) {
	type seen struct {
		at       time.Time
		override *controller.Override
		fault    string
	}
	last := map[placeKey]seen{}
	for _, row := range d.loop.Rows() {
		for i, p := range row.Target.Providers {
			key := placeKey{p.Name, p.URL}
			switch {
			case row.Target.Disabled:
				if _, found := last[key]; !found {
					last[key] = seen{fault: "its targets are disabled, so it is not read"}
				}
			case i >= len(row.Latest):
				last[key] = seen{fault: "it was not read yet"}
			default:
				decision := row.Latest[i]
				last[key] = seen{decision.At, decision.Override, decision.ApplyError}
			}
		}
	}
	views, unread := []View{}, []Unread{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.places {
		key := placeKey{p.Provider, p.CoordinatorURL}
		s := last[key]
		if fresh, found := d.fresh[key]; found {
			if s.fault == "" && s.at.After(fresh.at) {
				delete(d.fresh, key)
			} else {
				s.override = fresh.override
			}
		}
		if s.fault != "" {
			unread = append(unread, Unread{p, s.fault})
		}
		if s.override != nil && s.override.ExpiresAt.After(now) {
			views = append(views, View{p, s.override})
		}
	}
	slices.SortStableFunc(views, func(a, b View) int {
		return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), cmp.Compare(a.Provider, b.Provider))
	})
	return views, unread
}
