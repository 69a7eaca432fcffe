// Package trace reads recorded or written profiles of the form
//
//	t_seconds,value
//	0,10
//	0.1,12
//
// which say how a value went over time: items that arrived in an interval, or
// rows per second that a store could take. Headgate replays the former and
// rehearses with the latter.
package trace

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// Point is one row: from At on, until the next row's At, the value holds.
type Point struct {
	At    time.Duration // since the start of the profile, >= 0
	Value float64       // finite and >= 0; its unit is the file's own
}

// Trace is a piecewise-constant profile. It is not changed after it was read
// and may be shared between goroutines.
type Trace struct {
	Points []Point // at least one; At rises from row to row

	// Interval is the spacing of the rows, and how long the last row holds:
	// each row covers [At, At+Interval). Where the rows are not evenly spaced
	// it is the smallest spacing, and a row covers the time up to the next one.
	// A single row has an Interval of one second.
	Interval time.Duration
}

const (
	// longest is the largest time that a row may have, some 31 years.
	longest = 1_000_000_000 * time.Second

	// mostErrors bounds what a file of nothing but faults can make us say.
	mostErrors = 20

	wantTime  = "seconds in [0, 1e9], larger than in the row before"
	wantValue = "a finite number >= 0"
	wantRow   = `two fields, "t_seconds,value"`
)

// Read reads a profile until the end of r. The header line may be absent;
// empty lines and lines that begin with # are skipped. The error joins an
// *invalid.Value for each faulty row (the first twenty), whose field names the
// line and the column; an error of r itself is returned wrapped.
func Read(r io.Reader) (Trace, error) {
	rows := csv.NewReader(r)
	rows.Comment = '#'
	rows.TrimLeadingSpace = true
	rows.ReuseRecord = true
	rows.FieldsPerRecord = -1

	var t Trace
	var errs []error
	for first := true; len(errs) < mostErrors; first = false {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			var syntax *csv.ParseError
			if !errors.As(err, &syntax) {
				return Trace{}, fmt.Errorf("read trace: %w", err)
			}
			errs = append(errs, invalid.New(fmt.Sprintf("line %d", syntax.Line), syntax.Err.Error(), wantRow))
			break
		}
		line, _ := rows.FieldPos(0)
		if first {
			row[0] = strings.TrimPrefix(row[0], "\ufeff")
			if isHeader(row) {
				continue
			}
		}
		point, err := parseRow(row, line)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if n := len(t.Points); n > 0 && point.At <= t.Points[n-1].At {
			errs = append(errs, invalid.New(column(line, "t_seconds"), row[0], wantTime))
			continue
		}
		t.Points = append(t.Points, point)
	}
	if len(errs) == 0 && len(t.Points) == 0 {
		errs = append(errs, invalid.Missing("row", wantRow))
	}
	if err := errors.Join(errs...); err != nil {
		return Trace{}, err
	}
	t.Interval = spacing(t.Points)
	return t, nil
}

// Duration is the time from 0 to the end of the last row.
func (t Trace) Duration() time.Duration {
	if len(t.Points) == 0 {
		return 0
	}
	return t.Points[len(t.Points)-1].At + t.Interval
}

// At is the value at a time: that of the row which covers it, and 0 before the
// first row and past the end. It is how counts are read: what was not recorded
// did not arrive.
func (t Trace) At(at time.Duration) float64 {
	if at >= t.Duration() {
		return 0
	}
	return t.Held(at)
}

// Held is At with the last value held past the end. It is how a capacity is
// read: a store does not vanish when its profile ends.
func (t Trace) Held(at time.Duration) float64 {
	i := t.Row(at)
	if i < 0 {
		return 0
	}
	return t.Points[i].Value
}

// Row is the index of the last row at or before a time, and -1 before the
// first row.
func (t Trace) Row(at time.Duration) int {
	i, found := slices.BinarySearchFunc(t.Points, at, func(p Point, at time.Duration) int {
		return int(min(max(p.At-at, -1), 1))
	})
	if found {
		return i
	}
	return i - 1
}

// Span is how long row i holds: until the next row, and Interval for the last.
func (t Trace) Span(i int) time.Duration {
	if i == len(t.Points)-1 {
		return t.Interval
	}
	return t.Points[i+1].At - t.Points[i].At
}

// isHeader reports whether a first row names the columns.
func isHeader(row []string) bool {
	return len(row) == 2 &&
		strings.EqualFold(strings.TrimSpace(row[0]), "t_seconds") &&
		strings.EqualFold(strings.TrimSpace(row[1]), "value")
}

func parseRow(row []string, line int) (Point, error) {
	if len(row) != 2 {
		return Point{}, invalid.New(fmt.Sprintf("line %d", line), strings.Join(row, ","), wantRow)
	}
	var errs []error
	seconds, err := strconv.ParseFloat(strings.TrimSpace(row[0]), 64)
	if err != nil || !(seconds >= 0 && seconds <= longest.Seconds()) {
		errs = append(errs, invalid.New(column(line, "t_seconds"), row[0], wantTime))
		seconds = 0
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(row[1]), 64)
	if err != nil || !(value >= 0) || math.IsInf(value, 0) {
		errs = append(errs, invalid.New(column(line, "value"), row[1], wantValue))
	}
	at := time.Duration(math.Round(seconds * float64(time.Second)))
	return Point{At: at, Value: value}, errors.Join(errs...)
}

func column(line int, name string) string { return fmt.Sprintf("line %d, %s", line, name) }

// spacing is the smallest distance between two rows.
func spacing(points []Point) time.Duration {
	if len(points) == 1 {
		return time.Second
	}
	least := longest
	for i, p := range points[1:] {
		least = min(least, p.At-points[i].At)
	}
	return least
}
