package httpapi

import (
	"math"
	"testing"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

func FuzzDecodeScale(f *testing.F) {
	f.Add([]byte(`{"scale": 0.5, "level": "soft", "reason": "r", "ttl": "15s", "holder": "a", "sequence": 1}`))
	f.Add([]byte(`{"scale": NaN, "ttl": 1e300, "sequence": -1}`))
	f.Add([]byte(`{"scale": -1, "level": "HARD", "ttl": 15, "holder": "a", "sequence": 18446744073709551615}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeScale(body)
		switch {
		case err != nil:
			invalidtest.Explained(t, err)
		case math.IsNaN(r.Scale) || r.TTL <= 0 || r.Holder == "" || r.Sequence == 0 || !r.Level.Known():
			t.Errorf("got through: %+v", r)
		}
	})
}

func FuzzDecodeAcquire(f *testing.F) {
	f.Add([]byte(`{"tokens": 5, "timeout": "2s"}`))
	f.Add([]byte(`{"tokens": -5, "timeout": 1e99}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeAcquire(body)
		switch {
		case err != nil:
			invalidtest.Explained(t, err)
		case r.tokens < 1 || r.timeout < 0 || r.timeout > longestAcquire:
			t.Errorf("got through: %+v", r)
		}
	})
}
