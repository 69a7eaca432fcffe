package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"github.com/headgate/headgate/deploy/monitoring/dashboards"
)

// Board is a dashboard as Grafana would load it.
type Board struct {
	UID         string
	whole       dashboard.Dashboard
	annotations []dashboards.Annotation
	text        string // all of it
}

// Decode reads a dashboard. A key or a value that Grafana's schema does not
// have is an error.
func Decode(data []byte) (*Board, error) {
	plugins.RegisterDefaultPlugins()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("decode the dashboard: %w", err)
	}
	var marks struct {
		List []dashboards.Annotation `json:"list"`
	}
	if err := strictly(raw["annotations"], &marks); err != nil {
		return nil, fmt.Errorf("decode the annotations: %w", err)
	}
	raw["annotations"] = json.RawMessage(`{}`)
	rest, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("decode the dashboard: %w", err)
	}
	b := &Board{annotations: marks.List, text: string(data)}
	if err := b.whole.UnmarshalJSONStrict(rest); err != nil {
		return nil, fmt.Errorf("decode the dashboard: %w", err)
	}
	if b.whole.Uid != nil {
		b.UID = *b.whole.Uid
	}
	if gone := b.dropped(rest); len(gone) > 0 {
		return nil, fmt.Errorf("decode the dashboard: unknown keys: %s", strings.Join(gone, ", "))
	}
	return b, nil
}

// dropped are the keys that were read and have no place in the schema: the
// decoder passes over some of them in silence.
func (b *Board) dropped(data []byte) []string {
	var before, after any
	again, err := json.Marshal(b.whole)
	if err != nil || json.Unmarshal(data, &before) != nil || json.Unmarshal(again, &after) != nil {
		return []string{"all"}
	}
	return missing("", before, after)
}

// missing are the paths of the keys of before that after has not.
func missing(path string, before, after any) []string {
	var gone []string
	switch b := before.(type) {
	case map[string]any:
		a, _ := after.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(b)) {
			inner := path + "/" + key
			if value, there := a[key]; there {
				gone = append(gone, missing(inner, b[key], value)...)
			} else if b[key] != nil {
				gone = append(gone, inner)
			}
		}
	case []any:
		a, _ := after.([]any)
		for i, value := range b {
			if i < len(a) {
				gone = append(gone, missing(fmt.Sprintf("%s/%d", path, i), value, a[i])...)
			}
		}
	}
	return gone
}

func strictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// Site is what the dashboards stand among.
type Site struct {
	Names  Names
	Boards []string // uids of all dashboards
	Alerts []string // each has a runbook
}

// Problems are all that is wrong with a dashboard; none when all is well.
func (s Site) Problems(b *Board) []error {
	c := checker{site: s, board: b}
	c.head()
	c.variables()
	for _, p := range b.panels() {
		c.panel(p)
	}
	c.layout()
	for _, q := range b.Queries() {
		c.query(q)
	}
	c.links()
	return c.errs
}

type checker struct {
	site  Site
	board *Board
	errs  []error
}

func (c *checker) report(where, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s: %w", c.board.UID, where, fmt.Errorf(format, args...)))
}

// schemas are the versions that Grafana 12 and 13 write themselves, or bring up
// to date without losing anything.
const oldestSchema, newestSchema = 41, 42

func (c *checker) head() {
	d := c.board.whole
	if c.board.UID == "" || empty(d.Title) || empty(d.Description) || len(d.Tags) == 0 {
		c.report("head", "uid, title, description and tags must be there")
	}
	if d.SchemaVersion < oldestSchema || d.SchemaVersion > newestSchema {
		c.report("head", "schemaVersion %d, want %d to %d", d.SchemaVersion, oldestSchema, newestSchema)
	}
	if d.Id != nil {
		c.report("head", "id %d belongs to one server", *d.Id)
	}
	for _, a := range c.board.annotations {
		if a.BuiltIn == 0 && (a.Datasource.Uid == nil || *a.Datasource.Uid != datasource) {
			c.report("annotation "+a.Name, "data source is not %s", datasource)
		}
	}
}

// datasource is how panels name theirs.
const datasource = "${datasource}"

// builtin are the variables that Grafana itself has.
var builtin = []string{"__rate_interval", "__interval", "__range", "__field", "__value", "__url_time_range", "__all"}

var (
	reference   = regexp.MustCompile(`\$(?:\{([\w]+)[^}]*\}|([\w]+))`)
	labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
)

