package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"
)

// wellFormed fails the test where a text is no XML.
func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPanelsStandAboveOneAnother(t *testing.T) {
	depth, err := Panel("items", Line{Name: "depth", Colour: Blue, Parts: []plotter.XYs{{{X: 0, Y: 1}, {X: 1, Y: 2}}, {}, {{X: 3, Y: 1}, {X: 4, Y: 2}}}},
		Line{Name: "never seen"})
	if err != nil {
		t.Fatal(err)
	}
	scale, err := Panel("scale", Line{Name: "allowed", Steps: true, Dashed: true, Parts: []plotter.XYs{{{X: 0, Y: 1}, {X: 4, Y: 0}}}})
	if err != nil {
		t.Fatal(err)
	}
	svg, err := SVG(depth, scale)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, svg)
	for word, times := range map[string]int{">depth<": 1, ">allowed<": 1, ">items<": 1, "never seen": 0} {
		if got := strings.Count(string(svg), word); got != times {
			t.Errorf("%q stands there %d times, want %d", word, got, times)
		}
	}
	page, err := Page("a < b", "1 < 2", []Drawing{{"one & all", svg}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<h1>a &lt; b</h1>", "<pre>1 &lt; 2</pre>", "<h2>one &amp; all</h2>", "<svg"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}
