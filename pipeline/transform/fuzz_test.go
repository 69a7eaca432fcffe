package transform_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pipeline/transform"
	"github.com/headgate/headgate/writequeue"
)

// FuzzTransforms lets items through each transform: none is made up, none is
// changed that goes on whole, and what is renamed is JSON as it was.
func FuzzTransforms(f *testing.F) {
	for _, seed := range []string{
		`{"symbol":"AIG","bid":{"price":10}}`, `{"bid.price":1e999,"bid":{"price":"NaN"}}`, `{"s":1,"s":2,"":3}`, `[1]`, `nul`, `{"bid":{"bid":{"bid":{}}}}`, "\xff{}",
	} {
		f.Add([]byte(seed), "bid.price")
	}
	f.Fuzz(func(t *testing.T, payload []byte, field string) {
		items := []writequeue.Item{{Key: "a", Payload: payload}, {Key: "b", Payload: []byte(`{"symbol":"IBM"}`)}, {Key: "a", Payload: payload}}
		all := map[string]transform.Transform{
			"filter": transform.Filter{Field: field, NotIn: []string{"AIG"}, KeepMissing: true},
			"range":  transform.Filter{Field: field, Ranged: true, Min: 0, Max: 5},
			"dedupe": transform.NewDedupe(field, 10, time.Minute),
			"rename": transform.Rename{Fields: map[string]string{field: "x"}, Remove: []string{"symbol"}},
		}
		for name, through := range all {
			kept, from := through.Apply(items)
			if len(kept) != len(from) || len(kept) > len(items) {
				t.Fatalf("%s: %d items of %d places", name, len(kept), len(from))
			}
			for i, item := range kept {
				was := items[from[i]]
				if i > 0 && from[i] <= from[i-1] || item.Key != was.Key {
					t.Fatalf("%s: item %q is not %q, or not in order", name, item.Key, was.Key)
				}
				if name != "rename" && !cmp.Equal(item, was) || json.Valid(item.Payload) != json.Valid(was.Payload) {
					t.Fatalf("%s: %q became %q", name, was.Payload, item.Payload)
				}
			}
			through.Taken(kept)
			if name == "dedupe" {
				if again, _ := through.Apply(kept); len(again) > len(kept) {
					t.Fatalf("of %d items %d are new", len(kept), len(again))
				}
			}
		}
	})
}
