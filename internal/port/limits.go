package port

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/headgate/headgate/internal/route"
)

// Limits are what a client can hold of a port.
type Limits struct {
	ReadHeader time.Duration // for a request's line and header, and for TLS
	Read       time.Duration // for a whole request
	Write      time.Duration // for an answer; see route.AnswerLimit
	Idle       time.Duration // between two requests on a connection

	HeaderBytes  int
	HTTP2Streams int // on one connection

	Connections int // in all; further ones wait until one has ended
	OfOneHost   int // of one address; further ones are closed
}

// Usual are the limits of Headgate's ports.
func Usual() Limits {
	return Limits{
		ReadHeader: 10 * time.Second, Read: time.Minute, Write: route.AnswerLimit, Idle: 2 * time.Minute,
		HeaderBytes: 16 << 10, HTTP2Streams: 128,
		Connections: 1024, OfOneHost: 512,
	}
}

func (l Limits) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: l.ReadHeader, ReadTimeout: l.Read, WriteTimeout: l.Write, IdleTimeout: l.Idle,
		MaxHeaderBytes: l.HeaderBytes, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: l.HTTP2Streams},
	}
}

// Listen listens on an address, for as many connections as the limits allow.
func (l Limits) Listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the port: %w", err)
	}
	return l.limit(listener), nil
}

// limit bounds a listener's connections. One host can hold a part of them only,
// so that it does not keep all others out.
func (l Limits) limit(listener net.Listener) net.Listener {
	return &fairListener{Listener: netutil.LimitListener(listener, l.Connections), most: l.OfOneHost, open: map[string]int{}}
}

type fairListener struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[string]int // connections by host; those with none are not in it
}

func (l *fairListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(connection.RemoteAddr())
		if l.take(host) {
			return &counted{Conn: connection, release: sync.OnceFunc(func() { l.release(host) })}, nil
		}
		connection.Close()
	}
}

func hostOf(address net.Addr) string {
	host, _, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	return host
}

func (l *fairListener) take(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host] >= l.most {
		return false
	}
	l.open[host]++
	return true
}

func (l *fairListener) release(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	c.release()
	return c.Conn.Close()
}
