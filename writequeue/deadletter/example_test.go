package deadletter_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/deadletter"
	"github.com/headgate/headgate/writequeue/discard"
)

// What could not be written is written later, to the same store or another.
func ExampleReplay() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	file, err := deadletter.NewFile(filepath.Join(folder, "dead.ndjson"))
	if err != nil {
		fmt.Println(err)
		return
	}
	letter := writequeue.Letter{Item: writequeue.Item{Key: "AAPL-1"}, Error: "connection lost", Attempts: 5}
	if err := file.Append(context.Background(), []writequeue.Letter{letter}); err != nil {
		fmt.Println(err)
		return
	}

	report, err := deadletter.Replay(context.Background(), file.Path(), discard.Sink{})
	fmt.Printf("%+v %v\n", report, err)
	// Output: {Written:1 Kept:0 Bad:0} <nil>
}
