package process

import (
	"os/exec"
	"runtime"
	"sync"
)

// starter is the one thread that starts all processes. A process ends with the
// thread that started it (Pdeathsig), so it must be one that stays.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go stay(work)
	return work
})

// stay starts processes for as long as there is this program.
func stay(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

func startOnOwnThread(cmd *exec.Cmd) error {
	done := make(chan error)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}
