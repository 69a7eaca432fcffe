package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// BenchmarkFeedback measures the way of an event to the rate that it changes: a
// POST on a kept connection of the loopback, of a level that is another each
// time. What a bare round trip costs is measured in the module bench.
func BenchmarkFeedback(b *testing.B) {
	s := serve(b)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		level := "OK"
		if i%2 == 0 {
			level = "HARD"
		}
		i++
		body := fmt.Sprintf(`{"coordinator_id":"bars-coord","queue_size":9000,"capacity":10000,"level":"%s","source":"store","ts":%.6f}`,
			level, float64(time.Now().UnixMicro())/1e6)
		response, err := http.Post(s.url+"/v1/feedback", "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
	b.StopTimer()
	state, err := s.State("ibkr")
	if err != nil {
		b.Fatal(err)
	}
	if want := []float64{100, 1}[i%2]; state.EffectivePerSecond != want {
		b.Errorf("after %d events the rate is %v, want %v", i, state.EffectivePerSecond, want)
	}
}
