package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
)

// awaitPods waits until a component has that many pods whose processes are
// ready.
func (e *Env) awaitPods(ctx context.Context, component string, n int) error {
	ctx, cancel := within(ctx, 40*time.Second, fmt.Sprintf("having %d pods of %s", n, component))
	defer cancel()
	return cluster.Poll(ctx, func(context.Context) error {
		if got := len(e.Node.Pods(e.Namespace, component)); got != n {
			return fmt.Errorf("%d pods of %s are ready", got, component)
		}
		return nil
	})
}

// allWritten waits until every item that a pipeline took is a row in the store.
func (e *Env) allWritten(ctx context.Context) error {
	ctx, cancel := within(ctx, 40*time.Second, "writing all items")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		rows, err := e.Store.Rows(ctx)
		if err != nil {
			return err
		}
		if accepted := e.Load.Accepted(); rows != accepted {
			return fmt.Errorf("%d items were accepted and %d are in the store", accepted, rows)
		}
		return nil
	})
}

// within2 is within for a function that returns something.
func within2[T any](ctx context.Context, limit time.Duration, what string, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := within(ctx, limit, what)
	defer cancel()
	return f(ctx)
}
