package backtest

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/promtest/chart"
)

// mostBuckets is into how many parts a range is cut for a drawing, of which each
// shows its least and its most; more cannot be seen.
const mostBuckets = 900

// curve is a series over time, thinned on the way. Its zero value draws nothing.
type curve struct {
	width   time.Duration // of a bucket; 0 is to draw nothing
	buckets []bucket
}

// bucket is the extremes of some time, or a gap.
type bucket struct {
	low, high dot
	gap       bool
}

type dot struct {
	at time.Time
	v  float64
}

// add takes one value in. NaN is a gap.
func (c *curve) add(now time.Time, v float64) {
	if c.width == 0 {
		return
	}
	var last *bucket
	if n := len(c.buckets); n > 0 {
		last = &c.buckets[n-1]
	}
	d := dot{now, v}
	switch {
	case math.IsNaN(v):
		if last != nil && !last.gap {
			c.buckets = append(c.buckets, bucket{gap: true})
		}
	case last == nil || last.gap || now.Sub(c.first(last)) >= c.width:
		c.buckets = append(c.buckets, bucket{low: d, high: d})
	case v < last.low.v:
		last.low = d
	case v > last.high.v:
		last.high = d
	}
}

// first is when a bucket begins.
func (c *curve) first(b *bucket) time.Time {
	if b.low.at.Before(b.high.at) {
		return b.low.at
	}
	return b.high.at
}

// parts are the points between the gaps.
func (c *curve) parts() []plotter.XYs {
	parts := []plotter.XYs{nil}
	point := func(d dot) {
		last := &parts[len(parts)-1]
		*last = append(*last, plotter.XY{X: float64(d.at.UnixMilli()) / 1e3, Y: d.v})
	}
	for _, b := range c.buckets {
		switch {
		case b.gap:
			parts = append(parts, nil)
		case b.low.at.Equal(b.high.at):
			point(b.low)
		case b.low.at.Before(b.high.at):
			point(b.low)
			point(b.high)
		default:
			point(b.high)
			point(b.low)
		}
	}
	return parts
}

// curves are what is drawn of a line.
type curves struct {
	depth, would, soft, hard curve
	arrivals, drain, allowed curve
	scale, level             curve
}

// drawable are curves of a range that is drawn.
func drawable(from, to time.Time) curves {
	c := curve{width: bucketWidth(from, to)}
	return curves{c, c, c, c, c, c, c, c, c}
}

func bucketWidth(from, to time.Time) time.Duration { return max(1, to.Sub(from)/mostBuckets) }

// draw takes in what there is at a tick.
func (l *line) draw(now time.Time, d *controller.Decision, s sight) {
	c := &l.drawn
	c.depth.add(now, s.depth)
	c.would.add(now, l.depth())
	c.soft.add(now, float64(d.SoftEnter))
	c.hard.add(now, float64(d.HardEnter))
	c.arrivals.add(now, s.arrivals)
	c.drain.add(now, s.drain)
	c.allowed.add(now, l.gate.allowed())
	c.scale.add(now, float64(d.Scale))
	level := math.NaN()
	if l.account.level != nil {
		level = float64(*l.account.level)
	}
	c.level.add(now, level)
}

// panels draws a target on a course, above the replicas of the fleets.
func (r *run) panels(l *line) ([]*plot.Plot, error) {
	c := &l.drawn
	var panels []*plot.Plot
	var err error
	panel := func(unit string, lines ...chart.Line) *plot.Plot {
		p, panelErr := chart.Panel(unit, lines...)
		if panelErr != nil {
			err = panelErr
			return plot.New()
		}
		p.X.Min, p.X.Max = float64(r.from.UnixMilli())/1e3, float64(r.to.UnixMilli())/1e3
		p.X.Tick.Marker = plot.TimeTicks{Format: r.clock(), Time: plot.UTCUnixTime}
		panels = append(panels, p)
		return p
	}
	panel("items waiting",
		chart.Line{Name: "recorded", Colour: chart.Grey, Parts: c.depth.parts()},
		chart.Line{Name: "would have been", Colour: chart.Blue, Parts: c.would.parts()},
		chart.Line{Name: "SOFT above", Colour: chart.Orange, Parts: c.soft.parts(), Dashed: true},
		chart.Line{Name: "HARD from", Colour: chart.Vermilion, Parts: c.hard.parts(), Dashed: true})
	panel("items per second",
		chart.Line{Name: "allowed", Colour: chart.Blue, Parts: c.allowed.parts(), Steps: true},
		chart.Line{Name: "arrivals", Colour: chart.Orange, Parts: c.arrivals.parts()},
		chart.Line{Name: "drain", Colour: chart.Green, Parts: c.drain.parts()})
	panel("scale", chart.Line{Name: "scale", Colour: chart.Blue, Parts: c.scale.parts(), Steps: true}).Y.Max = 1
	levels := panel("level", chart.Line{Name: "level", Colour: chart.Vermilion, Parts: c.level.parts(), Steps: true})
	levels.Y.Max = 2
	levels.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "OK"}, {Value: 1, Label: "SOFT"}, {Value: 2, Label: "HARD"}}
	if len(r.fleets) > 0 {
		var lines []chart.Line
		for i, f := range r.fleets {
			lines = append(lines, chart.Line{Name: f.object.name, Colour: chart.Blue + chart.Colour(i%5), Parts: f.drawn.parts(), Steps: true})
		}
		panel("replicas", lines...).Y.Tick.Marker = plot.TickerFunc(wholeTicks)
	}
	if err != nil {
		return nil, err
	}
	panels[len(panels)-1].X.Label.Text = "UTC"
	return panels, nil
}

// clock is how times are written at the axis.
func (r *run) clock() string {
	if r.to.Sub(r.from) > 36*time.Hour {
		return "01-02\n15:04"
	}
	return "15:04:05"
}

// wholeTicks are at most some six whole numbers.
func wholeTicks(least, most float64) []plot.Tick {
	step := max(1, math.Ceil((most-least)/5))
	var ticks []plot.Tick
	for v := math.Ceil(least); v <= most; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.0f", v)})
	}
	return ticks
}

// drawings draws each target on each course.
func (r *run) drawings() ([]chart.Drawing, error) {
	var all []chart.Drawing
	for _, c := range r.courses {
		for _, l := range c.lines {
			panels, err := r.panels(l)
			if err != nil {
				return nil, err
			}
			panels[0].Title.Text = l.title()
			svg, err := chart.SVG(panels...)
			if err != nil {
				return nil, err
			}
			all = append(all, chart.Drawing{Title: l.title(), SVG: svg})
		}
	}
	return all, nil
}

// picture draws all of it as one SVG.
func (r *run) picture() ([]byte, error) {
	var panels []*plot.Plot
	for _, c := range r.courses {
		for _, l := range c.lines {
			own, err := r.panels(l)
			if err != nil {
				return nil, err
			}
			own[0].Title.Text = l.title()
			panels = append(panels, own...)
		}
	}
	return chart.SVG(panels...)
}

// page is an HTML page with the table and the drawings.
func (r *run) page() ([]byte, error) {
	var table bytes.Buffer
	if err := r.writeTable(&table); err != nil {
		return nil, err
	}
	drawings, err := r.drawings()
	if err != nil {
		return nil, err
	}
	return chart.Page(r.title(), table.String(), drawings)
}
