package controller

import (
	"encoding/json"
	"log/slog"
	"math"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
)

// Reason says what kind of decision was made. It is one of a closed set.
type Reason string

const (
	ReasonLaw      Reason = "law"       // the signals were good and the law decided
	ReasonHold     Reason = "hold"      // they were not, and the last scale is renewed
	ReasonFailMode Reason = "fail_mode" // they were not for longer than the stale limit
	ReasonWaiting  Reason = "waiting"   // there was none yet, nor a last scale
)

// reasons are all that there are.
var reasons = [...]Reason{ReasonLaw, ReasonHold, ReasonFailMode, ReasonWaiting}

// Fault says why the signals were no good. It is one of a closed set.
type Fault string

const (
	FaultNone           Fault = ""
	FaultQueryFailed    Fault = "query_failed"      // Prometheus answered an error, or nothing
	FaultQueryPending   Fault = "query_pending"     // Prometheus has not answered yet
	FaultSeriesAbsent   Fault = "series_absent"     // no depth, or one that is no number >= 0
	FaultSeriesStale    Fault = "series_stale"      // the depth is older than the stale limit
	FaultCapacityAbsent Fault = "capacity_absent"   // a mark in percent, and no capacity
	FaultThresholds     Fault = "thresholds_order"  // the marks are out of order at this capacity
	FaultSignalAbsent   Fault = "law_signal_absent" // a signal that the law needs
	FaultBaseUnknown    Fault = "base_rate_unknown" // the provider's base rate, which the law needs, was not read yet
)

// Outcome says what became of a decision. It is one of a closed set.
type Outcome string

const (
	OutcomeApplied Outcome = "applied"
	OutcomeFailed  Outcome = "failed"  // the coordinator could not be told
	OutcomeStandby Outcome = "standby" // another controller holds the lease
	OutcomeDryRun  Outcome = "dry_run"
	OutcomeNothing Outcome = "nothing" // there was no scale to apply
)

// ApplyFault says why a coordinator could not be told. It is one of a closed set.
type ApplyFault string

const (
	ApplyNone            ApplyFault = ""
	ApplyTimeout         ApplyFault = "timeout"
	ApplyUnreachable     ApplyFault = "unreachable"
	ApplyUnknownProvider ApplyFault = "unknown_provider"
	ApplyRefused         ApplyFault = "refused"        // any other answer in the 400s
	ApplyServerError     ApplyFault = "server_error"   // an answer in the 500s
	ApplyStaleSequence   ApplyFault = "stale_sequence" // a newer lease of this very holder is in force
	ApplyBusy            ApplyFault = "busy"           // too many unreachable coordinators were in line before it
)

// applyFaults are all but ApplyNone.
var applyFaults = [...]ApplyFault{
	ApplyTimeout, ApplyUnreachable, ApplyUnknownProvider, ApplyRefused, ApplyServerError, ApplyStaleSequence, ApplyBusy,
}

// Number is a float64 that is null in JSON where it is not known, which is NaN.
type Number float64

// Known reports whether n is a number at all.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) }

// MarshalJSON writes null for NaN and the infinities, which JSON has not.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Known() || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads what MarshalJSON writes: null is NaN.
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

