package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/overrides"
	"github.com/headgate/headgate/coordinator"
	coordinatorclient "github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/settings"
)

// Override are the commands about overrides.
type Override struct {
	Set   Set   `cmd:"" help:"Override a provider's scale for a time."`
	List  List  `cmd:"" help:"Show the overrides in force."`
	Clear Clear `cmd:"" help:"End an override before its time."`
}

// Choosing are the flags that say at which coordinator a provider is meant.
type Choosing struct {
	Target         string `placeholder:"NAME" predictor:"target" help:"At the coordinator where this target throttles it."`
	All            bool   `help:"At every coordinator where a target throttles it."`
	CoordinatorURL string `placeholder:"ADDRESS" help:"At this coordinator, without asking the controller."`
	By             string `placeholder:"NAME" help:"Who does it, for the audit log. Default: HEADGATE_OPERATOR, or USER@host."`
}

// Set overrides a provider's scale.
type Set struct {
	Asking
	Choosing
	Provider string        `arg:"" predictor:"provider" help:"Name of the provider."`
	Scale    float64       `arg:"" help:"From 0, which lets the floor through, to 1, the base rate."`
	For      time.Duration `required:"" placeholder:"DURATION" help:"When it ends by itself, such as 15m; at most 168h."`
	Reason   string        `required:"" placeholder:"TEXT" help:"Why, for the audit log and all who see a decision."`
}

// Help is what kong adds to the command's help.
func (Set) Help() string {
	return `The provider runs at the lowest of the scales in force, so an override can slow it
and not speed it up. It lives at the coordinator: it outlives a restart of the
controller, and ends at its expiry whatever becomes of the controller. One that is
in force already is replaced. The exit status is 1 where a coordinator did not do
it; which ones did is printed all the same.`
}

// List shows the overrides in force.
type List struct {
	Asking
	CoordinatorURL string `placeholder:"ADDRESS" help:"Those at this coordinator, without asking the controller."`
}

// Help is what kong adds to the command's help.
func (List) Help() string {
	return `The exit status is 3 where a coordinator could not be read, so that there may be
others.`
}

// Clear ends an override.
type Clear struct {
	Asking
	Choosing
	Provider string `arg:"" predictor:"provider" help:"Name of the provider."`
	Reason   string `placeholder:"TEXT" help:"Why, for the audit log."`
}

// Help is what kong adds to the command's help.
func (Clear) Help() string {
	return `That there is none is no error. The exit status is 1 where a coordinator did not do
it; which ones did is printed all the same.`
}

// ErrNotAll says that not every coordinator did what was asked.
var ErrNotAll = errors.New("not every coordinator did it")

// results is what the controller answers, and what a coordinator's answer is
// made to look like.
type results struct {
	Results []overrides.Result `json:"results"`
}

// Run sets the override and prints what is in force after it.
func (c *Set) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	who, whoErr := c.who(s, ask.operator)
	if c.For <= 0 {
		whoErr = errors.Join(whoErr, invalid.New("--for", c.For, "a duration above 0, such as 15m"))
	}
	if c.Reason == "" {
		whoErr = errors.Join(whoErr, invalid.New("--reason", c.Reason, "why the override is needed"))
	}
	if !(c.Scale >= 0 && c.Scale <= 1) {
		whoErr = errors.Join(whoErr, invalid.New("SCALE", c.Scale, "a number in [0, 1]"))
	}
	if err := errors.Join(err, whoErr); err != nil {
		return err
	}
	if c.CoordinatorURL != "" {
		return c.direct(ctx, s, ask, c.Asking, c.Provider, func(ctx context.Context, to *coordinatorclient.Client) (coordinator.State, error) {
			return to.Override(ctx, c.Provider, c.Scale, who, c.Reason, c.For)
		})
	}
	body := map[string]any{"scale": c.Scale, "ttl": c.For.String(), "holder": who, "reason": c.Reason}
	if c.Target != "" {
		body["target"] = c.Target
	}
	if c.All {
		body["all"] = true
	}
	return forwarded(ctx, s, ask, c.Asking, http.MethodPut, c.Provider, nil, body)
}

