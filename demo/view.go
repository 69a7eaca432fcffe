package main

import (
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/guptarohit/asciigraph"

	"github.com/headgate/headgate/pressure"
)

// endpoint is an address that the viewer may open.
type endpoint struct{ name, url string }

// screen is the live view: a bubbletea model that is sent frames and stories.
type screen struct {
	endpoints     []endpoint
	dir           string // where the logs are
	width, height int

	frames  []frame // the newest last; at most keptFrames
	stories []story // the newest last; at most keptStories
}

const (
	keptFrames  = 600
	keptStories = 50
)

func (s screen) Init() tea.Cmd { return nil }

// Update takes one frame, story, key or size.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case frame:
		s.frames = keepLast(append(s.frames, msg), keptFrames)
	case story:
		s.stories = keepLast(append(s.stories, msg), keptStories)
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if key := msg.String(); key == "ctrl+c" || key == "q" {
			return s, tea.Quit
		}
	}
	return s, nil
}

func keepLast[T any](all []T, n int) []T {
	return all[max(0, len(all)-n):]
}

// View draws the whole screen.
func (s screen) View() tea.View {
	view := tea.NewView(s.render())
	view.AltScreen = true
	return view
}

func (s screen) render() string {
	if s.width == 0 || len(s.frames) == 0 {
		return "waiting for the first signals from Prometheus …\n"
	}
	now := s.frames[len(s.frames)-1]
	charts := max(4, (s.height-21)/2)
	parts := []string{
		s.headline(now),
		depthBar(now, s.width-2),
		"",
		faint("items waiting, with the marks of SOFT and HARD"),
		s.depthChart(charts),
		"",
		faint("items per second: ") + inked(lipgloss.Green, "arriving") + faint(", ") +
			inked(lipgloss.Blue, "drained") + faint(", ") + inked(lipgloss.Yellow, "allowed by the gate"),
		s.rateChart(charts),
		"",
	}
	used := strings.Count(strings.Join(parts, "\n"), "\n") + 1
	parts = append(parts, s.decisions(max(3, s.height-used-5)), "", s.footer())
	return lipgloss.NewStyle().MaxWidth(s.width).MaxHeight(s.height).Render(strings.Join(parts, "\n"))
}

func (s screen) headline(f frame) string {
	return fmt.Sprintf("%s  %s   %s   scale %.2f   gate %s   store takes %s   accepted %s   written %s",
		lipgloss.NewStyle().Bold(true).Render("Headgate"), f.at.Round(time.Second), badge(f.level),
		f.scale, perSecond(f.allowed), perSecond(f.storeTakes), thousands(f.accepted), thousands(f.written))
}

// depthBar shows how full the queue is, with the marks in their places.
func depthBar(f frame, width int) string {
	if !(f.capacity > 0) {
		return ""
	}
	label := fmt.Sprintf(" %s of %s", thousands(f.depth), thousands(f.capacity))
	cells := max(10, width-len(label)-1)
	place := func(items float64) int { return int(math.Round(items / f.capacity * float64(cells))) }
	var b strings.Builder
	for i := range cells {
		switch {
		case i == place(f.softEnter) || i == place(f.hardEnter):
			b.WriteString("│")
		case i < place(f.depth):
			b.WriteString(inked(levelColour(f.level), "█"))
		default:
			b.WriteString(faint("·"))
		}
	}
	return b.String() + label
}

func (s screen) depthChart(height int) string {
	var depth, soft, hard []float64
	for _, f := range s.window() {
		depth, soft, hard = append(depth, f.depth), append(soft, f.softEnter), append(hard, f.hardEnter)
	}
	last := s.frames[len(s.frames)-1]
	return asciigraph.PlotMany([][]float64{soft, hard, depth},
		asciigraph.Height(height), asciigraph.LowerBound(0), asciigraph.UpperBound(last.capacity),
		asciigraph.Precision(0), asciigraph.SeriesColors(asciigraph.Yellow, asciigraph.Red, asciigraph.Default))
}

func (s screen) rateChart(height int) string {
	var arrivals, drain, allowed []float64
	for _, f := range s.window() {
		arrivals, drain, allowed = append(arrivals, known(f.arrivals)), append(drain, known(f.drain)), append(allowed, known(f.allowed))
	}
	return asciigraph.PlotMany([][]float64{arrivals, drain, allowed},
		asciigraph.Height(height), asciigraph.LowerBound(0), asciigraph.Precision(0),
		asciigraph.SeriesColors(asciigraph.Green, asciigraph.Blue, asciigraph.Yellow))
}

// window is the frames that fit the width, at least two for a line.
func (s screen) window() []frame {
	frames := keepLast(s.frames, max(2, s.width-10))
	if len(frames) == 1 {
		return []frame{frames[0], frames[0]}
	}
	return frames
}

func (s screen) decisions(lines int) string {
	shown := keepLast(s.stories, lines)
	rows := []string{faint("decisions as they fall")}
	for _, d := range shown {
		rows = append(rows, fmt.Sprintf("%6s  %s  %s", d.at.Round(100*time.Millisecond), badge(d.level), d.text))
	}
	return strings.Join(rows, "\n")
}

// footer shows the addresses, as many on a line as fit.
func (s screen) footer() string {
	lines := []string{""}
	for _, e := range s.endpoints {
		part := e.name + " " + e.url + "   "
		last := len(lines) - 1
		if lines[last] != "" && len(lines[last])+len(part) > s.width {
			lines = append(lines, "")
			last++
		}
		lines[last] += part
	}
	lines = append(lines, "logs in "+s.dir+"   Ctrl-C stops")
	return faint(strings.Join(lines, "\n"))
}

// faint is for what the eye may pass over.
func faint(text string) string { return lipgloss.NewStyle().Faint(true).Render(text) }

func inked(c color.Color, text string) string {
	return lipgloss.NewStyle().Foreground(c).Render(text)
}

func levelColour(l pressure.Level) color.Color {
	switch l {
	case pressure.OK:
		return lipgloss.Green
	case pressure.Soft:
		return lipgloss.Yellow
	}
	return lipgloss.Red
}

func badge(l pressure.Level) string {
	return lipgloss.NewStyle().Bold(true).Width(4).Foreground(levelColour(l)).Render(l.String())
}

// known is the value, or 0 where it is not measured yet: a chart has no gaps.
func known(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

func perSecond(v float64) string { return thousands(v) + "/s" }

// thousands writes a count as people read it: 12,345.
func thousands(v float64) string {
	if math.IsNaN(v) {
		return "?"
	}
	digits := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
