package eventstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tmaxmax/go-sse"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers each request by the next of its answers, without a network.
type server struct {
	answers []func(w *io.PipeWriter) // nil refuses
	asked   []time.Time
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	n := len(s.asked)
	s.asked = append(s.asked, time.Now())
	if n >= len(s.answers) || s.answers[n] == nil {
		return &http.Response{StatusCode: http.StatusTeapot, Body: io.NopCloser(strings.NewReader("short and stout"))}, nil
	}
	reader, writer := io.Pipe()
	context.AfterFunc(r.Context(), func() { writer.CloseWithError(r.Context().Err()) })
	go s.answers[n](writer)
	return &http.Response{StatusCode: http.StatusOK, Body: reader}, nil
}

func send(w io.Writer, text string) { _, _ = io.WriteString(w, text) }

func TestAStreamIsOpenedAnewWhenItBreaksOrGoesSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answers: []func(*io.PipeWriter){
			func(w *io.PipeWriter) { send(w, "data: one\n\ndata: two\n\n"); w.Close() },
			func(w *io.PipeWriter) {
				for range 5 { // heartbeats keep it open
					time.Sleep(15 * time.Second)
					send(w, ": alive\n\n")
				}
			},
			nil,
			func(w *io.PipeWriter) { send(w, "data: bad\n\n") },
			func(w *io.PipeWriter) { send(w, "data: last\n\n") },
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		Stream{
			Client: &http.Client{Transport: s}, URL: "http://stream.invalid/",
			Refused: func(r *http.Response) error {
				text, _ := io.ReadAll(r.Body)
				return fmt.Errorf("%d: %s", r.StatusCode, text)
			},
			See: func(e sse.Event) error {
				told = append(told, e.Data)
				switch e.Data {
				case "bad":
					return errors.New("cannot read it")
				case "last":
					cancel()
				}
				return nil
			},
			Lost: func(err error) bool { told = append(told, "lost: "+err.Error()); return true },
		}.Follow(ctx)
		want := []string{
			"one", "two", "lost: stream ended", "lost: read the stream: stream was silent for 40s",
			"lost: 418: short and stout", "bad", "lost: cannot read it", "last",
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told differs (-want +got):\n%s", diff)
		}
		if open := s.asked[2].Sub(s.asked[1]); open < 75*time.Second+Silence || open > 76*time.Second+Silence {
			t.Errorf("the stream with heartbeats was given up after %v", open)
		}
	})
}

func TestAStreamIsGivenUpWhereItsFollowerSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		lost := 0
		Stream{
			Client: &http.Client{Transport: s}, URL: "http://stream.invalid/",
			Refused: func(*http.Response) error { return errors.New("no") },
			See:     func(sse.Event) error { return nil },
			Lost:    func(error) bool { lost++; return lost < 4 },
		}.Follow(t.Context())
		if lost != 4 || len(s.asked) != 4 {
			t.Errorf("lost %d times, asked %d times", lost, len(s.asked))
		}
		for i := 1; i < len(s.asked); i++ {
			if pause := s.asked[i].Sub(s.asked[i-1]); pause < 50*time.Millisecond {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
	})
}
