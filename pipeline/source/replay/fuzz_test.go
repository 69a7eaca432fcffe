package replay_test

import (
	"encoding/json"
	"testing"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/pipeline/source/replay"
)

func FuzzKey(f *testing.F) {
	for _, seed := range []string{
		`{"id": "a"}`, `{"id": 1e400}`, `{"id": "\ud800"}`, `{"id": -0, "id": ""}`, `{"ID": true}`, `{"id": {"id": 1}}`, `[`, `null`,
	} {
		f.Add([]byte(seed), "id")
	}
	f.Fuzz(func(t *testing.T, object []byte, field string) {
		key, found, err := replay.Key(object, field)
		if err != nil {
			if field != "" { // which the settings forbid
				invalidtest.Explained(t, err)
			}
			return
		}
		if found != (key != "") || len(key) > 512 {
			t.Fatalf("%q has the key %q, found %v", object, key, found)
		}
		if !found {
			return
		}
		// A store may keep the key as it is.
		written, err := json.Marshal(map[string]string{field: key})
		if err != nil {
			t.Fatal(err)
		}
		var read map[string]string
		if err := json.Unmarshal(written, &read); err != nil || len(read) != 1 {
			t.Fatalf("%q cannot be read again: %v", written, err)
		}
	})
}
