package transform

import (
	"encoding/json"

	"github.com/headgate/headgate/writequeue"
)

// Rename renames and removes fields at the top of an item. A field that is
// renamed takes the place of one that has the new name already. The fields of
// an item that was changed are in alphabetical order; numbers keep every digit.
type Rename struct {
	Fields map[string]string // new names by old ones
	Remove []string
}

// Apply passes all items on.
func (r Rename) Apply(items []writequeue.Item) (kept []writequeue.Item, from []int) {
	kept, from = make([]writequeue.Item, len(items)), make([]int, len(items))
	for i, item := range items {
		item.Payload = r.changed(item.Payload)
		kept[i], from[i] = item, i
	}
	return kept, from
}

// Taken needs to know nothing.
func (Rename) Taken([]writequeue.Item) {}

func (r Rename) changed(payload []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil {
		return payload
	}
	moved := map[string]json.RawMessage{}
	for old, name := range r.Fields {
		if value, found := fields[old]; found {
			moved[name] = value
		}
	}
	for old := range r.Fields {
		delete(fields, old)
	}
	for _, name := range r.Remove {
		delete(fields, name)
	}
	for name, value := range moved {
		fields[name] = value
	}
	changed, err := json.Marshal(fields)
	if err != nil {
		return payload
	}
	return changed
}
