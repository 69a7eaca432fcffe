// Package statuspage serves a page that shows the loop at work: each target's
// level, depth, scale and rates over the last hour, the last decisions with
// their explanations, the overrides in force, and how the loop itself does.
//
// The page is a few files that are compiled in. It asks nobody but the
// controller, is live by server-sent events, and only reads.
package statuspage

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/reply"
	"github.com/headgate/headgate/internal/route"
)

// Loop is what the page shows; *controller.Controller is one. Its methods may
// be called at any time.
type Loop interface {
	Rows() []controller.Row
	Health() controller.Health
	Ticked() <-chan struct{}
}

// Page is the page and its data. Run keeps it up to date; its handlers may be
// served before, beside and after.
type Page struct {
	loop  Loop
	files []route.Route

	ended chan struct{} // closed when Run has

	mu      sync.RWMutex // guards what follows
	scene   *scene
	moved   chan struct{} // closed and made anew with each scene
	history *history
	index   map[string]int         // of each target among the rows
	changes []*controller.Decision // the newest last, at most keptChanges
	newest  time.Time              // when the last decisions were made that were looked at
}

const (
	// keptChanges bounds how many decisions that differ from the ones before are
	// remembered, of all targets together.
	keptChanges = 1000

	// mostStreams is how many viewers may watch at once.
	mostStreams = 64
)

// New returns the page of a loop.
func New(loop Loop) (*Page, error) {
	rows := loop.Rows()
	health := loop.Health()
	p := &Page{
		loop: loop, index: map[string]int{},
		ended: make(chan struct{}),
		scene: newScene(time.Now(), rows, health), moved: make(chan struct{}),
		history: newHistory(rows, time.Duration(health.IntervalSeconds*float64(time.Second))),
	}
	for i, row := range rows {
		p.index[row.Target.Name] = i
	}
	for _, part := range files {
		f, err := load(part.name, part.kind)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, route.Route{Pattern: "GET " + part.pattern, Role: access.Read, Help: "the status page", Handler: f})
	}
	return p, nil
}

// Run follows the loop until ctx ends, and returns nil then. All streams end
// with it. It is called once.
func (p *Page) Run(ctx context.Context) error {
	defer close(p.ended)
	for {
		ticked := p.loop.Ticked()
		p.look(time.Now())
		select {
		case <-ticked:
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes in what the last tick left.
func (p *Page) look(now time.Time) {
	health := p.loop.Health()
	if health.LastTick == nil {
		return
	}
	rows := p.loop.Rows()
	s := newScene(now, rows, health)
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.newest
	for _, row := range rows {
		for _, d := range row.Latest {
			if !d.At.After(p.newest) {
				continue
			}
			if d.At.After(seen) {
				seen = d.At
			}
			if d.Changed {
				p.changes = append(p.changes, d)
			}
		}
	}
	p.newest = seen
	if more := len(p.changes) - keptChanges; more > 0 {
		p.changes = append(make([]*controller.Decision, 0, 2*keptChanges), p.changes[more:]...)
	}
	s.changes = make([]*controller.Decision, len(p.changes))
	for i, d := range p.changes {
		s.changes[len(p.changes)-1-i] = d
	}
	p.history.add(now, rows)
	p.scene = s
	close(p.moved)
	p.moved = make(chan struct{})
}

// now returns the newest scene, and a channel that is closed when there is a
// newer one.
func (p *Page) now() (*scene, <-chan struct{}) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.scene, p.moved
}

// Routes lists what the page serves. The files of the page are no secret, but a
// browser asks for the password where the page itself is refused.
func (p *Page) Routes() []route.Route {
	return append([]route.Route{
		{Pattern: "GET /v1/status", Role: access.Read, Help: "the loop, the targets the worst first, overrides, the last decisions", Handler: http.HandlerFunc(p.serveStatus)},
		{Pattern: "GET /v1/stream", Role: access.Read, Help: "the same after each tick, as server-sent events", Handler: http.HandlerFunc(p.serveStream), Streams: mostStreams},
		{Pattern: "GET /v1/history", Role: access.Read, Help: "a target's last hour", Handler: http.HandlerFunc(p.serveHistory)},
	}, p.files...)
}

// parameters are those of a question about the status.
var parameters = []string{"search", "condition", "offset", "limit", "target"}

func (p *Page) serveStatus(w http.ResponseWriter, r *http.Request) {
	q, ok := p.question(w, r)
	if !ok {
		return
	}
	s, _ := p.now()
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, http.StatusOK, s.answer(q))
}

// question reads the request's parameters, or refuses them.
func (p *Page) question(w http.ResponseWriter, r *http.Request) (question, bool) {
	q, errs := parse(r.URL.Query(), parameters...)
	if _, found := p.index[q.target]; q.target != "" && !found {
		errs = append(errs, invalid.New("target", q.target, "the name of a target, as /v1/targets lists them"))
	}
	if err := errors.Join(errs...); err != nil {
		reply.BadRequest(w, err)
		return q, false
	}
	return q, true
}

func (p *Page) serveHistory(w http.ResponseWriter, r *http.Request) {
	q, errs := parse(r.URL.Query(), "target")
	i, found := p.index[q.target]
	if len(errs) == 0 && !found {
		errs = append(errs, invalid.New("target", q.target, "the name of a target, as /v1/targets lists them"))
	}
	if err := errors.Join(errs...); err != nil {
		reply.BadRequest(w, err)
		return
	}
	p.mu.RLock()
	past := p.history.of(i, p.scene.rows[i], time.Now())
	p.mu.RUnlock()
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, http.StatusOK, past)
}
