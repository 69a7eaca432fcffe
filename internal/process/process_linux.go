// Package process runs the programs of the scenarios as child processes, their
// output in files.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what runs.
type Spec struct {
	Name   string // of the log file, without .log
	Binary string
	Args   []string

	// CalledAs is the name under which the binary runs, for one that is several
	// programs by it; its own where empty.
	CalledAs string

	Env []string // NAME=VALUE; PATH and HOME are added
	Dir string   // working directory; that of the log where empty
	Log string   // folder of the log file

	// As is whom it runs as, for a program that refuses to be root; nil is who
	// we are.
	As *syscall.Credential
}

// Process is a child that was started. Its methods may be called by several
// goroutines.
type Process struct {
	Name    string
	LogPath string

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // how; read after ended
}

// live are the processes that have not ended, so that whoever is interrupted
// can end all of them.
var live = struct {
	sync.Mutex
	all map[*Process]bool
}{all: map[*Process]bool{}}

// Start runs a program. Its output is appended to its log.
func Start(s Spec) (*Process, error) {
	p := &Process{Name: s.Name, LogPath: filepath.Join(s.Log, s.Name+".log"), ended: make(chan struct{})}
	out, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(s.Binary, s.Args...)
	if s.CalledAs != "" {
		p.cmd.Args[0] = s.CalledAs
	}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.Dir, out, out
	if s.Dir == "" {
		p.cmd.Dir = s.Log
	}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, s.Env...)
	// A group of its own keeps the terminal's Ctrl-C from it: it is stopped in
	// its turn. It ends with the harness, even when that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: s.As}
	if err := startOnOwnThread(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	live.Lock()
	live.all[p] = true
	live.Unlock()
	go func() {
		p.err = p.cmd.Wait()
		live.Lock()
		delete(live.all, p)
		live.Unlock()
		close(p.ended)
	}()
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err tells how the process ended; it may be read once it has.
func (p *Process) Err() error { return p.err }

// PID is the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal. To a process that has ended it is nothing.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Stop asks the process to end, waits, and kills it when it has not ended
// within the limit; that is an error.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %v and was killed", p.Name, limit)
	}
}

// KillAll ends whatever still runs. It is for the way out.
func KillAll() {
	live.Lock()
	var all []*Process
	for p := range live.all {
		all = append(all, p)
	}
	live.Unlock()
	for _, p := range all {
		p.Kill()
	}
}

// CPU is the processor time that the process has used so far, in user and
// system mode together.
func (p *Process) CPU() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.Name, err)
	}
	// The second field is a name in parentheses, which may hold spaces; utime
	// and stime are the 14th and 15th field, in ticks of 10 ms.
	rest := data[bytes.LastIndexByte(data, ')')+1:]
	fields := strings.Fields(string(rest))
	var ticks int64
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of %s: %w", p.Name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// Tail returns the last lines of a log file.
func Tail(path string, lines int) string {
	const most = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
