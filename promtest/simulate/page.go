package simulate

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/internal/plant/contest"
)

// colours are told apart by people who see colours differently, too (Okabe and
// Ito, 2008).
var colours = []color.Color{color.RGBA{0x99, 0x99, 0x99, 0xff}, color.RGBA{0x00, 0x72, 0xb2, 0xff}}

// thin leaves some 1,800 points; more cannot be seen.
func thin(points plotter.XYs) plotter.XYs {
	every := max(1, len(points)/1800)
	var thinned plotter.XYs
	for i := 0; i < len(points); i += every {
		thinned = append(thinned, points[i])
	}
	return thinned
}

// most contenders are drawn; more cannot be told from one another.
const most = 3

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
{{.SVG}}
{{end}}</body></html>
`))

type drawing struct {
	Title string
	SVG   template.HTML
}

// writePage writes the table and the series of the best policies' runs, drawn
// above each other, as one file that needs nothing else.
func writePage(file, title string, results []contest.Result, contenders []contest.Contender, s plant.Scenario) error {
	var table bytes.Buffer
	if err := WriteTable(&table, results); err != nil {
		return err
	}
	var drawings []drawing
	for _, r := range Ranked(results) {
		if len(drawings) == most {
			break
		}
		svg, err := Draw(find(contenders, r), s)
		if err != nil {
			return err
		}
		drawings = append(drawings, drawing{Label(r), template.HTML(svg)})
	}
	var out bytes.Buffer
	if err := page.Execute(&out, struct {
		Title, Table string
		Drawings     []drawing
	}{title, table.String(), drawings}); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// find is the variant that a result is of.
func find(contenders []contest.Contender, r contest.Result) contest.Variant {
	for _, c := range contenders {
		if c.Name != r.Policy {
			continue
		}
		for _, v := range c.Grid {
			if v.Settings.String() == r.Settings.String() {
				return v
			}
		}
		return c.Default
	}
	return contest.Variant{}
}

// Draw draws a run as SVG: the rates, the depth and the scale above each other.
func Draw(v contest.Variant, s plant.Scenario) ([]byte, error) {
	var store, written, depth, scale plotter.XYs
	s.Observe = func(p plant.Point) {
		at := p.At.Minutes()
		store = append(store, plotter.XY{X: at, Y: p.StorePerSecond})
		written = append(written, plotter.XY{X: at, Y: p.WrittenPerSecond})
		depth = append(depth, plotter.XY{X: at, Y: p.Depth})
		scale = append(scale, plotter.XY{X: at, Y: p.Scale})
	}
	v.Run(s)
	rates, err := panel("items per second", "the store could take", store, "written", written)
	if err != nil {
		return nil, err
	}
	depths, err := panel("items waiting", "depth", depth, "", nil)
	if err != nil {
		return nil, err
	}
	scales, err := panel("scale", "scale", scale, "", nil)
	if err != nil {
		return nil, err
	}
	scales.X.Label.Text = "minutes"
	canvas := vgsvg.New(26*vg.Centimeter, 18*vg.Centimeter)
	tiles := draw.Tiles{Rows: 3, Cols: 1, PadY: 3 * vg.Millimeter}
	plots := [][]*plot.Plot{{rates}, {depths}, {scales}}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("write the drawing: %w", err)
	}
	return out.Bytes(), nil
}

func panel(unit, name string, points plotter.XYs, otherName string, other plotter.XYs) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Label.Text = unit
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	for i, series := range []struct {
		name   string
		points plotter.XYs
	}{{name, points}, {otherName, other}} {
		if len(series.points) == 0 {
			continue
		}
		line, err := plotter.NewLine(thin(series.points))
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", series.name, err)
		}
		line.Color = colours[i]
		p.Add(line)
		p.Legend.Add(series.name, line)
	}
	p.Legend.Top = true
	return p, nil
}
