package controller

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller/shard"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/reply"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pressure"
)

// Handler serves the controller's HTTP API and the gatherer's metrics to those
// whom the guard lets in.
func (c *Controller) Handler(gatherer prometheus.Gatherer, guard *access.Guard) http.Handler {
	return route.Mux(c.Routes(gatherer), guard)
}

// Routes lists what Handler serves.
func (c *Controller) Routes(gatherer prometheus.Gatherer) []route.Route {
	return []route.Route{
		{Pattern: "GET /v1/decisions", Role: access.Read, Help: "the last decisions, the newest first", Handler: http.HandlerFunc(c.serveDecisions)},
		{Pattern: "GET /v1/targets", Role: access.Read, Help: "every target with its last decisions", Handler: http.HandlerFunc(c.serveTargets)},
		{Pattern: "GET /metrics", Role: access.Read, Help: "the controller's series", Handler: promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true})},
		{Pattern: "GET /-/healthy", Role: access.Open, Help: "whether the process serves", Handler: http.HandlerFunc(serveHealthy)},
		{Pattern: "GET /-/ready", Role: access.Open, Help: "whether there was a snapshot of the signals", Handler: http.HandlerFunc(c.serveReady)},
	}
}

func serveHealthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") }

func (c *Controller) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := c.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (c *Controller) serveDecisions(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch values := query[name]; {
		case name != "target" && name != "limit":
			errs = append(errs, invalid.New(name, values[0], "one of the parameters target and limit"))
		case len(values) > 1:
			errs = append(errs, invalid.New(name, strings.Join(values, ","), "one value"))
		}
	}
	limit := c.config.Decisions
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > limit {
			errs = append(errs, invalid.New("limit", text, fmt.Sprintf("a whole number from 1 to %d", limit)))
		}
		limit = n
	}
	decisions, found := c.Decisions(query.Get("target"), max(1, limit))
	if !found {
		errs = append(errs, invalid.New("target", query.Get("target"), "the name of a target, as /v1/targets lists them"))
	}
	if err := errors.Join(errs...); err != nil {
		reply.BadRequest(w, err)
		return
	}
	reply.JSON(w, http.StatusOK, struct {
		Decisions []*Decision `json:"decisions"`
	}{append([]*Decision{}, decisions...)})
}

// TargetView is a target as it is shown.
type TargetView struct {
	Target            string               `json:"target"`
	State             string               `json:"state"` // controlled, dry_run or disabled
	CoordinatorIDs    []string             `json:"coordinator_ids"`
	Level             *pressure.Level      `json:"level"` // null before the first good signals
	LevelSince        *time.Time           `json:"level_since"`
	Reason            Reason               `json:"reason,omitempty"`
	Fault             Fault                `json:"fault,omitempty"`
	Detail            string               `json:"detail,omitempty"`
	AgeSeconds        *Number              `json:"age_seconds"`
	SoftEnter         pressure.Mark        `json:"soft_enter"`
	SoftExit          pressure.Mark        `json:"soft_exit"`
	HardEnter         pressure.Mark        `json:"hard_enter"`
	HardExit          pressure.Mark        `json:"hard_exit"`
	ForSeconds        float64              `json:"for_seconds"`
	CoolDownSeconds   float64              `json:"cool_down_seconds"`
	StaleAfterSeconds float64              `json:"stale_after_seconds"`
	LeaseSeconds      float64              `json:"lease_seconds"`
	FailMode          coordinator.FailMode `json:"fail_mode"`
	Providers         []ProviderView       `json:"providers"`
}

// ProviderView is a target's provider as it is shown.
type ProviderView struct {
	Provider string    `json:"provider"`
	URL      string    `json:"url"`
	Law      string    `json:"law"`
	Latest   *Decision `json:"latest"` // null before the first
}

func (c *Controller) serveTargets(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.URL.Query() {
		reply.BadRequest(w, invalid.New(name, values[0], "no parameter"))
		return
	}
	rows := c.Rows()
	views := make([]TargetView, 0, len(rows))
	for _, row := range rows {
		views = append(views, row.View())
	}
	reply.JSON(w, http.StatusOK, struct {
		Shard   *shard.Shard `json:"shard,omitempty"`
		Targets []TargetView `json:"targets"`
	}{c.shard(), views})
}

// View is the row as it is shown.
func (r Row) View() TargetView {
	t := r.Target
	v := TargetView{
		Target: t.Name, State: t.state(), CoordinatorIDs: t.CoordinatorIDs,
		SoftEnter: t.SoftEnter, SoftExit: t.SoftExit, HardEnter: t.HardEnter, HardExit: t.HardExit,
		ForSeconds: t.For.Seconds(), CoolDownSeconds: t.CoolDown.Seconds(),
		StaleAfterSeconds: t.StaleAfter.Seconds(), LeaseSeconds: t.Lease.Seconds(), FailMode: t.FailMode,
	}
	for i, p := range t.Providers {
		view := ProviderView{Provider: p.Name, URL: p.URL, Law: p.LawName}
		if r.Latest != nil {
			view.Latest = r.Latest[i]
		}
		v.Providers = append(v.Providers, view)
	}
	if r.Latest != nil {
		d := r.Latest[0]
		v.Level, v.LevelSince, v.AgeSeconds = d.Level, d.LevelSince, &d.AgeSeconds
		v.Reason, v.Fault, v.Detail = d.Reason, d.Fault, d.Detail
	}
	return v
}
