package backtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/value"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

// written writes series as a test can read them.
func written(h history) []string {
	var all []string
	for _, s := range h {
		var b strings.Builder
		b.WriteString(s.labels.String())
		for i, at := range s.at {
			if value.IsStaleNaN(s.values[i]) {
				fmt.Fprintf(&b, " %d:ends", at)
			} else {
				fmt.Fprintf(&b, " %d:%g", at, s.values[i])
			}
		}
		all = append(all, b.String())
	}
	return all
}

func TestTheSeriesThatAreAskedForAreRead(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"of other names none": {"up 1 1\n# EOF\n", nil},
		"comments and types are passed over": {
			"# TYPE depth gauge\n# HELP depth how deep\ndepth{a=\"b\"} 1 1.5\ndepth{a=\"b\"} 2 2.5\n# EOF\n",
			[]string{`{__name__="depth", a="b"} 1500:1 2500:2`},
		},
		"samples in any order": {
			"depth 3 3\ndepth 1 1\ndepth 2 2\n# EOF\n",
			[]string{`{__name__="depth"} 1000:1 2000:2 3000:3`},
		},
		"of two at a time the last": {
			"depth 1 1\ndepth 5 2\ndepth 6 2\n# EOF\n",
			[]string{`{__name__="depth"} 1000:1 2000:6`},
		},
		"one series written in two ways": {
			"depth{a=\"1\",b=\"2\"} 1 1\ndepth{b=\"2\",a=\"1\"} 2 2\n# EOF\n",
			[]string{`{__name__="depth", a="1", b="2"} 1000:1 2000:2`},
		},
		"a series that ends before the others is marked": {
			"depth{r=\"a\"} 1 1\ndepth{r=\"a\"} 1 2\ndepth{r=\"b\"} 1 1\ndepth{r=\"b\"} 1 2\ndepth{r=\"b\"} 1 3\ndepth{r=\"b\"} 1 4\ndepth{r=\"b\"} 1 5\n# EOF\n",
			[]string{`{__name__="depth", r="a"} 1000:1 2000:1 3000:ends`, `{__name__="depth", r="b"} 1000:1 2000:1 3000:1 4000:1 5000:1`},
		},
		"and so is a gap, but no single scrape that is missed": {
			"depth 1 1\ndepth 1 2\ndepth 1 4\ndepth 1 5\ndepth 1 9\ndepth 1 10\n# EOF\n",
			[]string{`{__name__="depth"} 1000:1 2000:1 4000:1 5000:1 6000:ends 9000:1 10000:1`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parseOpenMetrics("f.om", []byte(test.text), []string{"depth"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, written(h)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFileThatIsNoOpenMetricsIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"depth 1 1\ndepth deep 2\n# EOF\n":       `f.om: line 2 is "depth deep 2", want OpenMetrics with a time`,
		"depth 1 1\ndepth 1\n# EOF\n":            `f.om: line 2 is "depth 1", want a value and a time`,
		"depth 1 1\n{__name__=\"x\"} 1\n# EOF\n": `f.om: line 2 is `,
		"depth 1 1\ndepth 1 2\n":                 `f.om is "2 lines", want the line # EOF`,
		"":                                       `f.om is "0 lines", want the line # EOF`,
		"depth 1 -1\n# EOF\n":                    `f.om: line 1 is "depth 1 -1", want a value and a time`,
		"depth 1 1e300\n# EOF\n":                 `f.om: line 1 is`,
		"depth{a=\"b} 1 1\n# EOF\n":              `f.om: line 1 is "depth{a=\"b} 1 1"`,
		"\x00\x01\x02\n":                         `f.om: line 1 is`,
	} {
		_, err := parseOpenMetrics("f.om", []byte(text), []string{"depth"})
		if len(invalid.All(err)) != 1 || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzOpenMetrics(f *testing.F) {
	f.Add("# TYPE depth gauge\ndepth{a=\"b\"} 1 1.5\ndepth 2 2\n# EOF\n")
	f.Add("depth NaN 1\ndepth +Inf 1e9\ndepth -3 -1\n# EOF")
	f.Add("depth_total 1 1 # {a=\"b\"} 1 1\ndepth_created 1 1\n# EOF\n")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseOpenMetrics("f.om", []byte(text), []string{"depth", "depth_total"})
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		for _, s := range h {
			if len(s.at) == 0 || len(s.at) != len(s.values) {
				t.Fatalf("%d times and %d values", len(s.at), len(s.values))
			}
			for i := 1; i < len(s.at); i++ {
				if s.at[i] <= s.at[i-1] {
					t.Fatalf("%d does not come after %d", s.at[i], s.at[i-1])
				}
			}
			if end := s.values[len(s.values)-1]; value.IsStaleNaN(end) && len(h) == 1 {
				t.Fatal("the only series ends before it ends")
			}
		}
	})
}
