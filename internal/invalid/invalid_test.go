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
