package statuspage

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Condition is what a target is listed under: its level, or why it has none
// that is worth the name.
type Condition string

const (
	Lost     Condition = "lost" // its signals are gone, or have not come yet
	Hard     Condition = "hard"
	Soft     Condition = "soft"
	OK       Condition = "ok"
	Disabled Condition = "disabled"
)

// conditions lists all of them, in the order in which targets are listed.
func conditions() []Condition { return []Condition{Lost, Hard, Soft, OK, Disabled} }

// conditionOf is the worst that a target's last decisions say.
func conditionOf(r controller.Row) Condition {
	if r.Target.Disabled {
		return Disabled
	}
	if len(r.Latest) == 0 {
		return Lost
	}
	for _, d := range r.Latest {
		if d.Fault != controller.FaultNone || d.Level == nil {
			return Lost
		}
	}
	switch *r.Latest[0].Level {
	case pressure.OK:
		return OK
	case pressure.Soft:
		return Soft
	}
	return Hard
}

// scene is everything that is known after a tick. It is never changed once it
// is made, so goroutines share it.
type scene struct {
	at     time.Time
	rows   []controller.Row
	listed []listed // in the order in which they are shown
	counts map[Condition]int
	health controller.Health

	outcomes  map[controller.Outcome]int // by decisions
	oldest    float64                    // age of the oldest signals, seconds; 0 where there are none
	overrides []overrideView             // at most mostOverrides
	more      int                        // overrides beyond those
	changes   []*controller.Decision     // the newest first
}

type listed struct {
	row       int
	condition Condition
}

const mostOverrides = 100

type overrideView struct {
	Target   string `json:"target"`
	Provider string `json:"provider"`
	*controller.Override
}

// newScene looks at all targets.
func newScene(now time.Time, rows []controller.Row, health controller.Health) *scene {
	s := &scene{
		at: now, rows: rows, health: health, listed: make([]listed, 0, len(rows)),
		counts: map[Condition]int{}, outcomes: map[controller.Outcome]int{}, overrides: []overrideView{},
	}
	for i, row := range rows {
		condition := conditionOf(row)
		s.listed = append(s.listed, listed{i, condition})
		s.counts[condition]++
		for _, d := range row.Latest {
			s.outcomes[d.Outcome]++
			if age := float64(d.AgeSeconds); age > s.oldest {
				s.oldest = age
			}
			if d.Override == nil || !d.Override.ExpiresAt.After(now) {
				continue
			}
			if len(s.overrides) == mostOverrides {
				s.more++
				continue
			}
			s.overrides = append(s.overrides, overrideView{d.Target, d.Provider, d.Override})
		}
	}
	severity := map[Condition]int{}
	for i, condition := range conditions() {
		severity[condition] = i
	}
	slices.SortStableFunc(s.listed, func(a, b listed) int {
		return cmp.Or(cmp.Compare(severity[a.condition], severity[b.condition]),
			strings.Compare(rows[a.row].Target.Name, rows[b.row].Target.Name))
	})
	return s
}

// question is what a viewer wants to see.
type question struct {
	search    string // in the target's name, in lower case; empty for all
	condition Condition
	offset    int
	limit     int
	target    string // shown whatever the rest says; empty for none
}

const (
	usualLimit = 25
	mostLimit  = 200
	mostText   = 256
)

