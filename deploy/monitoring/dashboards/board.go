// Package dashboards is the source of Headgate's Grafana dashboards: which
// panels there are, what they ask, and what they mean. What Grafana loads is
// made of it.
//
// The dashboards use the series as they are exported, so that they work without
// the recording rules.
package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Runbooks is the address of the folder with one page for each alert.
const Runbooks = "https://github.com/headgate/headgate/blob/main/docs/runbooks/"

// tag is that of all of the dashboards; links between them go by it.
const tag = "headgate"

// All returns the dashboards as JSON, by the name of their file.
func All() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, make := range []func() *board{overview, target, loop, pipeline} {
		b := make()
		content, err := b.json()
		if err != nil {
			return nil, fmt.Errorf("make the dashboard %s: %w", b.uid, err)
		}
		files[b.uid+".json"] = content
	}
	return files, nil
}

// board is a dashboard that is being made.
type board struct {
	*dashboard.DashboardBuilder
	uid string
}

// newBoard returns a dashboard without panels.
func newBoard(uid, title, about string, variables ...cog.Builder[dashboard.VariableModel]) *board {
	b := &board{DashboardBuilder: dashboard.NewDashboardBuilder("Headgate / " + title), uid: uid}
	b.Uid(uid).Description(about).Tags([]string{tag}).
		Time("now-1h", "now").Refresh("10s").Timezone("browser").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Variables(variables).
		Link(dashboard.NewDashboardLinkBuilder("Headgate").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{tag}).IncludeVars(true).KeepTime(true)).
		Link(dashboard.NewDashboardLinkBuilder("Runbooks").Type(dashboard.DashboardLinkTypeLink).
			Url(Runbooks + "README.md").Icon("doc").Tooltip("What each alert means, and what to do").TargetBlank(true))
	return b
}

// row begins a row of panels under a heading.
func (b *board) row(title string) { b.WithRow(dashboard.NewRowBuilder(title)) }

// add puts panels beside one another, and below when the line is full.
func (b *board) add(panels ...cog.Builder[dashboard.Panel]) {
	for _, p := range panels {
		b.WithPanel(p)
	}
}

// json is the dashboard as Grafana loads it, with its keys in order.
func (b *board) json() ([]byte, error) {
	made, err := b.Build()
	if err != nil {
		return nil, err
	}
	for i, p := range made.Panels {
		id := uint32(i + 1)
		switch {
		case p.Panel != nil:
			p.Panel.Id = &id
		case p.RowPanel != nil:
			p.RowPanel.Id = id
		}
	}
	plain, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	var whole map[string]any
	if err := json.Unmarshal(plain, &whole); err != nil {
		return nil, err
	}
	whole["annotations"] = map[string]any{"list": annotations()}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(whole); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Annotation is a query whose points above 0 are marked in every panel. It is
// written out here because the SDK's type has none of the fields that Grafana's
// Prometheus data source reads beside the expression.
type Annotation struct {
	Name        string               `json:"name"`
	Datasource  common.DataSourceRef `json:"datasource"`
	Enable      bool                 `json:"enable"`
	Hide        bool                 `json:"hide,omitempty"`
	IconColor   string               `json:"iconColor"`
	Expr        string               `json:"expr,omitempty"`
	Step        string               `json:"step,omitempty"`
	TitleFormat string               `json:"titleFormat,omitempty"`
	TextFormat  string               `json:"textFormat,omitempty"`
	TagKeys     string               `json:"tagKeys,omitempty"`
	Type        string               `json:"type,omitempty"`
	BuiltIn     int                  `json:"builtIn,omitempty"`
}

// annotations mark the changes of level. Level 0 is turned into 1, for only
// what is above 0 is marked.
func annotations() []Annotation {
	own, uid := "grafana", "-- Grafana --"
	all := []Annotation{{
		Name: "Annotations & Alerts", Datasource: common.DataSourceRef{Type: &own, Uid: &uid},
		Enable: true, Hide: true, IconColor: "rgba(0, 211, 255, 1)", Type: "dashboard", BuiltIn: 1,
	}}
	for _, l := range []struct{ name, color, is string }{
		{"HARD", "red", "max by (target) (headgate_controller_level%s) == 2"},
		{"SOFT", "orange", "max by (target) (headgate_controller_level%s) == 1"},
		{"OK", "green", "(1 - max by (target) (headgate_controller_level%s)) == 1"},
	} {
		now := fmt.Sprintf(l.is, `{namespace=~"$namespace", target=~"$target"}`)
		before := fmt.Sprintf(l.is, `{namespace=~"$namespace", target=~"$target"} offset $__interval`)
		all = append(all, Annotation{
			Name: "Turned " + l.name, Datasource: source(), Enable: true, IconColor: l.color,
			Expr: now + " unless " + before, Step: "5s", TitleFormat: "{{target}}: " + l.name, TagKeys: "target",
		})
	}
	return all
}

// source is the data source that the variable names.
func source() common.DataSourceRef {
	kind, uid := "prometheus", "${datasource}"
	return common.DataSourceRef{Type: &kind, Uid: &uid}
}

// Variables of the dashboards, in the order in which they narrow one another.

func datasourceVariable() cog.Builder[dashboard.VariableModel] {
	return dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus").
		Description("The Prometheus that scrapes Headgate")
}

func namespaceVariable() cog.Builder[dashboard.VariableModel] {
	return many("namespace", "Namespace", "Of the controller and its coordinators; none without Kubernetes",
		`label_values(headgate_controller_targets, namespace)`)
}

const targetValues = `label_values(headgate_controller_observed{namespace=~"$namespace"}, target)`

func targetsVariable() cog.Builder[dashboard.VariableModel] {
	return many("target", "Target", "Line of control: what is observed and who is throttled for it", targetValues)
}

func targetVariable() cog.Builder[dashboard.VariableModel] {
	return one("target", "Target", "Line of control: what is observed and who is throttled for it", targetValues)
}

func providerVariable() cog.Builder[dashboard.VariableModel] {
	return many("provider", "Provider", "Whose rate is throttled",
		`label_values(headgate_controller_standby{namespace=~"$namespace", target=~"$target"}, provider)`)
}

func coordinatorVariable() cog.Builder[dashboard.VariableModel] {
	return many("coordinator", "Coordinator", "Whose queue is observed",
		`label_values(headgate_controller_observed{namespace=~"$namespace", target=~"$target"}, coordinator_id)`)
}

// many is a variable of any number of values, at first of all of them.
func many(name, label, about, query string) cog.Builder[dashboard.VariableModel] {
	all := dashboard.VariableOption{Text: texts("All"), Value: texts("$__all")}
	return variable(name, label, about, query).Multi(true).IncludeAll(true).AllValue(".*").Current(all)
}

// one is a variable of one value, at first of the first of them.
func one(name, label, about, query string) cog.Builder[dashboard.VariableModel] {
	return variable(name, label, about, query)
}

func variable(name, label, about, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Description(about).Datasource(source()).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": name}}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc)
}

func texts(values ...string) dashboard.StringOrArrayOfString {
	return dashboard.StringOrArrayOfString{ArrayOfString: values}
}
