// Package httpapi serves a coordinator over HTTP: for the controller, which
// puts leased scales on providers; for operators; for queues elsewhere that
// send feedback; and for pipelines in any language that acquire tokens.
//
// Bodies are JSON, of at most 64 KiB. Every error is a JSON object that names
// the fields that were wrong, and changes nothing.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/jsonbody"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pressure"
)

const (
	maxBody = 64 << 10

	// longestAcquire bounds how long one request waits for its tokens.
	longestAcquire = 5 * time.Minute
)

// API serves one coordinator. It is made by New.
type API struct {
	gate    *coordinator.Coordinator
	bus     *feedback.Bus
	log     *slog.Logger
	stopped <-chan struct{}
}

// Route is one thing that the API can do.
type Route struct {
	Method, Pattern string      // as http.ServeMux has them
	Role            access.Role // of those who may ask for it
	Help            string      // one phrase

	handle  func(*API, http.ResponseWriter, *http.Request) error
	streams int           // how many may be open at once, where answers last
	waits   time.Duration // before an answer, at most
}

// mostStreams is how many may follow the changes at once.
const mostStreams = 256

// Routes lists all of them.
func Routes() []Route {
	return []Route{
		{Method: "GET", Pattern: "/v1/providers", Role: access.Read, Help: "the state of every provider", handle: (*API).states},
		{Method: "GET", Pattern: "/v1/providers/{provider}", Role: access.Read, Help: "the state of one provider", handle: (*API).state},
		{Method: "PUT", Pattern: "/v1/providers/{provider}/scale", Role: access.Apply, Help: "put a leased scale on a provider", handle: (*API).scale},
		{Method: "PUT", Pattern: "/v1/providers/{provider}/override", Role: access.Override, Help: "override a provider's scale for a time", handle: (*API).override},
		{Method: "DELETE", Pattern: "/v1/providers/{provider}/override", Role: access.Override, Help: "end an override before its time", handle: (*API).clearOverride},
		{Method: "POST", Pattern: "/v1/providers/{provider}/acquire", Role: access.Feed, Help: "take tokens, waiting for them up to a time", handle: (*API).acquire, waits: longestAcquire},
		{Method: "POST", Pattern: "/v1/providers/{provider}/outcome", Role: access.Feed, Help: "tell how a call to the provider went", handle: (*API).outcome},
		{Method: "POST", Pattern: "/v1/providers/{provider}/cool-down", Role: access.Feed, Help: "start a cool-down of one of the provider's scopes", handle: (*API).coolDown},
		{Method: "POST", Pattern: "/v1/feedback", Role: access.Feed, Help: "publish a feedback event", handle: (*API).feedback},
		{Method: "POST", Pattern: "/feedback", Role: access.Feed, Help: "the same", handle: (*API).feedback},
		{Method: "GET", Pattern: "/v1/changes", Role: access.Read, Help: "a stream of changes, as server-sent events", handle: (*API).changes, streams: mostStreams},
	}
}

// New returns the handler of all routes, for those whom the guard lets in.
// Streams end when ctx does, so that a server can shut down; bus may not be nil.
func New(ctx context.Context, gate *coordinator.Coordinator, bus *feedback.Bus, log *slog.Logger, guard *access.Guard) http.Handler {
	return route.Mux(Serving(ctx, gate, bus, log), guard)
}

// Serving is what New serves: all routes, and the answers to wrong methods and
// to paths that there are not.
func Serving(ctx context.Context, gate *coordinator.Coordinator, bus *feedback.Bus, log *slog.Logger) []route.Route {
	api := &API{gate: gate, bus: bus, log: log, stopped: ctx.Done()}
	var all []route.Route
	allowed := map[string]string{} // methods by pattern
	for _, listed := range Routes() {
		all = append(all, route.Route{
			Pattern: listed.Method + " " + listed.Pattern, Role: listed.Role, Help: listed.Help, Streams: listed.streams, Waits: listed.waits,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Body = http.MaxBytesReader(w, r.Body, maxBody)
				if err := listed.handle(api, w, r); err != nil {
					api.fail(w, r, err)
				}
			}),
		})
		if methods := allowed[listed.Pattern]; methods != "" {
			allowed[listed.Pattern] = methods + ", " + listed.Method
		} else {
			allowed[listed.Pattern] = listed.Method
		}
	}
	for pattern, methods := range allowed {
		all = append(all, route.Route{Pattern: pattern, Role: access.Open, Help: "the answer to other methods", Handler: http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Allow", methods)
				answer(w, http.StatusMethodNotAllowed, problem{Error: fmt.Sprintf("method %.20q: want %s", r.Method, methods)})
			})})
	}
	return append(all, route.Route{Pattern: "/", Role: access.Open, Help: "the answer to other paths", Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			answer(w, http.StatusNotFound, problem{Error: fmt.Sprintf("no such path: %.200q", r.URL.Path)})
		})})
}

