package scenario

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/headgate/headgate/e2e/cluster"
)

// Track follows one number of an object by watching it. Its methods may be
// called by several goroutines.
type Track struct {
	name string

	mu      sync.Mutex
	changes []cluster.Change // the first is what was there at the start
	changed chan struct{}    // closed at the next change
}

// Follow follows the replicas that a Deployment asks for, until the scenario
// ends.
func (e *Env) Follow(deployment string) *Track {
	return e.follow(cluster.Deployments, deployment, "spec", "replicas")
}

func (e *Env) follow(resource schema.GroupVersionResource, name string, path ...string) *Track {
	t := &Track{name: name, changed: make(chan struct{})}
	e.Go(func(ctx context.Context) error {
		err := e.Cluster.Watch(ctx, resource, e.Namespace, name, func(o *cluster.Object) bool {
			if o != nil {
				if value, found, _ := unstructured.NestedInt64(o.Object, path...); found {
					t.add(value)
				}
			}
			return false
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	return t
}

func (t *Track) add(value int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.changes); n > 0 && t.changes[n-1].Value == value {
		return
	}
	t.changes = append(t.changes, cluster.Change{At: time.Now(), Value: value})
	close(t.changed)
	t.changed = make(chan struct{})
}

// Now is the present number; -1 where none was seen.
func (t *Track) Now() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.changes) == 0 {
		return -1
	}
	return t.changes[len(t.changes)-1].Value
}

// Since returns the numbers from a time on, the one at that time first.
func (t *Track) Since(since time.Time) []int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var values []int64
	for _, c := range t.changes {
		if c.At.Before(since) {
			values = values[:0]
		}
		values = append(values, c.Value)
	}
	return values
}

// All returns all numbers so far, in order.
func (t *Track) All() []int64 { return t.Since(time.Time{}) }

// Until waits until the number is as wanted and returns when it became so.
func (t *Track) Until(ctx context.Context, wanted func(int64) bool) (time.Time, error) {
	for {
		t.mu.Lock()
		changed := t.changed
		if n := len(t.changes); n > 0 && wanted(t.changes[n-1].Value) {
			at := t.changes[n-1].At
			t.mu.Unlock()
			return at, nil
		}
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("replicas of %s are not as wanted: they were %v: %w", t.name, t.All(), context.Cause(ctx))
		}
	}
}

// Is waits for one number, at most so long.
func (t *Track) Is(ctx context.Context, value int64, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := t.Until(ctx, func(v int64) bool { return v == value })
	if err != nil {
		return fmt.Errorf("want %d replicas within %v: %w", value, limit, err)
	}
	return nil
}

// Stays watches for so long that the number does not change.
func (t *Track) Stays(ctx context.Context, value int64, during time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	if _, err := t.Until(ctx, func(v int64) bool { return v != value }); err == nil {
		return fmt.Errorf("replicas of %s did not stay at %d: they were %v", t.name, value, t.All())
	}
	return nil
}

// path writes numbers as a course, such as 0 → 1 → 5.
func path(values []int64) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, fmt.Sprint(v))
	}
	return strings.Join(parts, " → ")
}
