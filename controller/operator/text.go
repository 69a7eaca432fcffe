package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
)

// table prints rows under a head, in columns.
type table struct {
	rows [][]string
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// empty reports whether there is nothing but the head.
func (t *table) empty() bool { return len(t.rows) == 1 }

// print prints the table.
func (t *table) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		for i, cell := range row {
			row[i] = clean(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t")) // told by Flush
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// clean makes what others wrote safe for a terminal and a table: control
// characters become spaces.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

// page collects lines, and the first error of writing them.
type page struct {
	to  io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err != nil {
		return
	}
	for i, arg := range args {
		if s, is := arg.(string); is {
			args[i] = clean(s)
		}
	}
	if _, err := fmt.Fprintf(p.to, format, args...); err != nil {
		p.err = fmt.Errorf("write the output: %w", err)
	}
}

func (p *page) table(t *table) {
	if p.err == nil {
		p.err = t.print(p.to)
	}
}

// none stands where there is nothing to tell.
const none = "-"

func number(n controller.Number) string {
	if !n.Known() {
		return none
	}
	return figures.Number(float64(n))
}

func scale(n controller.Number) string {
	if !n.Known() {
		return none
	}
	return figures.Scale(float64(n))
}

func level(l *pressure.Level) string {
	if l == nil {
		return "unknown"
	}
	return l.String()
}

// moment writes a time in UTC: the time of day, and the day where it is not
// within one of now.
func moment(now, at time.Time) string {
	if at.Sub(now).Abs() < 24*time.Hour {
		return at.UTC().Format(time.TimeOnly)
	}
	return at.UTC().Format(time.DateTime)
}

// since writes a moment and how long ago it was.
func since(now time.Time, at *time.Time) string {
	if at == nil {
		return none
	}
	return fmt.Sprintf("%s (%s)", moment(now, *at), now.Sub(*at).Round(time.Second))
}

// encode writes a value as JSON on one line. What is JSON already stays as it
// is, but for its spaces.
func encode(value any) ([]byte, error) {
	data, is := value.(json.RawMessage)
	if !is {
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode the output: %w", err)
		}
		data = encoded
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil, fmt.Errorf("encode the output: %w", err)
	}
	return line.Bytes(), nil
}
