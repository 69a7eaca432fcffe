// Package invalidtest holds the errors of what reads outside input to what they
// promise.
package invalidtest

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/invalid"
)

// longest is the most bytes that one wrong value may make us say: a few for
// itself, and what would be right.
const longest = 4096

// Explained fails where an error does not name each field that was wrong, the
// value that stood there and what would be right; where one of them has no end;
// and where it could pass for another line of a log or move a terminal's cursor.
func Explained(t testing.TB, err error) {
	t.Helper()
	all := invalid.All(err)
	if len(all) == 0 {
		t.Fatalf("an error that names no field: %v", err)
	}
	for _, v := range all {
		if v.Want == "" || v.Got == "" && !v.Missing {
			t.Fatalf("half an error: %+v", v)
		}
		text := v.Error()
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("an error that is no plain line: %q", text)
		}
		if strings.HasPrefix(text, " ") {
			t.Fatalf("an error that names no field: %q", text)
		}
		if len(text) > longest {
			t.Fatalf("an error of %d bytes: %.200q…", len(text), text)
		}
	}
}
