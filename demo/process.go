package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// process is one of the binaries at work, its output in a file.
type process struct {
	name  string
	log   string // path of the file
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // how; read after ended
}

// stopLimit is how long a process has to end by itself before it is killed. It
// is longer than the pipeline's own limit for draining its queue.
const stopLimit = 45 * time.Second

// start runs a binary with settings added to an environment of its own.
func start(dir, binary string, args []string, settings map[string]string) (*process, error) {
	name := filepath.Base(binary)
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	// Settings of the caller's own shell have no say in a rehearsal. A group of
	// its own keeps the terminal's Ctrl-C from it: it is stopped in its turn.
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for variable, value := range settings {
		p.cmd.Env = append(p.cmd.Env, variable+"="+value)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// waitReady waits until the address answers its readiness with success.
func (p *process) waitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.MaxInterval = 20*time.Millisecond, 250*time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, probe(ctx, url)
	}, backoff.WithBackOff(policy), backoff.WithMaxElapsedTime(30*time.Second))
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended before it was ready (%w): see %s", p.name, p.err, p.log)
	default:
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w: see %s", p.name, err, p.log)
	}
	return nil
}

func probe(ctx context.Context, url string) error {
	response, err := get(ctx, url)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// stop asks the process to end, waits, and kills it only when it does not. The
// error is that of a process which did not end well. A second call does
// nothing more.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %v and was killed: see %s", p.name, stopLimit, p.log)
	}
	if p.err != nil {
		return fmt.Errorf("%s ended badly (%w): see %s", p.name, p.err, p.log)
	}
	return nil
}
