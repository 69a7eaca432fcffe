// Package jsonbody reads a JSON object from outside and says which field was
// wrong when it cannot.
package jsonbody

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// Unknown says what happens to fields that the target does not have.
type Unknown bool

const (
	Ignore Unknown = false // for messages of senders that may be newer than we
	Refuse Unknown = true  // for requests, where a misspelt field would be lost
)

// Decode reads the one JSON object that data holds into v. The error is an
// *invalid.Value; v may be half filled then.
func Decode(data []byte, v any, unknown Unknown) error {
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return invalid.New("body", string(data), wantObject)
	}
	// The quick way, without a buffer. What it refuses is explained below.
	if unknown == Ignore && json.Unmarshal(data, v) == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if unknown == Refuse {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(v); err != nil {
		return explain(data, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid.New("body", string(data[decoder.InputOffset():]), "nothing after the object")
	}
	return nil
}

const wantObject = "one JSON object"

// unknownField is how encoding/json begins its words about one.
const unknownField = "json: unknown field "

func explain(data []byte, err error) error {
	var value *invalid.Value
	if errors.As(err, &value) {
		return value
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return invalid.New(wrongType.Field, wrongType.Value, kind(wrongType.Type.Kind().String()))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if field, got := fieldAt(data, syntax.Offset); field != "" {
			return invalid.New(field, got, "JSON: "+strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	if name, is := strings.CutPrefix(err.Error(), unknownField); is {
		return &invalid.Value{Field: strings.Trim(name, `"`), Got: "unknown", Want: "no such field"}
	}
	return invalid.New("body", string(data), wantObject+": "+strings.TrimPrefix(err.Error(), "json: "))
}

// kind names a Go kind as JSON's readers know it.
func kind(goKind string) string {
	switch {
	case strings.HasPrefix(goKind, "int"), strings.HasPrefix(goKind, "uint"):
		return "a whole number"
	case strings.HasPrefix(goKind, "float"):
		return "a number"
	case goKind == "bool":
		return "true or false"
	}
	return "a " + goKind
}

// key is a member's name at the end of what stands before its value.
var key = regexp.MustCompile(`"([^"\\]{1,64})"\s*:\s*$`)

// fieldAt returns the member in whose value the text breaks off being JSON, and
// that value up to where it ends.
func fieldAt(data []byte, offset int64) (field, value string) {
	for at := min(int(offset), len(data)) - 1; at >= 0; at-- {
		if found := key.FindSubmatch(data[:at]); found != nil {
			end := bytes.IndexAny(data[at:], ",} \n")
			if end < 0 {
				end = len(data) - at
			}
			return string(found[1]), string(data[at : at+end])
		}
		if data[at] == ',' || data[at] == '{' {
			return "", ""
		}
	}
	return "", ""
}

// Duration reads a member that holds a number of seconds, or a string as
// time.ParseDuration reads it. An absent member is 0.
func Duration(field string, raw json.RawMessage) (time.Duration, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return 0, invalid.New(field, text, wantDuration)
		}
		return parsed, nil
	}
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil || !(math.Abs(seconds) < maxSeconds) {
		return 0, invalid.New(field, string(raw), wantDuration)
	}
	return time.Duration(math.Round(seconds * float64(time.Second))), nil
}

const (
	maxSeconds   = float64(math.MaxInt64 / int64(time.Second))
	wantDuration = `seconds, or a duration such as "15s"`
)