// Run clears the override and prints what is in force after it.
func (c *Clear) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	who, whoErr := c.who(s, ask.operator)
	if err := errors.Join(err, whoErr); err != nil {
		return err
	}
	if c.CoordinatorURL != "" {
		return c.direct(ctx, s, ask, c.Asking, c.Provider, func(ctx context.Context, to *coordinatorclient.Client) (coordinator.State, error) {
			return to.ClearOverride(ctx, c.Provider, who, c.Reason)
		})
	}
	query := url.Values{"holder": {who}}
	if c.Reason != "" {
		query.Set("reason", c.Reason)
	}
	if c.Target != "" {
		query.Set("target", c.Target)
	}
	if c.All {
		query.Set("all", "true")
	}
	return forwarded(ctx, s, ask, c.Asking, http.MethodDelete, c.Provider, query, nil)
}

// who is the operator's name. The error joins an *invalid.Value for each flag
// that does not go with another.
func (c Choosing) who(s *Session, op settings.Operator) (string, error) {
	var errs []error
	if c.Target != "" && c.All {
		errs = append(errs, invalid.New("--target", c.Target, "none where --all is given"))
	}
	if c.CoordinatorURL != "" && (c.Target != "" || c.All) {
		errs = append(errs, invalid.New("--coordinator-url", c.CoordinatorURL, "none where --target or --all is given"))
	}
	who := cmp.Or(c.By, op.Name)
	if who == "" {
		lookup := settings.Environ(s.Environ)
		user, _ := lookup("USER")
		if user == "" {
			user, _ = lookup("LOGNAME")
		}
		if user == "" {
			errs = append(errs, invalid.Missing("--by", "your name: neither HEADGATE_OPERATOR nor USER is set"))
		}
		who = user + "@" + s.Host
	}
	return who, errors.Join(errs...)
}

// direct asks a coordinator without the controller.
func (c Choosing) direct(ctx context.Context, s *Session, ask connection, flags Asking, provider string,
	do func(context.Context, *coordinatorclient.Client) (coordinator.State, error)) error {
	to, err := newCoordinator(c.CoordinatorURL, ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ask.timeout)
	defer cancel()
	state, err := do(ctx, to)
	if err != nil {
		return ofCoordinator(err)
	}
	place := &overrides.Place{Provider: provider, CoordinatorURL: c.CoordinatorURL, Targets: []string{}}
	return printResults(s, flags, results{[]overrides.Result{{Place: place, State: &state}}})
}

func newCoordinator(address string, ask connection) (*coordinatorclient.Client, error) {
	to, err := coordinatorclient.New(address, ask.http)
	if err != nil {
		return nil, invalid.New("--coordinator-url", address, "an address such as http://127.0.0.1:9400")
	}
	return to, nil
}

// ofCoordinator makes a coordinator's refusal look like a controller's.
func ofCoordinator(err error) error {
	var said *coordinatorclient.Error
	if !errors.As(err, &said) {
		return err
	}
	return &Refusal{Status: said.Status, Message: said.Message, Fields: said.Fields, from: "the coordinator"}
}

// forwarded lets the controller ask the coordinators.
func forwarded(ctx context.Context, s *Session, ask connection, flags Asking, method, provider string, query url.Values, body any) error {
	data, _, err := ask.call(ctx, method, "/v1/overrides/"+url.PathEscape(provider), query, body)
	var refused *Refusal
	var all results
	if errors.As(err, &refused) && refused.Status == http.StatusBadGateway {
		// Some of them did not do it. Another server's 502 has no results.
		if decode(refused.body, &all) == nil && len(all.Results) > 0 {
			return printResults(s, flags, all)
		}
	}
	if err != nil {
		return err
	}
	if err := decode(data, &all); err != nil {
		return err
	}
	return printResults(s, flags, all)
}