// Decision is one decision about one provider, with everything that it was
// made of. It is never changed once it is published.
type Decision struct {
	At       time.Time `json:"at"`
	Target   string    `json:"target"`
	Provider string    `json:"provider"`
	Changed  bool      `json:"changed"` // something else than at the decision before

	// Kept says that the lease in force says the same and lasts, so that the
	// coordinator was not asked again; what is in force is what it told last.
	Kept bool `json:"kept,omitempty"`

	Reason Reason `json:"reason"`
	Fault  Fault  `json:"fault,omitempty"`
	Detail string `json:"detail,omitempty"` // the fault in words

	// What was seen. Where there is a fault these are from the last time that
	// there was none.
	CoordinatorID     string         `json:"coordinator_id,omitempty"` // the worst of those observed
	Replicas          int            `json:"replicas,omitempty"`       // of that coordinator; 0 where they are not known
	Depth             Number         `json:"depth"`
	Capacity          Number         `json:"capacity"`
	ReportedLevel     pressure.Level `json:"reported_level"`
	SoftEnter         Number         `json:"soft_enter"`
	SoftExit          Number         `json:"soft_exit"`
	HardEnter         Number         `json:"hard_enter"`
	HardExit          Number         `json:"hard_exit"`
	ArrivalsPerSecond Number         `json:"arrivals_per_second"`
	DrainPerSecond    Number         `json:"drain_per_second"`
	AgeSeconds        Number         `json:"age_seconds"`       // of the oldest depth
	DeadTimeSeconds   Number         `json:"dead_time_seconds"` // that the law was told; null where it was not asked

	// HeadroomItems is the room that is left in the queue at the worst, with the
	// least drain of the last hour; below 0 it may overflow, whatever the law
	// does. Null where it is not known.
	HeadroomItems Number `json:"headroom_items"`

	// Level is that of the last good signals; nil before the first.
	Level      *pressure.Level `json:"level"`
	LevelSince *time.Time      `json:"level_since"`

	Law       string        `json:"law"`
	LawReason policy.Reason `json:"law_reason,omitempty"`
	LawScale  Number        `json:"law_scale"`
	Terms     []Term        `json:"terms,omitempty"`
	Guard     Guardrail     `json:"guard,omitempty"` // the limit that changed the law's scale

	Scale Number `json:"scale"` // wanted by this target; null where there is none

	// Combined is the scale of all targets that throttle this provider; nil where
	// this is the only one.
	Combined *Combined `json:"combined,omitempty"`

	Outcome    Outcome    `json:"outcome"`
	ApplyFault ApplyFault `json:"apply_fault,omitempty"`
	ApplyError string     `json:"apply_error,omitempty"`
	Holder     string     `json:"holder,omitempty"` // of the lease, at standby
	InForce    Number     `json:"scale_in_force"`   // read back; the lowest of all owners'

	// InForceOwner is whose scale that is; empty where nothing was read back.
	InForceOwner coordinator.Owner `json:"scale_in_force_owner,omitempty"`

	// Override is the operator's scale in force, if there is one; it counts only
	// where it is the lowest.
	Override *Override `json:"override,omitempty"`

	BaseRate  Number `json:"base_per_second"`
	Effective Number `json:"effective_per_second"`

	// Explanation is there where the decision is read from JSON or is a change.
	// Explain has it always.
	Explanation string `json:"explanation"`

	own        bool // made here, so that it can be explained
	thresholds pressure.Thresholds
	staleAfter time.Duration
	failMode   coordinator.FailMode
	clause     string         // the law's own words
	guarded    string         // the guard's
	leaseLevel pressure.Level // that goes with Scale
}

// Override is a scale that an operator has put on a provider for a time.
type Override struct {
	Holder    string    `json:"holder"` // who
	Scale     Number    `json:"scale"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expires_at"` // on the controller's clock
}

// MarshalJSON implements json.Marshaler: the explanation is made for those who
// read it, and not at each tick.
func (d Decision) MarshalJSON() ([]byte, error) {
	type plain Decision
	d.Explanation = d.Explain()
	return json.Marshal(plain(d))
}

// readBack takes in what a coordinator said of the provider at a time.
func (d *Decision) readBack(now time.Time, s coordinator.State) {
	d.InForce, d.BaseRate, d.Effective = Number(s.Scale), Number(s.BasePerSecond), Number(s.EffectivePerSecond)
	for _, scale := range s.Scales {
		// Of several that are the lowest the controller's own is told, else the
		// last one, which is the operator's.
		if scale.Scale == s.Scale && d.InForceOwner != coordinator.OwnerController {
			d.InForceOwner = scale.Owner
		}
	}
	d.Override = OverrideOf(now, s)
}

// OverrideOf is the override in a provider's state that was read now, or nil.
func OverrideOf(now time.Time, s coordinator.State) *Override {
	for _, scale := range s.Scales {
		if scale.Owner == coordinator.OwnerOperator && scale.ExpiresInSeconds != nil {
			return &Override{
				Holder: scale.Holder, Scale: Number(scale.Scale), Reason: scale.Reason,
				ExpiresAt: now.Add(time.Duration(*scale.ExpiresInSeconds * float64(time.Second))).Round(time.Second),
			}
		}
	}
	return nil
}

