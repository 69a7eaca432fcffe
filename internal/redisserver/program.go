// Package redisserver runs a real Redis or Valkey server on the loopback device,
// for programs that check Headgate from outside. It keeps nothing.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// ErrNone says that this machine has no server to run.
var ErrNone = errors.New("no Redis or Valkey server: tools/setup redis installs one")

// startLimit bounds how long a server may take until it answers.
const startLimit = time.Minute

// Program is the server's program, and the name under which it has to be run, or
// ErrNone.
func Program() (path, name string, err error) {
	for _, name := range []string{"valkey", "redis"} {
		if path, err := exec.LookPath(name + "-server"); err == nil {
			return path, name + "-server", nil
		}
		// Debian's package of the server starts one, which nobody asked for. The
		// package of its tools has the same program, which is what its name says.
		if path, err := exec.LookPath(name + "-check-rdb"); err == nil {
			return path, name + "-server", nil
		}
	}
	return "", "", ErrNone
}

// Arguments are those of a server that listens on an address and keeps nothing; it
// works in a folder.
func Arguments(address, dir string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("run a Redis server: %w", err)
	}
	return []string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", dir}, nil
}

// Await returns when the server at an address answers.
func Await(ctx context.Context, address string) error {
	logging.Disable() // it would write each try to standard error
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the Redis server does not answer: %w", err)
		}
	}
}
