// Package transform changes or removes items on their way to the write queue.
// Items are JSON objects; one that is not goes through as an object without
// fields would.
package transform

import (
	"encoding/json"
	"strings"

	"github.com/headgate/headgate/writequeue"
)

// Transform changes batches. It may be used by several goroutines at once.
type Transform interface {
	// Apply returns the items that go on, in order, and for each of them its
	// place among those given. It does not change the items given.
	Apply(items []writequeue.Item) (kept []writequeue.Item, from []int)

	// Taken is told which of the items that went on were accepted further on.
	// What was not may be offered again, and must then go on again.
	Taken(items []writequeue.Item)
}

// lookUp finds a field of a JSON object by its path, the names with dots
// between them. A field whose name holds a dot is found before one within
// another.
func lookUp(object json.RawMessage, path string) (json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return nil, false
	}
	if value, found := fields[path]; found {
		return value, true
	}
	outer, inner, nested := strings.Cut(path, ".")
	if !nested {
		return nil, false
	}
	value, found := fields[outer]
	if !found {
		return nil, false
	}
	return lookUp(value, inner)
}

// text is a JSON value as settings write it: a string without its quotes,
// anything else as it stands.
func text(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(value)
}
