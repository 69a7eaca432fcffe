package invalid

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAnErrorNamesFieldValueAndWhatIsRight(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{New("scale", 1.5, "a number in [0, 1]"), `scale is 1.5, want a number in [0, 1]`},
		{New("level", "mild", "ok, soft or hard"), `level is "mild", want ok, soft or hard`},
		{Missing("holder", "a name"), `holder is missing, want a name`},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestALongValueIsCutBetweenLetters(t *testing.T) {
	v := New("name", strings.Repeat("ü", 100), "less")
	if len(v.Got) > 80 || !utf8.ValidString(v.Got) || !strings.HasSuffix(v.Got, "…") {
		t.Errorf("got %q", v.Got)
	}
}

func TestAllFindsThemInJoinedAndWrappedErrors(t *testing.T) {
	a, b, c := New("a", 1, ""), New("b", 2, ""), New("c", 3, "")
	err := fmt.Errorf("outer: %w", errors.Join(a, fmt.Errorf("inner: %w", errors.Join(b, errors.New("other"), nil)), c))
	all := All(err)
	if len(all) != 3 || all[0] != a || all[1] != b || all[2] != c {
		t.Errorf("got %v, want a, b and c", all)
	}
	if All(nil) != nil || All(errors.New("other")) != nil {
		t.Error("want none where there is none")
	}
}

func TestAnAddressIsRepeatedWithoutItsUserAndPassword(t *testing.T) {
	for address, want := range map[string]string{
		"http://host:80/path":             "http://host:80/path",
		"http://user:sEcReT@host:80":      "http://…@host:80",
		"http://user:sEc@ReT@host":        "http://…@host",
		"http://user:sEc/ReT@host:bad":    "http://…@host:bad",
		"user:sEcReT@host":                "…@host",
		"postgres://u:sEcReT@h/db?a=b":    "postgres://…@h/db?a=b",
		"":                                "",
		"dns+http://user:sEcReT@host:900": "dns+http://…@host:900",
	} {
		if got := WithoutUser(address); got != want {
			t.Errorf("%q becomes %q, want %q", address, got, want)
		}
	}
	if v := NewAddress("url", "http://user:sEcReT@host", "an address"); strings.Contains(v.Error(), "sEcReT") {
		t.Error(v)
	}
}

func TestAYAMLErrorIsRepeatedWithoutValues(t *testing.T) {
	err := WithoutValues(errors.New("yaml: line 3: cannot unmarshal !!str `sEcReT` into int"))
	if want := "yaml: line 3: cannot unmarshal !!str … into int"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestAnErrorIsOneLineThatPrintsAsItReads(t *testing.T) {
	err := &Value{Field: "a\nlevel=ERROR\x1b[2J\xff", Got: "x", Want: "yaml:\n  line 1: y"}
	if got, want := err.Error(), `a level=ERROR\x1b[2J\ufffd is x, want yaml: line 1: y`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := Missing(strings.Repeat("ä", 10_000), "a name").Error()
	if len(long) > 600 || !strings.Contains(long, "ä… is missing") {
		t.Errorf("got %q", long)
	}
}
