package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/headgate/headgate/writequeue"
)

// File keeps letters in a file to which it only ever appends. It is a
// writequeue.DeadLetters. Several processes may append to one file, and it may
// be replayed meanwhile; this rests on advisory locks, which only Unix has.
//
// No file is held open between two calls, so there is nothing to close.
type File struct {
	path string
	mu   sync.Mutex // one Append at a time; the file's lock is for other processes
}

// NewFile returns the file of that path, which it makes if it is absent, with
// rights for its owner alone. The error says why letters could not be kept
// there.
func NewFile(path string) (*File, error) {
	file, err := openLocked(path)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return &File{path: path}, nil
}

// Path is where the letters are kept.
func (f *File) Path() string { return f.path }

// Append adds the letters to the file and returns when they are safe on the
// disk. On an error none of them is in the file.
func (f *File) Append(_ context.Context, letters []writequeue.Letter) error {
	if len(letters) == 0 {
		return nil
	}
	var data []byte
	for _, letter := range letters {
		var err error
		if data, err = appendLine(data, letter); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return appendTo(f.path, data)
}

// appendTo adds whole lines to the end of the file, or nothing.
func appendTo(path string, data []byte) (err error) {
	file, err := openLocked(path)
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil && closed != nil {
			err = fmt.Errorf("dead letters: %w", closed)
		}
	}()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	torn, err := isTorn(file, size)
	if err != nil {
		return err
	}
	if torn {
		data = append([]byte{'\n'}, data...)
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if err != nil {
		// Half a line must not stay, nor lines that will be appended again.
		return fmt.Errorf("dead letters: %w", errors.Join(err, file.Truncate(size)))
	}
	return nil
}

// isTorn reports whether the file ends within a line, as a crash leaves it.
func isTorn(file *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	var last [1]byte
	if _, err := file.ReadAt(last[:], size-1); err != nil {
		return false, fmt.Errorf("dead letters: %w", err)
	}
	return last[0] != '\n', nil
}

// openLocked opens the file for appending and reading, and locks it until it
// is closed. It sees to it that the locked file is the one of that path still:
// a replay may have taken it aside while this call waited for the lock.
func openLocked(path string) (*os.File, error) {
	for {
		_, err := os.Stat(path)
		made := errors.Is(err, fs.ErrNotExist)
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("dead letters: %w", err)
		}
		if err := lock(file, true); err != nil {
			return nil, fmt.Errorf("dead letters: %w", errors.Join(err, file.Close()))
		}
		if isAt(file, path) {
			if made {
				err = syncFolder(path)
			}
			if err != nil {
				return nil, fmt.Errorf("dead letters: %w", errors.Join(err, file.Close()))
			}
			return file, nil
		}
		if err := file.Close(); err != nil {
			return nil, fmt.Errorf("dead letters: %w", err)
		}
	}
}

// isAt reports whether the open file is the one that the path names.
func isAt(file *os.File, path string) bool {
	open, err1 := file.Stat()
	named, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(open, named)
}

// syncFolder makes a new or removed name in the path's folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
