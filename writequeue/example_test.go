package writequeue_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/deadletter"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// A queue in front of a SQLite file, which tells the gate when it fills up.
func Example() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)

	store, err := sqlite.Open(context.Background(), sqlite.DefaultConfig(filepath.Join(folder, "items.db")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	dead, err := deadletter.NewFile(filepath.Join(folder, "dead.ndjson"))
	if err != nil {
		fmt.Println(err)
		return
	}
	publish := func(e pressure.Event) { fmt.Println(e.Level, e.Reason, e.QueueSize) }
	cfg := writequeue.DefaultConfig("bars-coord")
	cfg.Capacity, cfg.Workers = 1000, 1
	queue, err := writequeue.New(cfg, store, dead, publish, slog.Default())
	if err != nil {
		fmt.Println(err)
		return
	}

	batch := make([]writequeue.Item, 600)
	for i := range batch {
		batch[i] = writequeue.Item{Key: fmt.Sprint("AAPL-", i), Time: time.Now(), Payload: []byte(`{"close": 187.2}`)}
	}
	if _, err := queue.Put(context.Background(), batch...); err != nil {
		fmt.Println(err)
		return
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	stopped, stop := context.WithCancel(context.Background())
	stop() // at once: what was accepted is written all the same
	if err := queue.Run(stopped); err != nil {
		fmt.Println(err)
		return
	}
	stats := queue.Stats()
	fmt.Println(stats.Accepted, "accepted,", stats.Written, "written,", stats.Waiting, "waiting")
	// Output:
	// SOFT high_watermark 600
	// OK low_watermark 100
	// 600 accepted, 600 written, 0 waiting
}