// printResults prints what became of a request. Its error is ErrNotAll where
// that is so.
func printResults(s *Session, flags Asking, all results) error {
	failed := false
	for _, r := range all.Results {
		failed = failed || r.Error != ""
	}
	var err error
	if flags.json() {
		err = s.printJSON(all)
	} else {
		err = tellResults(s, all)
	}
	if err == nil && failed {
		return ErrNotAll
	}
	return err
}

func tellResults(s *Session, all results) error {
	now, p := s.Now(), page{to: s.Out}
	t := newTable("PROVIDER", "COORDINATOR", "OVERRIDE", "UNTIL", "IN FORCE", "RATE/S")
	var notes []string
	for _, r := range all.Results {
		if r.Error != "" {
			notes = append(notes, fmt.Sprintf("%s at %s: %s", r.Provider, r.CoordinatorURL, r.Error))
		}
		if r.State == nil {
			t.add(r.Provider, r.CoordinatorURL, "not done", none, none, none)
			continue
		}
		override, ends := none, none
		if o := controller.OverrideOf(now, *r.State); o != nil {
			override, ends = scale(o.Scale), until(now, o.ExpiresAt)
			if r.State.Scale < float64(o.Scale) {
				notes = append(notes, fmt.Sprintf("%s at %s: another scale is lower and stays in force: %s", r.Provider, r.CoordinatorURL, lowest(*r.State)))
			}
		}
		t.add(r.Provider, r.CoordinatorURL, override, ends, figures.Scale(r.State.Scale), figures.Number(r.State.EffectivePerSecond))
	}
	p.table(t)
	for _, note := range notes {
		p.printf("! %s\n", note)
	}
	return p.err
}

// lowest tells the scale in force and whose it is.
func lowest(state coordinator.State) string {
	for _, s := range state.Scales {
		if s.Scale == state.Scale {
			return fmt.Sprintf("%s of %s", figures.Scale(s.Scale), s.Owner)
		}
	}
	return figures.Scale(state.Scale)
}

// listed is what a list holds.
type listed struct {
	Overrides []overrides.View   `json:"overrides"`
	Unread    []overrides.Unread `json:"unread"`
}

// Run prints the overrides in force. Its error is ErrUnwell where a coordinator
// could not be read.
func (c *List) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	all := listed{Overrides: []overrides.View{}, Unread: []overrides.Unread{}}
	if c.CoordinatorURL != "" {
		err = c.direct(ctx, s, ask, &all)
	} else {
		_, _, err = ask.get(ctx, "/v1/overrides", nil, &all)
	}
	if err != nil {
		return err
	}
	if c.json() {
		err = s.printJSON(all)
	} else {
		err = tellList(s, all)
	}
	if err == nil && len(all.Unread) > 0 {
		return ErrUnwell
	}
	return err
}

// direct asks a coordinator without the controller.
func (c *List) direct(ctx context.Context, s *Session, ask connection, all *listed) error {
	from, err := newCoordinator(c.CoordinatorURL, ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ask.timeout)
	defer cancel()
	states, err := from.States(ctx)
	if err != nil {
		return ofCoordinator(err)
	}
	now := s.Now()
	for _, state := range states {
		if o := controller.OverrideOf(now, state); o != nil {
			place := &overrides.Place{Provider: state.Provider, CoordinatorURL: c.CoordinatorURL, Targets: []string{}}
			all.Overrides = append(all.Overrides, overrides.View{Place: place, Override: o})
		}
	}
	return nil
}

func tellList(s *Session, all listed) error {
	now, p := s.Now(), page{to: s.Out}
	t := newTable("PROVIDER", "COORDINATOR", "TARGETS", "SCALE", "UNTIL", "BY", "REASON")
	for _, o := range all.Overrides {
		t.add(o.Provider, o.CoordinatorURL, cmp.Or(list(o.Targets), none), scale(o.Scale), until(now, o.ExpiresAt), o.Holder, o.Reason)
	}
	if t.empty() {
		p.printf("no override is in force\n")
	} else {
		p.table(t)
	}
	for _, u := range all.Unread {
		p.printf("! %s at %s is not known: %s\n", u.Provider, u.CoordinatorURL, u.Error)
	}
	return p.err
}