func (a *API) states(w http.ResponseWriter, _ *http.Request) error {
	answer(w, http.StatusOK, map[string]any{"providers": a.gate.States()})
	return nil
}

func (a *API) state(w http.ResponseWriter, r *http.Request) error {
	state, err := a.gate.State(r.PathValue("provider"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, state)
	return nil
}

func (a *API) scale(w http.ResponseWriter, r *http.Request) error {
	return a.apply(w, r, decodeScale)
}

func (a *API) override(w http.ResponseWriter, r *http.Request) error {
	return a.apply(w, r, decodeOverride)
}

func (a *API) apply(w http.ResponseWriter, r *http.Request, decode func([]byte) (coordinator.ScaleRequest, error)) error {
	provider := r.PathValue("provider")
	if _, err := a.gate.State(provider); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	request, err := decode(body)
	if err != nil {
		return err
	}
	state, err := a.gate.Apply(provider, request)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, state)
	return nil
}

// scaleBody is a request for a scale as JSON has it. Pointers tell an absent
// member from a zero.
type scaleBody struct {
	Scale    *float64        `json:"scale"`
	Share    *float64        `json:"share"`
	Level    *pressure.Level `json:"level"`
	Reason   string          `json:"reason"`
	TTL      json.RawMessage `json:"ttl"`
	Holder   string          `json:"holder"`
	Sequence *uint64         `json:"sequence"`
}

const (
	wantScale = "a number; it is clamped to [0, 1]"
	wantShare = "a number in (0, 1]; absent it is 1"
)

// decodeScale reads what a controller asks for.
func decodeScale(body []byte) (coordinator.ScaleRequest, error) {
	return decodeRequest(body, coordinator.OwnerController)
}

// decodeOverride reads what an operator asks for.
func decodeOverride(body []byte) (coordinator.ScaleRequest, error) {
	return decodeRequest(body, coordinator.OwnerOperator)
}

func decodeRequest(body []byte, owner coordinator.Owner) (coordinator.ScaleRequest, error) {
	var b scaleBody
	if err := jsonbody.Decode(body, &b, jsonbody.Refuse); err != nil {
		return coordinator.ScaleRequest{}, err
	}
	var errs []error
	r := coordinator.ScaleRequest{Owner: owner, Holder: b.Holder, Reason: b.Reason}
	if b.Scale == nil {
		errs = append(errs, invalid.Missing("scale", wantScale))
	} else {
		r.Scale = *b.Scale
	}
	if b.Share != nil {
		r.Share = *b.Share
		if r.Share == 0 { // which stands for 1 within
			errs = append(errs, invalid.New("share", r.Share, wantShare))
		}
	}
	if b.Level != nil {
		r.Level = *b.Level
	}
	if b.Sequence != nil {
		r.Sequence = *b.Sequence
		if owner == coordinator.OwnerOperator {
			errs = append(errs, invalid.New("sequence", r.Sequence, "none: an override has no sequence"))
		}
	}
	ttl, err := jsonbody.Duration("ttl", b.TTL)
	r.TTL = ttl
	if err != nil {
		errs = append(errs, err)
		r.TTL = time.Second // told already
	}
	errs = append(errs, r.Validate())
	return r, errors.Join(errs...)
}

func (a *API) clearOverride(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	state, err := a.gate.ClearOverride(r.PathValue("provider"), query.Get("holder"), query.Get("reason"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, state)
	return nil
}

// acquireBody is a call for tokens.
type acquireBody struct {
	Tokens  int             `json:"tokens"`
	Timeout json.RawMessage `json:"timeout"`
}

// acquireRequest is the same, checked.
type acquireRequest struct {
	tokens  int
	timeout time.Duration // 0 does not wait
}

func decodeAcquire(body []byte) (acquireRequest, error) {
	b := acquireBody{Tokens: 1}
	if err := jsonbody.Decode(body, &b, jsonbody.Refuse); err != nil {
		return acquireRequest{}, err
	}
	timeout, err := jsonbody.Duration("timeout", b.Timeout)
	errs := []error{err}
	if err == nil && (timeout < 0 || timeout > longestAcquire) {
		errs = append(errs, invalid.New("timeout", timeout, fmt.Sprintf("a duration from 0 to %v", longestAcquire)))
	}
	if b.Tokens < 1 {
		errs = append(errs, invalid.New("tokens", b.Tokens, "a whole number >= 1"))
	}
	return acquireRequest{b.Tokens, timeout}, errors.Join(errs...)
}

func (a *API) acquire(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	request, err := decodeAcquire(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), request.timeout)
	defer cancel()
	begin := time.Now()
	if err := a.gate.Acquire(ctx, r.PathValue("provider"), request.tokens); err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]any{
		"granted": request.tokens, "waited_seconds": time.Since(begin).Seconds(),
	})
	return nil
}

