package backtest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"

	"github.com/headgate/headgate/internal/invalid"
)

// readOpenMetrics reads the series with those names from a file. The error is an
// *fs.PathError, or an *invalid.Value with the file and the line.
func readOpenMetrics(file string, names []string) (history, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseOpenMetrics(file, data, names)
}

const (
	wantOpenMetrics = "OpenMetrics with a time in each line, as promtool tsdb dump-openmetrics writes it"
	wantTimestamp   = "a value and a time in seconds since 1970, from 0 to 253402300799"
	wantEOF         = "the line # EOF at its end: it may have been cut off"
)

// latest is the last millisecond of the year 9999.
const latest = 253402300799_999

// parseOpenMetrics is readOpenMetrics with the file's contents given.
func parseOpenMetrics(file string, data []byte, names []string) (history, error) {
	p := textparse.NewOpenMetricsParser(data, labels.NewSymbolTable())
	byName := map[string]*series{} // nil where a series is of none of the names
	var all history
	for line := 1; ; line++ { // an entry is a line
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, faulty(file, data, line, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		text, at, v := p.Series()
		if at == nil || *at < 0 || *at > latest {
			return nil, invalid.New(fmt.Sprintf("%s: line %d", file, line), lineOf(data, line), wantTimestamp)
		}
		s, known := byName[string(text)]
		if !known {
			s = named(p, names)
			byName[string(text)] = s
			if s != nil {
				all = append(all, s)
			}
		}
		if s != nil {
			s.add(*at, v)
		}
	}
	return finished(all), nil
}

// faulty says what is wrong with a line.
func faulty(file string, data []byte, line int, err error) error {
	text := lineOf(data, line)
	if text == "" || strings.Contains(err.Error(), "does not end with # EOF") {
		return invalid.New(file, fmt.Sprintf("%d lines", strings.Count(string(data), "\n")), wantEOF)
	}
	return invalid.New(fmt.Sprintf("%s: line %d", file, line), text, wantOpenMetrics+": "+strings.Join(strings.Fields(err.Error()), " "))
}

// lineOf is the text of a line, counted from 1; empty beyond the last one.
func lineOf(data []byte, line int) string {
	i := 0
	for text := range strings.Lines(string(data)) {
		if i++; i == line {
			return strings.TrimRight(text, "\r\n")
		}
	}
	return ""
}

// named is the parser's present series, or nil where it has none of the names.
func named(p textparse.Parser, names []string) *series {
	var l labels.Labels
	p.Labels(&l)
	if !slices.Contains(names, l.Get(model.MetricNameLabel)) {
		return nil
	}
	return &series{labels: l}
}

// finished sorts the series, makes one of those that are written differently
// and are the same, and marks where they ended.
func finished(all history) history {
	slices.SortStableFunc(all, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	var merged history
	for _, s := range all {
		if n := len(merged); n > 0 && labels.Equal(merged[n-1].labels, s.labels) {
			merged[n-1].at, merged[n-1].values = append(merged[n-1].at, s.at...), append(merged[n-1].values, s.values...)
			continue
		}
		merged = append(merged, s)
	}
	last := int64(math.MinInt64)
	for _, s := range merged {
		s.sort()
		last = max(last, s.at[len(s.at)-1])
	}
	for _, s := range merged {
		s.markEnds(last)
	}
	return merged
}

// missed is how many usual intervals without a sample say that a series ended.
const missed = 2.5

// markEnds puts Prometheus' staleness marker after each sample that has no
// successor when one was due, and that is not the end of all. Prometheus does so
// when a scrape fails or a series is gone from it, and OpenMetrics cannot say it.
// Without the markers a replica that is gone would seem to hang.
func (s *series) markEnds(last int64) {
	if len(s.at) < 2 {
		return
	}
	spacings := make([]int64, len(s.at)-1)
	for i := range spacings {
		spacings[i] = s.at[i+1] - s.at[i]
	}
	slices.Sort(spacings)
	usual := spacings[len(spacings)/2]
	marked := series{labels: s.labels}
	for i, at := range s.at {
		marked.add(at, s.values[i])
		next := last
		if i+1 < len(s.at) {
			next = s.at[i+1]
		}
		if float64(next-at) > missed*float64(usual) {
			marked.add(at+usual, math.Float64frombits(value.StaleNaN))
		}
	}
	*s = marked
}
