// Package eventstream follows streams of server-sent events as a client: it
// notices when one has gone silent, and opens it anew when it breaks.
package eventstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/tmaxmax/go-sse"
)

const (
	// Silence is how long a stream may be quiet before it is taken for dead;
	// Headgate's servers send something more than twice in that time.
	Silence = 40 * time.Second

	// largest bounds one event.
	largest = 4 << 20
)

// Stream is one to follow.
type Stream struct {
	Client *http.Client
	URL    string

	// Refused makes an error of an answer that is not 200, whose body it may
	// read.
	Refused func(*http.Response) error

	// See is told each event, one after another. An error of it ends the stream
	// as if it had broken.
	See func(sse.Event) error

	// Lost is told why a stream broke or could not be opened, and says whether to
	// go on.
	Lost func(error) bool
}

// Follow reads the stream until ctx ends or Lost says so. When it breaks it is
// opened again, after pauses that grow to half a minute while no event comes.
func (s Stream) Follow(ctx context.Context) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 200*time.Millisecond, 30*time.Second
	for {
		err := s.read(ctx, pauses.Reset)
		if ctx.Err() != nil || !s.Lost(err) {
			return
		}
		timer := time.NewTimer(pauses.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// errEnded says that a stream came to its end.
var errEnded = errors.New("stream ended")

// read reads one stream until it ends, and says why. It calls came after each
// event that was seen.
func (s Stream) read(ctx context.Context, came func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(Silence, func() { cancel(fmt.Errorf("stream was silent for %v", Silence)) })
	defer dead.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := s.Client.Do(request)
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return s.Refused(response)
	}
	alive := watchedReader{body: response.Body, alive: func() { dead.Reset(Silence) }}
	for event, err := range sse.Read(alive, &sse.ReadConfig{MaxEventSize: largest}) {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("read the stream: %w", err)
		}
		if err := s.See(event); err != nil {
			return err
		}
		came()
	}
	return errEnded
}

// watchedReader tells of every read that brought something, heartbeats too.
type watchedReader struct {
	body  io.Reader
	alive func()
}

func (r watchedReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}
