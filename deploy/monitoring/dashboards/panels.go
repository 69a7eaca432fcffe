package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Units, as Grafana names them.
const (
	unitItems   = "suffix: items"
	unitRate    = "suffix: items/s"
	unitPerSec  = "suffix:/s"
	unitShare   = "percentunit"
	unitSeconds = "s"
	unitCount   = "short"
	unitBytes   = "bytes"
	unitState   = "none" // a number that stands for a word
)

// Sizes on Grafana's grid, which is 24 wide.
const (
	whole, half, third, quarter, sixth = 24, 12, 8, 6, 4
	tall, low                          = 8, 4
)

// panel is what panels of all kinds have.
type panel struct {
	title string
	about string // shown at the "i"; may hold links
	unit  string
	width uint32
}

// query is one expression and how its series are called.
type query struct{ expr, legend string }

// targets are the queries of a panel, lettered from A on.
func targets(queries []query, instant bool) []cog.Builder[variants.Dataquery] {
	var all []cog.Builder[variants.Dataquery]
	for i, q := range queries {
		t := prometheus.NewDataqueryBuilder().Expr(q.expr).LegendFormat(q.legend).
			RefId(string(rune('A' + i))).Datasource(source())
		if instant {
			t.Instant()
		} else {
			t.Range()
		}
		all = append(all, t)
	}
	return all
}

// lines is a chart over time of something that is never below 0.
func lines(p panel, queries ...query) *timeseries.PanelBuilder {
	return chart(p, queries...).Min(0)
}

func chart(p panel, queries ...query) *timeseries.PanelBuilder {
	return timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).
		Span(p.width).Height(tall).Datasource(source()).Targets(targets(queries, false)).
		LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeNever).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdPaletteClassicByName)).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
}

// signed is a chart over time of something that may be below 0.
func signed(p panel, queries ...query) *timeseries.PanelBuilder {
	return chart(p, queries...).LineInterpolation(common.LineInterpolationStepAfter)
}

// steps is a chart over time of something that jumps.
func steps(p panel, queries ...query) *timeseries.PanelBuilder {
	return lines(p, queries...).LineInterpolation(common.LineInterpolationStepAfter)
}

// bars is a chart over time of shares of a whole.
func bars(p panel, queries ...query) *timeseries.PanelBuilder {
	return lines(p, queries...).DrawStyle(common.GraphDrawStyleBars).FillOpacity(60).
		Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
}

// marked draws the marks of both levels as dashed lines in their colours.
func marked(b *timeseries.PanelBuilder, soft, hard string) *timeseries.PanelBuilder {
	return dashed(dashed(b, soft, "orange"), hard, "red")
}

// dashed draws the series whose names match as dashed lines in a fixed colour.
func dashed(b *timeseries.PanelBuilder, name, color string) *timeseries.PanelBuilder {
	return b.OverrideByRegexp(name, []dashboard.DynamicConfigValue{
		{Id: "custom.lineStyle", Value: map[string]any{"fill": "dash", "dash": []int{8, 6}}},
		{Id: "custom.fillOpacity", Value: 0},
		{Id: "color", Value: map[string]any{"mode": "fixed", "fixedColor": color}},
	})
}

// words says what numbers are called, and in which colour.
type words []struct {
	value       string
	text, color string
}

var (
	levels   = words{{"0", "OK", "green"}, {"1", "SOFT", "orange"}, {"2", "HARD", "red"}}
	breakers = words{{"0", "closed", "green"}, {"1", "half open", "orange"}, {"2", "open", "red"}}
	yes      = words{{"0", "no", "text"}, {"1", "yes", "orange"}}
	usable   = words{{"0", "no", "red"}, {"1", "yes", "green"}}
)

func (w words) mapping() []dashboard.ValueMapping {
	options := map[string]dashboard.ValueMappingResult{}
	for i := range w {
		index := int32(i)
		options[w[i].value] = dashboard.ValueMappingResult{Text: &w[i].text, Color: &w[i].color, Index: &index}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}}
}

// states is a band for each series, in the colours of its words.
func states(p panel, w words, queries ...query) *statetimeline.PanelBuilder {
	return statetimeline.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).
		Span(p.width).Height(tall).Datasource(source()).Targets(targets(queries, false)).
		Mappings(w.mapping()).MergeValues(true).ShowValue(common.VisibilityModeAuto).RowHeight(0.8).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Thresholds(marks("text")).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(false).DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeSingle).Sort(common.SortOrderNone))
}

// number is one value in large letters, the last one.
func number(p panel, q query) *stat.PanelBuilder {
	return stat.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).
		Span(p.width).Height(low).Datasource(source()).Targets(targets([]query{q}, true)).
		Orientation(common.VizOrientationAuto).GraphMode(common.BigValueGraphModeNone).ColorMode(common.BigValueColorModeValue).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		Thresholds(marks("text"))
}

// word is one value that stands for a word.
func word(p panel, w words, q query) *stat.PanelBuilder {
	return number(p, q).Mappings(w.mapping()).ColorMode(common.BigValueColorModeBackground)
}

// rows is a table of the labels of what is there now.
func rows(p panel, hidden []string, names map[string]string, q query) *table.PanelBuilder {
	exclude := map[string]bool{"Time": true, "Value": true, "__name__": true}
	for _, h := range hidden {
		exclude[h] = true
	}
	ask := prometheus.NewDataqueryBuilder().Expr(q.expr).RefId("A").Datasource(source()).Instant().
		Format(prometheus.PromQueryFormatTable)
	return table.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).
		Span(p.width).Height(tall).Datasource(source()).WithTarget(ask).
		WithTransformation(dashboard.DataTransformerConfig{
			Id: "organize", Options: map[string]any{"excludeByName": exclude, "renameByName": names},
		})
}

// marks are thresholds: a colour, and further ones from a value on.
func marks(base string, from ...dashboard.Threshold) cog.Builder[dashboard.ThresholdsConfig] {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).
		Steps(append([]dashboard.Threshold{{Color: base}}, from...))
}

func from(value float64, color string) dashboard.Threshold {
	return dashboard.Threshold{Value: &value, Color: color}
}

// runbook is a link to the page of an alert, for a panel that shows its cause.
func runbook(alert string) cog.Builder[dashboard.DashboardLink] {
	return dashboard.NewDashboardLinkBuilder("Runbook " + alert).Type(dashboard.DashboardLinkTypeLink).
		Url(Runbooks + alert + ".md").TargetBlank(true)
}

// links are several links, for a builder.
func links(all ...cog.Builder[dashboard.DashboardLink]) []cog.Builder[dashboard.DashboardLink] {
	return all
}

// runbookOfCell makes a link to the runbook of the alert that a cell names.
func runbookOfCell() []dashboard.DynamicConfigValue {
	return []dashboard.DynamicConfigValue{{Id: "links", Value: []map[string]any{{
		"title": "Runbook", "url": Runbooks + "${__value.text}.md", "targetBlank": true,
	}}}}
}

// toTarget is a link from a series to the dashboard of its target.
func toTarget() cog.Builder[dashboard.DashboardLink] {
	return dashboard.NewDashboardLinkBuilder("This target in detail").Type(dashboard.DashboardLinkTypeLink).
		Url("/d/headgate-target?${datasource:queryparam}&${namespace:queryparam}&var-target=${__field.labels.target}&${__url_time_range}")
}