// parse reads a question of a query. The error joins an *invalid.Value for
// each parameter that is wrong.
func parse(query url.Values, names ...string) (question, []error) {
	q := question{limit: usualLimit}
	var errs []error
	for name, values := range query {
		if !slices.Contains(names, name) {
			errs = append(errs, invalid.New(name, values[0], "one of the parameters "+strings.Join(names, ", ")))
			continue
		}
		value := values[0]
		whole := func(least, most int) int {
			n, err := strconv.Atoi(value)
			if err != nil || n < least || n > most {
				errs = append(errs, invalid.New(name, value, fmt.Sprintf("a whole number from %d to %d", least, most)))
			}
			return n
		}
		if len(values) > 1 {
			errs = append(errs, invalid.New(name, strings.Join(values, ","), "one value"))
			continue
		}
		if len(value) > mostText {
			errs = append(errs, invalid.New(name, value[:mostText], fmt.Sprintf("at most %d bytes", mostText)))
			continue
		}
		switch name {
		case "search":
			q.search = strings.ToLower(value)
		case "target":
			q.target = value
		case "condition":
			q.condition = Condition(value)
			if value != "" && !slices.Contains(conditions(), q.condition) {
				errs = append(errs, invalid.New(name, value, "lost, hard, soft, ok or disabled"))
			}
		case "offset":
			q.offset = whole(0, 1<<30)
		case "limit":
			q.limit = whole(1, mostLimit)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return q, errs
}

// Status is what GET /v1/status answers, and each message of GET /v1/stream
// holds.
type Status struct {
	At   time.Time  `json:"at"`
	Loop loopView   `json:"loop"`
	List targetList `json:"list"`

	// Selected is the target that was asked for by name; null where there is none.
	Selected *targetView `json:"selected"`

	Overrides     []overrideView `json:"overrides"`
	MoreOverrides int            `json:"more_overrides"` // that are not listed

	// Changes are the last decisions that differ from the ones before, the newest
	// first: of the selected target, or else of all. A message of the stream has
	// them only where there are others than in the message before.
	Changes []change `json:"changes,omitzero"`
}

type loopView struct {
	controller.Health
	OldestSignalSeconds float64                    `json:"oldest_signal_seconds"`
	Decisions           map[controller.Outcome]int `json:"decisions"` // of the last tick, by outcome
}

// targetList is a part of the targets, the worst first.
type targetList struct {
	Counts   map[Condition]int `json:"counts"` // of all targets
	Matching int               `json:"matching"`
	Offset   int               `json:"offset"`
	Limit    int               `json:"limit"`
	Targets  []targetView      `json:"targets"`
}

type targetView struct {
	Condition Condition `json:"condition"`
	controller.TargetView
}

// change is a decision in a list of such.
type change struct {
	At           time.Time          `json:"at"`
	Target       string             `json:"target"`
	Provider     string             `json:"provider"`
	Level        *pressure.Level    `json:"level"`
	Reason       controller.Reason  `json:"reason"`
	Scale        controller.Number  `json:"scale"`
	InForce      controller.Number  `json:"scale_in_force"`
	InForceOwner coordinator.Owner  `json:"scale_in_force_owner,omitempty"`
	Outcome      controller.Outcome `json:"outcome"`
	Explanation  string             `json:"explanation"`
}

// is reports whether both are the same decision, or none.
func (c *change) is(o *change) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.At.Equal(o.At) && c.Target == o.Target && c.Provider == o.Provider
}

// mostChanges is how many are shown.
const mostChanges = 50

// answer is the scene as a viewer wants to see it.
func (s *scene) answer(q question) Status {
	status := Status{
		At:        s.at,
		Loop:      loopView{s.health, s.oldest, s.outcomes},
		List:      targetList{Counts: s.counts, Offset: q.offset, Limit: q.limit, Targets: []targetView{}},
		Overrides: s.overrides, MoreOverrides: s.more,
	}
	for _, l := range s.listed {
		row := s.rows[l.row]
		if row.Target.Name == q.target && status.Selected == nil {
			status.Selected = &targetView{l.condition, row.View()}
		}
		if q.condition != "" && l.condition != q.condition || !strings.Contains(strings.ToLower(row.Target.Name), q.search) {
			continue
		}
		if status.List.Matching >= q.offset && len(status.List.Targets) < q.limit {
			status.List.Targets = append(status.List.Targets, targetView{l.condition, row.View()})
		}
		status.List.Matching++
	}
	status.Changes = []change{}
	for _, d := range s.changes {
		if q.target != "" && status.Selected != nil && d.Target != q.target {
			continue
		}
		status.Changes = append(status.Changes, change{
			At: d.At, Target: d.Target, Provider: d.Provider, Level: d.Level, Reason: d.Reason, Scale: d.Scale,
			InForce: d.InForce, InForceOwner: d.InForceOwner, Outcome: d.Outcome, Explanation: d.Explain(),
		})
		if len(status.Changes) == mostChanges {
			break
		}
	}
	return status
}
