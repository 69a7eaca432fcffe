package trace_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/trace"
)

func ExampleRead() {
	capacity, err := trace.Read(strings.NewReader("t_seconds,value\n0,1000\n20,250\n40,1000\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(capacity.Duration(), capacity.At(25*time.Second), capacity.At(time.Hour), capacity.Held(time.Hour))
	// Output: 1m0s 250 0 1000
}

func TestRead(t *testing.T) {
	even := trace.Trace{
		Points:   []trace.Point{{0, 3}, {100 * time.Millisecond, 0}, {200 * time.Millisecond, 7.5}},
		Interval: 100 * time.Millisecond,
	}
	tests := map[string]struct {
		input string
		want  trace.Trace
	}{
		"a header and evenly spaced rows":      {"t_seconds,value\n0,3\n0.1,0\n0.2,7.5\n", even},
		"no header and no newline at the end":  {"0,3\n0.1,0\n0.2,7.5", even},
		"carriage returns, a BOM and blanks":   {"\ufeffT_seconds, Value\r\n0, 3\r\n0.1 ,0\r\n 0.2,7.5 \r\n", even},
		"a BOM without a header":               {"\ufeff0,3\n0.1,0\n0.2,7.5\n", even},
		"comments and empty lines are skipped": {"# source: example\nt_seconds,value\n\n0,3\n# gap\n0.1,0\n0.2,7.5\n", even},
		"a single row lasts a second": {"0,3\n",
			trace.Trace{Points: []trace.Point{{0, 3}}, Interval: time.Second}},
		"uneven rows have the smallest spacing": {"1,1\n3,2\n10,3\n",
			trace.Trace{Points: []trace.Point{{time.Second, 1}, {3 * time.Second, 2}, {10 * time.Second, 3}}, Interval: 2 * time.Second}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := trace.Read(strings.NewReader(tt.input))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadNamesEveryFaultByLineAndValue(t *testing.T) {
	tests := map[string]struct {
		input string
		want  []string
	}{
		"nothing at all":        {"", []string{`row is missing, want two fields, "t_seconds,value"`}},
		"a header alone":        {"t_seconds,value\n", []string{`row is missing, want two fields, "t_seconds,value"`}},
		"words for numbers":     {"t_seconds,value\nzero,many\n", []string{`line 2, t_seconds is "zero", want seconds in [0, 1e9], larger than in the row before`, `line 2, value is "many", want a finite number >= 0`}},
		"not a number":          {"0,NaN\n", []string{`line 1, value is "NaN", want a finite number >= 0`}},
		"infinite":              {"0,+Inf\n", []string{`line 1, value is "+Inf", want a finite number >= 0`}},
		"negative":              {"0,1\n1,-2\n", []string{`line 2, value is "-2", want a finite number >= 0`}},
		"time before 0":         {"-1,1\n", []string{`line 1, t_seconds is "-1", want seconds in [0, 1e9], larger than in the row before`}},
		"time beyond reason":    {"1e300,1\n", []string{`line 1, t_seconds is "1e300", want seconds in [0, 1e9], larger than in the row before`}},
		"time that stands":      {"0,1\n1,1\n\n1,2\n", []string{`line 4, t_seconds is "1", want seconds in [0, 1e9], larger than in the row before`}},
		"a third column":        {"0,1,2\n", []string{`line 1 is "0,1,2", want two fields, "t_seconds,value"`}},
		"one column":            {"t_seconds,value\n0\n", []string{`line 2 is "0", want two fields, "t_seconds,value"`}},
		"a quote left open":     {"0,\"1\n", []string{`line 1 is "extraneous or missing \" in quoted-field", want two fields, "t_seconds,value"`}},
		"two faults, two lines": {"0,1\nx,1\n2,y\n", []string{`line 2, t_seconds is "x", want seconds in [0, 1e9], larger than in the row before`, `line 3, value is "y", want a finite number >= 0`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := trace.Read(strings.NewReader(tt.input))
			var got []string
			for _, v := range invalid.All(err) {
				got = append(got, v.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadStopsAfterTwentyFaults(t *testing.T) {
	_, err := trace.Read(strings.NewReader(strings.Repeat("x,1\n", 1000)))
	if got := len(invalid.All(err)); got != 20 {
		t.Errorf("%d faults reported, want 20", got)
	}
}

func TestReadReturnsTheReadersError(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := trace.Read(io.MultiReader(strings.NewReader("0,1\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error is %v, want one that wraps %v", err, broken)
	}
}

func TestValueOverTime(t *testing.T) {
	tr := trace.Trace{Points: []trace.Point{{time.Second, 5}, {2 * time.Second, 7}}, Interval: time.Second}
	tests := []struct {
		at       time.Duration
		at0, hld float64
		row      int
	}{
		{0, 0, 0, -1},
		{time.Second - 1, 0, 0, -1},
		{time.Second, 5, 5, 0},
		{2*time.Second - 1, 5, 5, 0},
		{2 * time.Second, 7, 7, 1},
		{3*time.Second - 1, 7, 7, 1},
		{3 * time.Second, 0, 7, 1},
		{math.MaxInt64, 0, 7, 1},
	}
	for _, tt := range tests {
		if got := tr.At(tt.at); got != tt.at0 {
			t.Errorf("At(%v) = %v, want %v", tt.at, got, tt.at0)
		}
		if got := tr.Held(tt.at); got != tt.hld {
			t.Errorf("Held(%v) = %v, want %v", tt.at, got, tt.hld)
		}
		if got := tr.Row(tt.at); got != tt.row {
			t.Errorf("Row(%v) = %v, want %v", tt.at, got, tt.row)
		}
	}
	if got := tr.Duration(); got != 3*time.Second {
		t.Errorf("Duration() = %v, want 3s", got)
	}
	if zero := (trace.Trace{}); zero.Duration() != 0 || zero.At(0) != 0 || zero.Held(0) != 0 {
		t.Error("an empty trace is not 0 everywhere")
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"t_seconds,value\n0,3\n0.1,0\n", "0,3", "# c\n\n1e-9,1e308\n", "0,\"1\n", "\ufeff", "1e300,NaN", "0,0x1p-2\n1_0,1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		got, err := trace.Read(strings.NewReader(input))
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		if len(got.Points) == 0 || got.Interval <= 0 {
			t.Fatalf("accepted without rows or spacing: %+v", got)
		}
		for i, p := range got.Points {
			if !(p.Value >= 0) || math.IsInf(p.Value, 0) || p.At < 0 || got.Span(i) < got.Interval {
				t.Fatalf("row %d is %+v with span %v", i, p, got.Span(i))
			}
			if got.At(p.At) != p.Value {
				t.Fatalf("At(%v) = %v, want the row's %v", p.At, got.At(p.At), p.Value)
			}
		}
	})
}
