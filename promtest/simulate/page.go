package simulate

import (
	"bytes"
	"os"

	"gonum.org/v1/plot/plotter"

	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/internal/plant/contest"
	"github.com/headgate/headgate/promtest/chart"
)

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

// writePage writes the table and the series of the best policies' runs, drawn
// above each other, as one file that needs nothing else.
func writePage(file, title string, results []contest.Result, contenders []contest.Contender, s plant.Scenario) error {
	var table bytes.Buffer
	if err := WriteTable(&table, results); err != nil {
		return err
	}
	var drawings []chart.Drawing
	for _, r := range Ranked(results) {
		if len(drawings) == most {
			break
		}
		svg, err := Draw(find(contenders, r), s)
		if err != nil {
			return err
		}
		drawings = append(drawings, chart.Drawing{Title: Label(r), SVG: svg})
	}
	page, err := chart.Page(title, table.String(), drawings)
	if err != nil {
		return err
	}
	return os.WriteFile(file, page, 0o644)
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
	line := func(name string, colour chart.Colour, points plotter.XYs) chart.Line {
		return chart.Line{Name: name, Colour: colour, Parts: []plotter.XYs{thin(points)}}
	}
	rates, err := chart.Panel("items per second", line("the store could take", chart.Grey, store), line("written", chart.Blue, written))
	if err != nil {
		return nil, err
	}
	depths, err := chart.Panel("items waiting", line("depth", chart.Grey, depth))
	if err != nil {
		return nil, err
	}
	scales, err := chart.Panel("scale", line("scale", chart.Grey, scale))
	if err != nil {
		return nil, err
	}
	scales.X.Label.Text = "minutes"
	return chart.SVG(rates, depths, scales)
}
