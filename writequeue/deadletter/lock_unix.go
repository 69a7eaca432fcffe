//go:build unix

package deadletter

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the file's exclusive lock, which ends when the file is closed.
// Without wait it returns errLocked at once where somebody else has it.
func lock(file *os.File, wait bool) error {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(file.Fd()), how)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return errLocked
		}
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
