package redisserver

import (
	"context"
	"fmt"
	"os"

	"github.com/headgate/headgate/internal/process"
)

// Server is a server, which may be ended and started again on its address, with
// nothing of what it had.
type Server struct {
	*process.Process // the one at work, or that was last
	Address          string

	spec process.Spec
}

// Start starts a server, whose log is in a folder, which is made where it is
// absent.
func Start(ctx context.Context, dir string) (*Server, error) {
	path, name, err := Program()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	args, err := Arguments(address, dir)
	if err != nil {
		return nil, err
	}
	s := &Server{Address: address, spec: process.Spec{Name: "redis", Binary: path, CalledAs: name, Args: args, Log: dir}}
	return s, s.Restart(ctx)
}

// Restart starts the server that has ended, and returns when it answers.
func (s *Server) Restart(ctx context.Context) (err error) {
	if s.Process, err = process.Start(s.spec); err != nil {
		return err
	}
	if err := Await(ctx, s.Address); err != nil {
		s.Kill()
		return fmt.Errorf("%w: %s", err, process.Tail(s.LogPath, 5))
	}
	return nil
}
