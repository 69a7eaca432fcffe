package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/writequeue"
)

// errLocked says that somebody else has a lock.
var errLocked = errors.New("another replay is at work in this folder")

// aside is what a file's name gets while it is replayed.
const aside = ".replaying"

// batchSize is how many letters are written at once.
const batchSize = 500

// Report says what a replay did, in letters.
type Report struct {
	Written int // the store has them; their lines are gone
	Kept    int // the store refused them for good; their lines are in the file again
	Bad     int // lines that hold no letter; they are in the file again
}

// Replay writes the letters of a file to a store. Those that the store takes
// leave the file, all others stay in it, and a queue may go on appending to it.
//
// It may be stopped or killed at any moment and run again: the file is taken
// aside first (its name with ".replaying" added), which a later replay finishes
// before it looks at the file, and what was written is written again, which an
// idempotent store does not notice. An error that may pass stops the replay and
// is returned with what was done until then. A file that does not exist is an
// empty one. Where another replay is at work in the same folder, it returns an
// error at once.
func Replay(ctx context.Context, path string, sink writequeue.Sink) (Report, error) {
	var report Report
	// Two replays of one file would put its letters back twice. Their lock is
	// the folder's, for the file's own makes a queue wait that appends.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return report, fmt.Errorf("replay dead letters: %w", err)
	}
	defer folder.Close()
	if err = lock(folder, false); err == nil {
		err = replayAside(ctx, path, sink, &report)
	}
	if err == nil {
		err = takeAside(path)
	}
	if err == nil {
		report.Kept, report.Bad = 0, 0 // those are in the file that comes now
		err = replayAside(ctx, path, sink, &report)
	}
	if err != nil {
		return report, fmt.Errorf("replay dead letters of %s: %w", path, err)
	}
	return report, nil
}

// takeAside gives the file the name of one that is replayed. Nobody appends to
// it then any more: whoever does so has its lock, and looks at its name first.
func takeAside(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	file, err := openLocked(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := os.Rename(path, path+aside); err != nil {
		return err
	}
	return syncFolder(path)
}

// replayAside writes the letters of the file that was taken aside, puts back
// what was not written, and removes it. Where there is none, it does nothing.
func replayAside(ctx context.Context, path string, sink writequeue.Sink, report *Report) error {
	file, err := os.Open(path + aside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()

	r := replay{sink: sink, report: report}
	for letter, err := range Read(file) {
		var bad *BadLine
		switch {
		case errors.As(err, &bad):
			report.Bad++
			r.keep = append(append(r.keep, bad.Raw...), '\n')
			continue
		case err != nil:
			return err
		}
		if r.batch = append(r.batch, letter); len(r.batch) == batchSize {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	if len(r.keep) > 0 {
		if err := appendTo(path, r.keep); err != nil {
			return err
		}
	}
	if err := os.Remove(path + aside); err != nil {
		return err
	}
	return syncFolder(path)
}

// replay is one run over a file.
type replay struct {
	sink   writequeue.Sink
	report *Report
	batch  []writequeue.Letter
	keep   []byte // lines to put back
}

func (r *replay) flush(ctx context.Context) error {
	err := r.write(ctx, r.batch)
	r.batch = r.batch[:0]
	return err
}

// write writes the letters; those that the store refuses for good are found by
// halving and kept with the new reason.
func (r *replay) write(ctx context.Context, letters []writequeue.Letter) error {
	if len(letters) == 0 {
		return nil
	}
	items := make([]writequeue.Item, len(letters))
	for i, l := range letters {
		items[i] = l.Item
	}
	err := r.sink.Write(ctx, items)
	switch {
	case err == nil:
		r.report.Written += len(letters)
		return nil
	case !writequeue.IsPermanent(err):
		return err
	case len(letters) > 1:
		half := len(letters) / 2
		if err := r.write(ctx, letters[:half]); err != nil {
			return err
		}
		return r.write(ctx, letters[half:])
	}
	letter := letters[0]
	letter.Error = err.Error()
	letter.Attempts++
	r.report.Kept++
	r.keep, err = appendLine(r.keep, letter)
	return err
}
