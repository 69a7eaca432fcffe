package transform

import (
	"slices"
	"strconv"

	"github.com/headgate/headgate/writequeue"
)

// Filter keeps the items whose field fits. All that is set must hold.
type Filter struct {
	Field string   // path of the field
	In    []string // values that are kept; nil for all
	NotIn []string // values that are not kept

	// Range keeps numbers from Min to Max. An item whose field is no number is
	// then not kept; a number in quotes is one.
	Ranged   bool
	Min, Max float64

	KeepMissing bool // keep items without the field, or where it is null
}

// Apply keeps what fits.
func (f Filter) Apply(items []writequeue.Item) (kept []writequeue.Item, from []int) {
	for i, item := range items {
		if f.fits(item) {
			kept, from = append(kept, item), append(from, i)
		}
	}
	return kept, from
}

// Taken needs to know nothing.
func (Filter) Taken([]writequeue.Item) {}

func (f Filter) fits(item writequeue.Item) bool {
	raw, found := lookUp(item.Payload, f.Field)
	if !found || string(raw) == "null" {
		return f.KeepMissing
	}
	value := text(raw)
	if len(f.In) > 0 && !slices.Contains(f.In, value) || slices.Contains(f.NotIn, value) {
		return false
	}
	if !f.Ranged {
		return true
	}
	number, err := strconv.ParseFloat(value, 64)
	return err == nil && number >= f.Min && number <= f.Max
}
