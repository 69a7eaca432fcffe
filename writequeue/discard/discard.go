// Package discard is a store that keeps nothing: for dry runs, and to measure
// what lies in front of a store.
package discard

import (
	"context"

	"github.com/headgate/headgate/writequeue"
)

// Sink takes every batch at once and forgets it. It is a writequeue.Sink.
type Sink struct{}

// Write forgets the batch. It fails only when ctx has ended.
func (Sink) Write(ctx context.Context, _ []writequeue.Item) error { return ctx.Err() }
