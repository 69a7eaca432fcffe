package jsonbody

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

func TestWhatIsWrongIsNamed(t *testing.T) {
	type body struct {
		Count int     `json:"count"`
		Rate  float64 `json:"rate"`
		On    bool    `json:"on"`
	}
	for _, test := range []struct{ name, text, field, got string }{
		{"nothing", ``, "body", `""`},
		{"no object", `5`, "body", `"5"`},
		{"null", `null`, "body", `"null"`},
		{"something after it", `{} x`, "body", `"x"`},
		{"a word for a number", `{"count": "one"}`, "count", `"string"`},
		{"a fraction for a whole number", `{"count": 1.5}`, "count", `"number 1.5"`},
		{"a number for a switch", `{"on": 1}`, "on", `"number"`},
		{"no JSON number", `{"on": true, "rate": NaN}`, "rate", `"NaN"`},
		{"an unknown field", `{"cuont": 1}`, "cuont", "unknown"},
		{"a broken object", `{"count": 1`, "body", `"{\"count\": 1"`},
	} {
		var b body
		values := invalid.All(Decode([]byte(test.text), &b, Refuse))
		if len(values) != 1 || values[0].Field != test.field || values[0].Got != test.got {
			t.Errorf("%s: got %v, want %s and %s", test.name, values, test.field, test.got)
		}
	}
}

func TestWhatIsUnknownMayBeIgnored(t *testing.T) {
	var b struct {
		Count int `json:"count"`
	}
	if err := Decode([]byte(` {"cuont": 1, "count": 2} `), &b, Ignore); err != nil || b.Count != 2 {
		t.Errorf("got %v and %v, want what is unknown ignored", b, err)
	}
	for text, field := range map[string]string{
		`{"cuont": 1, "count": 2} x`: "body", `{"cuont": 1, "count": "two"}`: "count", `{"cuont": 1`: "body",
	} {
		if values := invalid.All(Decode([]byte(text), &b, Ignore)); len(values) != 1 || values[0].Field != field {
			t.Errorf("%s: got %v, want the field %s", text, values, field)
		}
	}
}

func TestADurationIsSecondsOrWords(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`15`: 15 * time.Second, `0.25`: 250 * time.Millisecond, `"1m30s"`: 90 * time.Second,
		`-1`: -time.Second, ``: 0, `null`: 0,
	} {
		if got, err := Duration("ttl", json.RawMessage(text)); err != nil || got != want {
			t.Errorf("%s: got %v and %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`"soon"`, `1e99`, `[]`, `true`, `""`} {
		if _, err := Duration("ttl", json.RawMessage(text)); len(invalid.All(err)) != 1 {
			t.Errorf("%s: got %v, want an error that names ttl", text, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a": 1, "b": "x", "c": [1, {"d": null}]}`))
	f.Add([]byte(`{"a": NaN}`))
	f.Add([]byte(`{"a": "\ud800", "a": 2}{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v struct {
			A float64 `json:"a"`
			B string  `json:"b"`
			C []int   `json:"c"`
		}
		if err := Decode(data, &v, Refuse); err != nil && len(invalid.All(err)) != 1 {
			t.Errorf("an error that names no field: %v", err)
		}
	})
}