func (c *checker) variables() {
	defined := map[string]bool{}
	for _, v := range c.board.whole.Templating.List {
		where := "variable " + v.Name
		if defined[v.Name] {
			c.report(where, "is there twice")
		}
		defined[v.Name] = true
		if empty(v.Label) || empty(v.Description) {
			c.report(where, "has no label or no description")
		}
		if strings.Count(c.board.text, "$"+v.Name)+strings.Count(c.board.text, "${"+v.Name) == 0 {
			c.report(where, "is not used")
		}
		if v.Type != dashboard.VariableTypeQuery {
			continue
		}
		selector, label, ok := valuesOf(v)
		if !ok {
			c.report(where, "query is not label_values(selector, label)")
			continue
		}
		filled := Fill(selector, nil)
		if err := c.site.Names.Expression(filled); err != nil {
			c.report(where, "%w", err)
		} else if parsed, err := parse(filled); err == nil && !has(c.site.Names.results(parsed), label) {
			c.report(where, "%s has no label %q", filled, label)
		}
	}
	if !defined["datasource"] {
		c.report("variables", "there is no data source to choose")
	}
	for _, m := range reference.FindAllStringSubmatch(c.board.text, -1) {
		if name := m[1] + m[2]; !defined[name] && !slices.Contains(builtin, name) {
			c.report("variables", "$%s is used and not defined", name)
		}
	}
}

