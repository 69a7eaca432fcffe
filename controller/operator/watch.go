package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/eventstream"
	"github.com/headgate/headgate/internal/invalid"
)

// Watch shows changes as they come.
type Watch struct {
	Asking
	Target string `placeholder:"NAME" predictor:"target" help:"Only this target's."`
	Last   int    `default:"10" help:"How many of the last changes come first, up to 50."`
}

// Help is what kong adds to the command's help.
func (Watch) Help() string {
	return `One line, or one JSON object, for each decision that differs from the one before:
the last ones first, then each as it comes, until Ctrl-C, which is exit status 0.
Where the controller goes away it is asked again; what was missed meanwhile is
shown then, up to the last 50.`
}

// Run follows the controller until ctx ends, which is no error. Where the first
// attempt fails it returns why.
func (c *Watch) Run(ctx context.Context, s *Session) error {
	ask, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if err := checkLast(c.Last); err != nil {
		return err
	}
	query := url.Values{"limit": {"1"}}
	if c.Target != "" {
		query.Set("target", c.Target)
	}
	w := watcher{session: s, command: c}
	eventstream.Stream{
		Client: ask.http, URL: ask.base + "/v1/stream?" + query.Encode(),
		Refused: func(r *http.Response) error {
			data, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
			if err != nil {
				return fmt.Errorf("read the controller's answer: %w", err)
			}
			return refusal(r.StatusCode, data)
		},
		See: w.see, Lost: w.lost,
	}.Follow(ctx)
	return w.err
}

// mostChanges is how many a controller tells at once.
const mostChanges = 50

func checkLast(last int) error {
	if last < 0 || last > mostChanges {
		return invalid.New("--last", last, fmt.Sprintf("a whole number from 0 to %d", mostChanges))
	}
	return nil
}

// watcher prints what the stream brings.
type watcher struct {
	session *Session
	command *Watch

	connected bool                 // since the stream was last lost
	newest    *controller.Decision // that was printed or passed over
	err       error                // for which it gave up
}

// lost says on the standard error that the stream broke. It goes on where there
// was one before and it makes sense to ask again.
func (w *watcher) lost(err error) bool {
	var refused *Refusal
	if w.err != nil {
		return false
	}
	if w.newest == nil && !w.connected || errors.As(err, &refused) && refused.OfRequest() {
		w.err = err
		return false
	}
	if w.connected {
		fmt.Fprintf(w.session.Err, "the controller is gone, and is asked again: %s\n", clean(err.Error()))
	}
	w.connected = false
	return true
}

// see prints the changes of one message that were not printed yet, the oldest
// first.
func (w *watcher) see(event sse.Event) error {
	if event.Type != "status" {
		return nil
	}
	var status struct {
		At      time.Time
		Changes []json.RawMessage
	}
	if err := decode([]byte(event.Data), &status); err != nil {
		return err
	}
	if !w.connected && w.newest != nil {
		fmt.Fprintln(w.session.Err, "the controller is back")
	}
	w.connected = true
	changes := make([]*controller.Decision, len(status.Changes))
	for i, raw := range status.Changes {
		if err := decode(raw, &changes[i]); err != nil {
			return err
		}
	}
	fresh := len(changes)
	if w.newest != nil {
		for fresh = 0; fresh < len(changes) && newer(changes[fresh], w.newest); fresh++ {
		}
		if fresh == mostChanges {
			fmt.Fprintln(w.session.Err, "there may be more changes than are shown; --target shows those of one")
		}
	} else {
		fresh = min(fresh, w.command.Last)
		w.newest = &controller.Decision{}
	}
	for i := fresh - 1; i >= 0; i-- {
		if w.err = w.print(status.At, changes[i], status.Changes[i]); w.err != nil {
			return w.err
		}
	}
	if len(changes) > 0 {
		w.newest = changes[0]
	}
	return nil
}

// newer reports whether a decision is not the one that was printed last, nor
// older.
func newer(d, printed *controller.Decision) bool {
	if d.At.Equal(printed.At) {
		return d.Target != printed.Target || d.Provider != printed.Provider
	}
	return d.At.After(printed.At)
}

func (w *watcher) print(now time.Time, d *controller.Decision, raw json.RawMessage) error {
	if w.command.json() {
		return w.session.printJSON(raw)
	}
	p := page{to: w.session.Out}
	p.printf("%s  %-7s  %s  %s, in force %s: %s\n", moment(now, d.At), level(d.Level), d.Target+"/"+d.Provider, scale(d.Scale), inForce(d), d.Explanation)
	return p.err
}
