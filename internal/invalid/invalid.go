// Package invalid holds the one error that everything which reads outside
// input reports: which field was wrong, what stood there, and what would be
// right.
package invalid

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Value says that a field of some input was refused. It is an error and is
// immutable, so it may be shared between goroutines.
type Value struct {
	Field string // name of the field, variable or key, as the sender wrote it
	Got   string // the value that stood there, shortened; empty when Missing
	Want  string // what would be right, such as "a number in [0, 1]"

	Missing bool // the field was absent altogether
}

const (
	longest      = 64  // bytes of a refused value that are repeated to the sender
	longestField = 512 // bytes of a field's name, which may have a file's path before it
)

// New reports that field held got, where want would have been right. A string
// is quoted; anything else is printed as fmt's %v does.
func New(field string, got any, want string) *Value {
	return &Value{Field: field, Got: shorten(got), Want: want}
}

// Missing reports that field is absent, where want would have been right.
func Missing(field, want string) *Value {
	return &Value{Field: field, Want: want, Missing: true}
}

// Error names the field, its value and what would be right, on one line that is
// printed as it reads: a field's name may be a stranger's too.
func (v *Value) Error() string {
	field := v.Field
	if strings.TrimSpace(field) != field || field == "" { // as a key may be
		field = strconv.Quote(field)
	}
	if len(field) > longestField {
		field = cut(field, longestField) + "…"
	}
	if v.Missing {
		return plain(fmt.Sprintf("%s is missing, want %s", field, v.Want))
	}
	return plain(fmt.Sprintf("%s is %s, want %s", field, v.Got, v.Want))
}

// lineEnds are those between the lines of what another package says.
var lineEnds = regexp.MustCompile(`\s*\n\s*`)

// plain is a text without what moves a cursor or begins another line.
func plain(text string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b strings.Builder
	for _, r := range lineEnds.ReplaceAllString(text, " ") {
		if odd(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// All returns every Value within err, in order: through wrapped errors and
// through those that errors.Join put together.
func All(err error) []*Value {
	if err == nil {
		return nil
	}
	if v, ok := err.(*Value); ok {
		return []*Value{v}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var all []*Value
		for _, inner := range e.Unwrap() {
			all = append(all, All(inner)...)
		}
		return all
	default:
		return All(errors.Unwrap(err))
	}
}

func shorten(got any) string {
	s, isString := got.(string)
	if !isString {
		s = fmt.Sprint(got)
	}
	long := len(s) > longest
	if long {
		s = cut(s, longest)
	}
	if isString {
		s = strconv.Quote(s)
	}
	if long {
		s += "…"
	}
	return s
}

// cut is the beginning of a longer text, of so many bytes at most and without
// half a letter.
func cut(s string, end int) string {
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// quoted is a value that a YAML decoder repeats.
var quoted = regexp.MustCompile("`[^`]*`")

// WithoutValues is an error of a YAML decoder without the values that it
// repeats, for files in which a value may be a secret.
func WithoutValues(err error) error {
	return errors.New(quoted.ReplaceAllString(err.Error(), "…"))
}

// NewAddress is New for a URL, whose user and password are not repeated.
func NewAddress(field, got, want string) *Value {
	return New(field, WithoutUser(got), want)
}

// WithoutUser is a URL, right or wrong, without the user and password in it.
func WithoutUser(address string) string {
	start := 0
	if i := strings.Index(address, "//"); i >= 0 {
		start = i + 2
	}
	// A password may hold an @ or a slash where the URL is wrong.
	if at := strings.LastIndex(address, "@"); at >= start {
		return address[:start] + "…" + address[at:]
	}
	return address
}