// overriddenAs reports whether both have the same override in force, or none.
func (d *Decision) overriddenAs(o *Decision) bool {
	if d.Override == nil || o.Override == nil {
		return d.Override == o.Override
	}
	return d.Override.Holder == o.Override.Holder && d.Override.Scale == o.Override.Scale && d.Override.Reason == o.Override.Reason
}

// Term is one number of a law's sum.
type Term struct {
	Name  string `json:"name"`
	Value Number `json:"value"`
}

// worthTelling is the change of a scale that an operator would want to hear of,
// beside those to and from 0 and 1. A law that follows the store moves the
// scale a little all the time.
const worthTelling = 0.05

// sameAs reports whether nothing that an operator would want to hear of
// differs between two decisions.
func (d *Decision) sameAs(o *Decision) bool {
	return d.decidedAs(o) && d.Outcome == o.Outcome && d.ApplyFault == o.ApplyFault && d.Holder == o.Holder &&
		d.overriddenAs(o) && sameScale(d.InForce, o.InForce)
}

// decidedAs is sameAs for what is known of a decision before it is applied.
func (d *Decision) decidedAs(o *Decision) bool {
	return d.Reason == o.Reason && d.Fault == o.Fault && d.levelName() == o.levelName() && d.Guard == o.Guard &&
		sameScale(d.Scale, o.Scale)
}

// sameScale reports whether an operator would not want to hear of the difference
// between two scales.
func sameScale(a, b Number) bool {
	if !a.Known() || !b.Known() {
		return a.Known() == b.Known()
	}
	return (a == 0) == (b == 0) && (a == 1) == (b == 1) && math.Abs(float64(a-b)) < worthTelling
}

// applied is the scale that was to be applied: the target's own, or that of all
// which throttle the provider.
func (d *Decision) applied() Number {
	if d.Combined != nil {
		return d.Combined.Scale
	}
	return d.Scale
}

// levelName is the level in capitals, or UNKNOWN.
func (d *Decision) levelName() string {
	if d.Level == nil {
		return "UNKNOWN"
	}
	return d.Level.String()
}

// LogValue is the decision as one structured record, without what is not known.
func (d *Decision) LogValue() slog.Value {
	number := func(key string, n Number) slog.Attr { return figures.Attr(key, float64(n)) }
	attrs := []slog.Attr{
		slog.String("target", d.Target), slog.String("provider", d.Provider),
		slog.String("reason", string(d.Reason)), slog.String("level", d.levelName()),
		number("scale", d.Scale), number("scale_in_force", d.InForce),
		slog.String("outcome", string(d.Outcome)),
		number("depth", d.Depth), number("capacity", d.Capacity),
		number("arrivals_per_second", d.ArrivalsPerSecond),
		number("drain_per_second", d.DrainPerSecond),
		number("age_seconds", d.AgeSeconds),
		slog.String("law", d.Law), number("law_scale", d.LawScale),
	}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("fault", string(d.Fault))
	add("guard", string(d.Guard))
	add("apply_fault", string(d.ApplyFault))
	add("apply_error", d.ApplyError)
	add("holder", d.Holder)
	if d.Override != nil {
		add("override_by", d.Override.Holder)
	}
	add("explanation", d.Explain())
	return slog.GroupValue(attrs...)
}

// ring holds the last decisions of a target.
type ring struct {
	rows []*Decision // at most cap of them
	next int         // where the next one goes once the ring is full
}

func newRing(size int) ring { return ring{rows: make([]*Decision, 0, size)} }

func (r *ring) add(d *Decision) {
	if len(r.rows) < cap(r.rows) {
		r.rows = append(r.rows, d)
		return
	}
	r.rows[r.next] = d
	r.next = (r.next + 1) % len(r.rows)
}

// last returns up to n decisions, the newest first.
func (r *ring) last(n int) []*Decision {
	n = min(n, len(r.rows))
	out := make([]*Decision, 0, n)
	for i := range n {
		out = append(out, r.rows[(r.next+len(r.rows)-1-i)%len(r.rows)])
	}
	return out
}
