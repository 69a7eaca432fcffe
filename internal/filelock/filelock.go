// Package filelock keeps two processes from using the same files at once.
package filelock

import (
	"errors"
	"fmt"
	"os"
)

// ErrLocked says that somebody else holds the lock.
var ErrLocked = errors.New("another process uses it")

// Lock is a lock that is held. It ends with the process, however that ends.
type Lock struct{ file *os.File }

// Take takes the lock of a file, which is made where absent and stays empty. It
// does not wait: the error is ErrLocked where somebody else has it.
func Take(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := lock(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }
