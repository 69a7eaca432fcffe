package coordinator

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
)

// watcher remembers which providers changed since it was last looked at. So a
// slow reader costs nobody anything: it sees the newest state of each.
type watcher struct {
	mu      sync.Mutex
	changed map[string]struct{}
	ended   bool
	signal  chan struct{} // of size one
}

func (w *watcher) note(provider string) {
	w.mu.Lock()
	w.changed[provider] = struct{}{}
	w.mu.Unlock()
	w.ring()
}

func (w *watcher) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.ring()
}

func (w *watcher) ring() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// take returns the names of those that changed, and whether this is the end.
func (w *watcher) take() (providers []string, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	providers = slices.Sorted(maps.Keys(w.changed))
	clear(w.changed)
	return providers, w.ended
}

// tell notes a change of a provider for all who watch. It never waits for them.
func (c *Coordinator) tell(provider string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for w := range c.watchers {
		w.note(provider)
	}
}

// Watch yields the state of every provider, and from then on that of each one
// whose scale, rate, level, breaker or cool-down changed, until ctx ends or the
// coordinator is closed. Of changes that come faster than they are taken the
// newest state is yielded.
func (c *Coordinator) Watch(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		w := &watcher{changed: map[string]struct{}{}, signal: make(chan struct{}, 1)}
		c.mu.Lock()
		for name := range c.gates.Load().byName {
			w.changed[name] = struct{}{}
		}
		w.ended = c.closed
		c.watchers[w] = struct{}{}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			delete(c.watchers, w)
			c.mu.Unlock()
		}()
		told := map[string]uint64{} // versions
		for {
			providers, ended := w.take()
			for _, name := range providers {
				state, err := c.State(name)
				// A change that came between the note and the reading is told
				// already when its own note is taken.
				if last, before := told[name]; err != nil || before && last == state.Version {
					continue
				}
				told[name] = state.Version
				if !yield(state) {
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-w.signal:
			case <-ctx.Done():
				return
			}
		}
	}
}
