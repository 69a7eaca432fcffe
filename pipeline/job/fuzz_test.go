package job

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

func FuzzLines(f *testing.F) {
	for _, seed := range []string{"{}\n{\"a\":1}\r\n\n", "[]\n", "{\n}", "\xff", "{}{}", "", "  \n\t"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkLines(bytes.NewReader(data))
		right := 0
		for line := range bytes.Lines(data) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			var object map[string]json.RawMessage
			if json.Unmarshal(line, &object) != nil || object == nil {
				right = -1
				break
			}
			right++
		}
		if (err == nil) != (right > 0) {
			t.Fatalf("%q is answered %v", data, err)
		}
		if err != nil {
			invalidtest.Explained(t, err)
		}
	})
}
