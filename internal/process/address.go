package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
)

// Ports that are given lie below those that the system takes for connections
// by itself: between the choice of one and its use no connection can have it.
const (
	lowestPort  = 20_000
	highestPort = 32_000
)

var nextPort atomic.Uint32

// FreePort is a port of the loopback device on which nobody listens, for a server
// that cannot be told port 0. None is given twice before all others have been.
// It may be called concurrently.
func FreePort() (int, error) {
	const ports = highestPort - lowestPort
	nextPort.CompareAndSwap(0, 1+rand.Uint32N(ports))
	for range ports {
		port := lowestPort + int(nextPort.Add(1)%ports)
		listener, err := net.Listen("tcp", address(port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		return port, listener.Close()
	}
	return 0, errors.New("find a free port: all are taken")
}

// FreeAddress is FreePort with the address of the loopback device.
func FreeAddress() (string, error) {
	port, err := FreePort()
	return address(port), err
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