// valuesOf takes the query of a variable apart.
func valuesOf(v dashboard.VariableModel) (selector, label string, ok bool) {
	if v.Query == nil {
		return "", "", false
	}
	text, _ := v.Query.Map["query"].(string)
	m := labelValues.FindStringSubmatch(text)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// panels are those of the dashboard, without the rows.
func (b *Board) panels() []*dashboard.Panel {
	var all []*dashboard.Panel
	for _, p := range b.whole.Panels {
		switch {
		case p.Panel != nil:
			all = append(all, p.Panel)
		case p.RowPanel != nil:
			for i := range p.RowPanel.Panels {
				all = append(all, &p.RowPanel.Panels[i])
			}
		}
	}
	return all
}

func (c *checker) panel(p *dashboard.Panel) {
	where := name(p)
	if empty(p.Title) {
		c.report(where, "has no title")
	}
	if empty(p.Description) {
		c.report(where, "has no description")
	}
	if !fromVariable(p.Datasource) {
		c.report(where, "data source is not %s", datasource)
	}
	if unit := unitOf(p); unit == "" {
		c.report(where, "has no unit")
	} else if !knownUnit(unit) {
		c.report(where, "unit %q is none that Grafana knows", unit)
	}
	if len(p.Targets) == 0 {
		c.report(where, "asks nothing")
	}
	letters := map[string]bool{}
	for _, t := range p.Targets {
		q, is := t.(*prometheus.Dataquery)
		if !is {
			c.report(where, "a query is a %T", t)
			continue
		}
		if empty(q.RefId) {
			c.report(where, "a query has no refId")
			continue
		}
		if letters[*q.RefId] {
			c.report(where, "refId %q is there twice", *q.RefId)
		}
		letters[*q.RefId] = true
		if !fromVariable(q.Datasource) {
			c.report(where, "data source of query %s is not %s", *q.RefId, datasource)
		}
	}
}

func name(p *dashboard.Panel) string {
	if !empty(p.Title) {
		return fmt.Sprintf("panel %q", *p.Title)
	}
	return "panel without a title"
}

func fromVariable(d *common.DataSourceRef) bool {
	return d != nil && d.Uid != nil && *d.Uid == datasource && d.Type != nil && *d.Type == "prometheus"
}

func unitOf(p *dashboard.Panel) string {
	if p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil {
		return ""
	}
	return *p.FieldConfig.Defaults.Unit
}

func knownUnit(unit string) bool {
	return strings.HasPrefix(unit, "suffix:") ||
		slices.Contains([]string{units.NoUnit, units.Short, units.PercentUnit, units.Seconds, units.BytesIEC}, unit)
}

// layout finds panels with one id, outside of the grid, or on top of another.
func (c *checker) layout() {
	type box struct {
		where string
		at    dashboard.GridPos
	}
	var boxes []box
	ids := map[uint32]string{}
	place := func(where string, id uint32, at *dashboard.GridPos) {
		if other, taken := ids[id]; taken || id == 0 {
			c.report(where, "id %d is 0 or that of %s", id, other)
		}
		ids[id] = where
		if at == nil || at.W == 0 || at.H == 0 || at.X+at.W > 24 {
			c.report(where, "lies outside of the grid: %+v", at)
			return
		}
		for _, b := range boxes {
			if at.X < b.at.X+b.at.W && b.at.X < at.X+at.W && at.Y < b.at.Y+b.at.H && b.at.Y < at.Y+at.H {
				c.report(where, "lies on top of %s", b.where)
			}
		}
		boxes = append(boxes, box{where, *at})
	}
	for _, p := range c.board.whole.Panels {
		switch {
		case p.Panel != nil:
			var id uint32
			if p.Panel.Id != nil {
				id = *p.Panel.Id
			}
			place(name(p.Panel), id, p.Panel.GridPos)
		case p.RowPanel != nil:
			title := "row"
			if !empty(p.RowPanel.Title) {
				title = fmt.Sprintf("row %q", *p.RowPanel.Title)
			}
			place(title, p.RowPanel.Id, p.RowPanel.GridPos)
		}
	}
}

// Query is one expression of a dashboard.
type Query struct {
	Board, Panel string
	Expr, Legend string // with variables in it
	unit         string // of the panel; "" for an annotation
	instant      bool
}

// Queries are all expressions of the dashboard, of panels and annotations.
func (b *Board) Queries() []Query {
	var all []Query
	for _, p := range b.panels() {
		for _, t := range p.Targets {
			if q, is := t.(*prometheus.Dataquery); is {
				one := Query{Board: b.UID, Panel: name(p), Expr: q.Expr, unit: unitOf(p)}
				if q.LegendFormat != nil {
					one.Legend = *q.LegendFormat
				}
				one.instant = q.Instant != nil && *q.Instant
				all = append(all, one)
			}
		}
	}
	for _, a := range b.annotations {
		if a.BuiltIn == 0 {
			all = append(all, Query{Board: b.UID, Panel: fmt.Sprintf("annotation %q", a.Name), Expr: a.Expr, Legend: a.TitleFormat})
		}
	}
	return all
}

func (c *checker) query(q Query) {
	filled := Fill(q.Expr, nil)
	if err := c.site.Names.Expression(filled); err != nil {
		c.report(q.Panel, "%w", err)
		return
	}
	parsed, err := parse(filled)
	if err != nil {
		return // told above
	}
	there := c.site.Names.results(parsed)
	for _, m := range placeholder.FindAllStringSubmatch(q.Legend, -1) {
		if !slices.Contains(there, m[1]) {
			c.report(q.Panel, "legend %q: the result has no label %q, only %v", q.Legend, m[1], there)
		}
	}
	// A chart of times is in seconds, and one of anything else is not.
	if seconds := inSeconds.MatchString(filled); q.unit == units.Seconds && !seconds && !strings.Contains(filled, " / ") {
		c.report(q.Panel, "unit is seconds, and %q is not", q.Expr)
	} else if q.unit != units.Seconds && q.unit != "" && seconds {
		c.report(q.Panel, "unit is %q, and %q is in seconds", q.unit, q.Expr)
	}
}

// inSeconds finds series whose values are seconds: gauges, and the buckets that
// a quantile is made of. The count of a histogram is none, nor is a rate of
// seconds of CPU.
var inSeconds = regexp.MustCompile(`_seconds(_bucket)?(\{|\b[^_])`)

var page = regexp.MustCompile(`/docs/runbooks/([\w.$\{\}]+)\.md`)
var board = regexp.MustCompile(`/d/([\w-]+)`)

// links finds links to dashboards and runbooks that are not there.
func (c *checker) links() {
	for _, m := range page.FindAllStringSubmatch(c.board.text, -1) {
		if m[1] != "README" && m[1] != "${__value.text}" && !slices.Contains(c.site.Alerts, m[1]) {
			c.report("links", "there is no runbook %q", m[1])
		}
	}
	for _, m := range board.FindAllStringSubmatch(c.board.text, -1) {
		if !slices.Contains(c.site.Boards, m[1]) {
			c.report("links", "there is no dashboard %q", m[1])
		}
	}
	tagged := slices.ContainsFunc(c.board.whole.Links, func(l dashboard.DashboardLink) bool {
		return l.Type == dashboard.DashboardLinkTypeDashboards && len(l.Tags) > 0
	})
	if !tagged {
		c.report("links", "there is no link to the other dashboards")
	}
}

// Fill puts values in the place of an expression's variables: the given ones,
// and for all others what fits anywhere.
func Fill(expr string, values map[string]string) string {
	return reference.ReplaceAllStringFunc(expr, func(found string) string {
		m := reference.FindStringSubmatch(found)
		name := m[1] + m[2]
		if v, given := values[name]; given {
			return v
		}
		switch name {
		case "__rate_interval", "__interval", "__range":
			return "1m"
		}
		return ".*"
	})
}

func empty(s *string) bool { return s == nil || strings.TrimSpace(*s) == "" }
