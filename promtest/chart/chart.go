// Package chart draws series above one another, as SVG or as a page that needs
// nothing else.
package chart

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colour is one of a few that are told apart by people who see colours
// differently, too (Okabe and Ito, 2008).
type Colour int

// The colours.
const (
	Grey Colour = iota
	Blue
	Orange
	Vermilion
	Green
	Purple
)

func (c Colour) rgba() color.Color {
	return [...]color.RGBA{
		{0x99, 0x99, 0x99, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff},
		{0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff},
	}[c]
}

// Line is one series.
type Line struct {
	Name   string
	Colour Colour
	Parts  []plotter.XYs // with gaps between them
	Steps  bool          // a value holds until the next one
	Dashed bool
}

// Panel is lines over one axis. Those without a point are left out.
func Panel(unit string, lines ...Line) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Label.Text = unit
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	for _, l := range lines {
		named := false
		for _, part := range l.Parts {
			if len(part) == 0 {
				continue
			}
			line, err := plotter.NewLine(part)
			if err != nil {
				return nil, fmt.Errorf("draw %s: %w", l.Name, err)
			}
			line.Color = l.Colour.rgba()
			if l.Steps {
				line.StepStyle = plotter.PostStep
			}
			if l.Dashed {
				line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
			}
			p.Add(line)
			if !named {
				p.Legend.Add(l.Name, line)
				named = true
			}
		}
	}
	p.Legend.Top = true
	return p, nil
}

// SVG draws panels above one another, each 26 cm wide and 6 cm high.
func SVG(panels ...*plot.Plot) ([]byte, error) {
	canvas := vgsvg.New(26*vg.Centimeter, vg.Length(6*len(panels))*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadY: 3 * vg.Millimeter}
	plots := make([][]*plot.Plot, len(panels))
	for i, p := range panels {
		plots[i] = []*plot.Plot{p}
	}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		panels[i].Draw(row[0])
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("write the drawing: %w", err)
	}
	return out.Bytes(), nil
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ccc; }
th:first-child, td:first-child, td:last-child { text-align: left; } svg { max-width: 100%; height: auto; }
</style></head><body>
<h1>{{.Title}}</h1>
<pre>{{.Table}}</pre>
{{range .Drawings}}<h2>{{.Title}}</h2>
{{.HTML}}
{{end}}</body></html>
`))

// Drawing is one drawing on a page.
type Drawing struct {
	Title string
	SVG   []byte
}

// HTML is the drawing as it is written into the page.
func (d Drawing) HTML() template.HTML { return template.HTML(d.SVG) }

// Page is an HTML page with a table of plain text and drawings below it.
func Page(title, table string, drawings []Drawing) ([]byte, error) {
	var out bytes.Buffer
	err := page.Execute(&out, struct {
		Title, Table string
		Drawings     []Drawing
	}{title, table, drawings})
	if err != nil {
		return nil, fmt.Errorf("make the page: %w", err)
	}
	return out.Bytes(), nil
}
