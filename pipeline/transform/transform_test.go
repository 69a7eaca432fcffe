package transform_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pipeline/transform"
	"github.com/headgate/headgate/writequeue"
)

func payloads(payloads ...string) []writequeue.Item {
	var items []writequeue.Item
	for i, p := range payloads {
		items = append(items, writequeue.Item{Key: fmt.Sprint("k", i), Payload: []byte(p)})
	}
	return items
}

func TestAFilterKeepsWhatFits(t *testing.T) {
	items := payloads(
		`{"symbol":"AIG","bid":{"price":10}}`,
		`{"symbol":"BAC","bid":{"price":"20.5"}}`,
		`{"symbol":null,"bid":{"price":30}}`,
		`{"symbol":7,"bid.price":40}`,
		`not JSON`,
	)
	for _, test := range []struct {
		name   string
		filter transform.Filter
		want   []int
	}{
		{"one of some values", transform.Filter{Field: "symbol", In: []string{"BAC", "7"}}, []int{1, 3}},
		{"none of some values", transform.Filter{Field: "symbol", NotIn: []string{"BAC"}}, []int{0, 3}},
		{"a field that is there", transform.Filter{Field: "symbol"}, []int{0, 1, 3}},
		{"a field that is there or not", transform.Filter{Field: "symbol", NotIn: []string{"AIG"}, KeepMissing: true}, []int{1, 2, 3, 4}},
		{"a range within another field", transform.Filter{Field: "bid.price", Ranged: true, Min: 20, Max: 30}, []int{1, 2}},
		{"a range of something that is no number", transform.Filter{Field: "symbol", Ranged: true, Min: 0, Max: 9}, []int{3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept, from := test.filter.Apply(items)
			if diff := cmp.Diff(test.want, from); diff != "" {
				t.Error(diff)
			}
			for i, item := range kept {
				if diff := cmp.Diff(items[from[i]], item); diff != "" {
					t.Error("an item was changed:", diff)
				}
			}
		})
	}
}

func TestRenameMovesAndRemovesFields(t *testing.T) {
	rename := transform.Rename{Fields: map[string]string{"s": "symbol", "a": "b", "b": "a"}, Remove: []string{"noise"}}
	items := payloads(
		`{"s":"AIG","noise":1,"price":12345678901234567890.10}`,
		`{"a":1,"b":2}`,
		`{"s":1,"symbol":2}`,
		`[1]`,
	)
	kept, from := rename.Apply(items)
	var got []string
	for _, item := range kept {
		got = append(got, string(item.Payload))
	}
	want := []string{
		`{"price":12345678901234567890.10,"symbol":"AIG"}`,
		`{"a":2,"b":1}`,
		`{"symbol":1}`,
		`[1]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3}, from); diff != "" {
		t.Error(diff)
	}
	if string(items[1].Payload) != `{"a":1,"b":2}` {
		t.Error("the item that was given is changed")
	}
}

// keep offers items, has all that go on accepted, and returns their places.
func keep(d *transform.Dedupe, items []writequeue.Item) []int {
	kept, from := d.Apply(items)
	d.Taken(kept)
	return from
}

func TestDedupeRemovesRepetitions(t *testing.T) {
	d := transform.NewDedupe("id", 100, 0)
	first := keep(d, payloads(`{"id":1}`, `{"id":2}`, `{"id":1}`, `{}`, `{}`, `{"id":null}`))
	if diff := cmp.Diff([]int{0, 1, 3, 4, 5}, first); diff != "" {
		t.Error(diff)
	}
	second := keep(d, payloads(`{"id":2}`, `{"id":"2"}`, `{"id":3}`))
	if diff := cmp.Diff([]int{1, 2}, second); diff != "" {
		t.Error(diff)
	}
}

func TestDedupeByTheItemsKey(t *testing.T) {
	d := transform.NewDedupe("", 100, 0)
	items := payloads(`{"n":1}`, `{"n":2}`)
	keep(d, items[:1])
	if diff := cmp.Diff([]int{1}, keep(d, items)); diff != "" {
		t.Error(diff)
	}
}

func TestARefusedItemIsNoRepetitionWhenItComesAgain(t *testing.T) {
	d := transform.NewDedupe("id", 100, 0)
	items := payloads(`{"id":1}`, `{"id":2}`)
	kept, _ := d.Apply(items)
	d.Taken(kept[:1]) // the second was refused further on
	if diff := cmp.Diff([]int{1}, keep(d, items)); diff != "" {
		t.Error(diff)
	}
}

func TestDedupeForgetsTheOldestFirst(t *testing.T) {
	d := transform.NewDedupe("id", 2, 0)
	keep(d, payloads(`{"id":1}`))
	keep(d, payloads(`{"id":2}`))
	keep(d, payloads(`{"id":3}`))
	if diff := cmp.Diff([]int{0}, keep(d, payloads(`{"id":1}`, `{"id":3}`))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{1}, keep(d, payloads(`{"id":3}`, `{"id":2}`))); diff != "" {
		t.Error(diff)
	}
}

func TestDedupeForgetsAfterATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := transform.NewDedupe("id", 100, time.Minute)
		keep(d, payloads(`{"id":1}`))
		time.Sleep(59 * time.Second)
		if got := keep(d, payloads(`{"id":1}`)); got != nil {
			t.Errorf("within the time it went on: %v", got)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]int{0}, keep(d, payloads(`{"id":1}`))); diff != "" {
			t.Error(diff)
		}
		time.Sleep(30 * time.Second)
		if got := keep(d, payloads(`{"id":1}`)); got != nil {
			t.Errorf("the time did not begin again: %v", got)
		}
	})
}
