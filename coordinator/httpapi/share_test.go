package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestAShareGoesWithTheScaleOverHTTP(t *testing.T) {
	s := serve(t)
	r := leased("a", 1, 0.5)
	r.Share = 0.2
	state, err := s.client.Apply(t.Context(), "ibkr", r)
	if err != nil || state.Share != 0.2 || state.EffectivePerSecond != 10 {
		t.Errorf("got %v, a share of %v and %v per second, want 0.2 and 10", err, state.Share, state.EffectivePerSecond)
	}
	if state, err = s.client.Apply(t.Context(), "ibkr", leased("a", 2, 0.5)); err != nil || state.Share != 1 {
		t.Errorf("got %v and a share of %v where none was asked for, want 1", err, state.Share)
	}
}

func TestAWrongShareIsRefusedOverHTTP(t *testing.T) {
	s := serve(t)
	before := s.state(t)
	for _, test := range []struct{ share, route string }{
		{"0", "scale"}, {"-0.5", "scale"}, {"1.5", "scale"}, {`"half"`, "scale"}, {"0.5", "override"},
	} {
		body := `{"scale": 1, "ttl": 15, "holder": "a", "reason": "test", "sequence": 1, "share": ` + test.share + `}`
		if test.route == "override" {
			body = strings.Replace(body, `"sequence": 1, `, "", 1)
		}
		request, err := http.NewRequest(http.MethodPut, s.url+"/v1/providers/ibkr/"+test.route, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with a share of %s: got %d, want 400", test.route, test.share, answer.StatusCode)
		}
	}
	if after := s.state(t); after != before {
		t.Errorf("the state changed from %s to %s", before, after)
	}
}