func (a *API) outcome(w http.ResponseWriter, r *http.Request) error {
	provider := r.PathValue("provider")
	var b struct {
		Success *bool `json:"success"`
	}
	if err := a.read(r, provider, &b); err != nil {
		return err
	}
	if b.Success == nil {
		return invalid.Missing("success", "true or false")
	}
	if *b.Success {
		a.gate.RecordSuccess(provider)
	} else {
		a.gate.RecordFailure(provider)
	}
	return a.state(w, r)
}

func (a *API) coolDown(w http.ResponseWriter, r *http.Request) error {
	provider := r.PathValue("provider")
	b := struct {
		Scope    string          `json:"scope"`
		Duration json.RawMessage `json:"duration"`
	}{Scope: coordinator.GlobalScope}
	if err := a.read(r, provider, &b); err != nil {
		return err
	}
	d, err := jsonbody.Duration("duration", b.Duration)
	errs := []error{err}
	if d < 0 || d > longestCoolDown {
		errs = append(errs, invalid.New("duration", d, fmt.Sprintf("a duration from 0, which is the provider's own, to %v", longestCoolDown)))
	}
	if b.Scope == "" || len(b.Scope) > longestScope {
		errs = append(errs, invalid.New("scope", b.Scope, fmt.Sprintf("a name of 1 to %d bytes", longestScope)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.gate.CoolDown(provider, b.Scope, d)
	return a.state(w, r)
}

const (
	longestCoolDown = 7 * 24 * time.Hour
	longestScope    = 256
)

// read decodes a body that is for a provider, which has to be there.
func (a *API) read(r *http.Request, provider string, into any) error {
	if _, err := a.gate.State(provider); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return jsonbody.Decode(body, into, jsonbody.Refuse)
}

func (a *API) feedback(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	event, err := pressure.DecodeEvent(body)
	if err != nil {
		return err
	}
	a.bus.Publish(event)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// problem is the body of an error.
type problem struct {
	Error  string  `json:"error"`
	Fields []field `json:"fields,omitempty"`

	// Of a conflict: who holds the lease, and for how long.
	Holder           string  `json:"holder,omitempty"`
	Sequence         uint64  `json:"sequence,omitempty"`
	ExpiresInSeconds float64 `json:"expires_in_seconds,omitempty"`
	Stale            bool    `json:"stale,omitempty"`
}

type field struct {
	Field string `json:"field"`
	Got   string `json:"got,omitempty"`
	Want  string `json:"want"`
}

// fail answers an error with the status that it stands for.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problem{Error: err.Error()}
	for _, v := range invalid.All(err) {
		p.Fields = append(p.Fields, field{v.Field, v.Got, v.Want})
	}
	status := http.StatusInternalServerError
	var (
		conflict    *coordinator.ConflictError
		unavailable *coordinator.UnavailableError
		tooLarge    *http.MaxBytesError
	)
	switch {
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
		p.Error = fmt.Sprintf("body is larger than %d bytes", tooLarge.Limit)
		p.Fields = []field{{Field: "body", Want: fmt.Sprintf("at most %d bytes", tooLarge.Limit)}}
	case errors.Is(err, coordinator.ErrUnknownProvider):
		status = http.StatusNotFound
	case errors.As(err, &conflict):
		status = http.StatusConflict
		p.Holder, p.Sequence, p.Stale = conflict.Holder, conflict.Sequence, conflict.Stale
		p.ExpiresInSeconds = conflict.ExpiresIn.Seconds()
	case errors.As(err, &unavailable):
		status = http.StatusServiceUnavailable
		retryAfter(w, unavailable.RetryAfter)
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusTooManyRequests
		retryAfter(w, time.Second)
	case errors.Is(err, coordinator.ErrClosed):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return // nobody is there to read it
	case len(p.Fields) > 0:
		status = http.StatusBadRequest
	default:
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	answer(w, status, p)
}

// retryAfter tells when to come again, in whole seconds, at least one.
func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(max(1, math.Ceil(d.Seconds())))))
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the peer may be gone; that is no news
}
