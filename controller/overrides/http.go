package overrides

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/jsonbody"
	"github.com/headgate/headgate/internal/reply"
	"github.com/headgate/headgate/internal/route"
)

// maxBody bounds what is read of a request.
const maxBody = 64 << 10

// Routes lists what the desk serves.
func (d *Desk) Routes() []route.Route {
	// Coordinators are asked atOnce at a time.
	waits := d.timeout * time.Duration(1+len(d.places)/atOnce)
	return []route.Route{
		{Pattern: "GET /v1/overrides", Role: access.Read, Help: "the operators' overrides in force", Handler: http.HandlerFunc(d.serveList)},
		{Pattern: "PUT /v1/overrides/{provider}", Role: access.Override, Help: "override a provider's scale for a time", Handler: http.HandlerFunc(d.serveSet), Waits: waits},
		{Pattern: "DELETE /v1/overrides/{provider}", Role: access.Override, Help: "end an override before its time", Handler: http.HandlerFunc(d.serveClear), Waits: waits},
	}
}

// problem is the body of an answer that says no, beside that of a bad request.
type problem struct {
	Error  string   `json:"error"`
	Places []*Place `json:"places,omitempty"` // among which was not chosen
}

func (d *Desk) serveList(w http.ResponseWriter, r *http.Request) {
	if _, err := parameters(r.URL.Query()); err != nil {
		reply.BadRequest(w, err)
		return
	}
	views, unread := d.List(time.Now())
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, http.StatusOK, struct {
		Overrides []View   `json:"overrides"`
		Unread    []Unread `json:"unread"`
	}{views, unread})
}

// setBody is a request for an override as JSON has it. Pointers tell an absent
// member from a zero.
type setBody struct {
	Scale  *float64        `json:"scale"`
	TTL    json.RawMessage `json:"ttl"`
	Holder string          `json:"holder"`
	Reason string          `json:"reason"`
	Target string          `json:"target"`
	All    bool            `json:"all"`
}

// decodeSet reads a request. Which provider is meant is not in it.
func decodeSet(body []byte) (Request, Selection, error) {
	var b setBody
	if err := jsonbody.Decode(body, &b, jsonbody.Refuse); err != nil {
		return Request{}, Selection{}, err
	}
	r := Request{Holder: b.Holder, Reason: b.Reason}
	var errs []error
	if b.Scale == nil {
		errs = append(errs, invalid.Missing("scale", "a number in [0, 1]"))
	} else {
		r.Scale = *b.Scale
	}
	ttl, err := jsonbody.Duration("ttl", b.TTL)
	r.TTL = ttl
	if err != nil {
		errs = append(errs, err)
		r.TTL = time.Second // told already
	}
	errs = append(errs, r.validate())
	return r, Selection{Target: b.Target, All: b.All}, errors.Join(errs...)
}

func (d *Desk) serveSet(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, err)
		return
	}
	_, queryErr := parameters(r.URL.Query())
	request, selection, err := decodeSet(body)
	if err := errors.Join(queryErr, err); err != nil {
		refuse(w, err)
		return
	}
	selection.Provider = r.PathValue("provider")
	results, err := d.Set(r.Context(), selection, request, r.RemoteAddr)
	answer(w, results, err)
}

func (d *Desk) serveClear(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r.URL.Query(), "holder", "reason", "target", "all")
	all := query.Get("all")
	if all != "" && all != "true" && all != "false" {
		err = errors.Join(err, invalid.New("all", all, "true or false"))
	}
	if err != nil {
		refuse(w, err)
		return
	}
	selection := Selection{Provider: r.PathValue("provider"), Target: query.Get("target"), All: all == "true"}
	results, err := d.Clear(r.Context(), selection, query.Get("holder"), query.Get("reason"), r.RemoteAddr)
	answer(w, results, err)
}

// answer tells what became of a request: 200 where all coordinators did it, 502
// where one did not.
func answer(w http.ResponseWriter, results []Result, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	status := http.StatusOK
	for _, r := range results {
		if r.Error != "" {
			status = http.StatusBadGateway
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, status, struct {
		Results []Result `json:"results"`
	}{results})
}

// refuse answers a request by which nothing was done.
func refuse(w http.ResponseWriter, err error) {
	var ambiguous *AmbiguousError
	var unknown *UnknownError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		reply.JSON(w, http.StatusRequestEntityTooLarge, problem{Error: fmt.Sprintf("body is larger than %d bytes", tooLarge.Limit)})
	case errors.As(err, &unknown):
		reply.Invalid(w, http.StatusNotFound, err)
	case len(invalid.All(err)) > 0:
		reply.BadRequest(w, err)
	case errors.As(err, &ambiguous):
		reply.JSON(w, http.StatusConflict, problem{Error: err.Error(), Places: ambiguous.Places})
	default: // the body broke off
		reply.JSON(w, http.StatusBadRequest, problem{Error: err.Error()})
	}
}

// parameters checks that a query has none but those names, and each once.
func parameters(query url.Values, names ...string) (url.Values, error) {
	want := "no parameter"
	if len(names) > 0 {
		want = "one of the parameters " + strings.Join(names, ", ")
	}
	var errs []error
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			errs = append(errs, invalid.New(name, values[0], want))
		case len(values) > 1:
			errs = append(errs, invalid.New(name, strings.Join(values, ","), "one value"))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return query, errors.Join(errs...)
}
