package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// toxic is a fault of a connection, by Toxiproxy's names.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // downstream is what the server says, upstream what it is told
	Attributes map[string]int `json:"attributes"`
}

func latency(milliseconds int) toxic {
	return toxic{"latency", "downstream", map[string]int{"latency": milliseconds, "jitter": milliseconds / 4}}
}
func bandwidth(kilobytesPerSecond int) toxic {
	return toxic{"bandwidth", "upstream", map[string]int{"rate": kilobytesPerSecond}}
}
func blackHole() toxic { return toxic{"timeout", "downstream", map[string]int{"timeout": 0}} }
func halfOpen() toxic  { return toxic{"timeout", "upstream", map[string]int{"timeout": 0}} }
func reset(afterMilliseconds int) toxic {
	return toxic{"reset_peer", "downstream", map[string]int{"timeout": afterMilliseconds}}
}
func sliced(bytes int) toxic {
	return toxic{"slicer", "downstream", map[string]int{"average_size": bytes, "size_variation": bytes / 2, "delay": 1000}}
}

// link is a connection between two parts that can be spoilt.
type link struct {
	proxy *toxiproxy.Proxy
}

// newLink puts a proxy in front of an address.
func newLink(name, upstream string) (*link, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &link{toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	if err := l.proxy.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy %s: %w", name, err)
	}
	return l, nil
}

func (l *link) address() string { return l.proxy.Listen }

// spoil adds faults to all connections, those that are there too.
func (l *link) spoil(toxics ...toxic) error {
	for _, t := range toxics {
		data, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if _, err := l.proxy.Toxics.AddToxicJson(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("spoil %s: %w", l.proxy.Name, err)
		}
	}
	return nil
}

// cut refuses connections and ends those that are there.
func (l *link) cut() { l.proxy.Stop() }

// mend takes all faults away.
func (l *link) mend() error {
	l.proxy.Toxics.ResetToxics(context.Background())
	if err := l.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return fmt.Errorf("mend %s: %w", l.proxy.Name, err)
	}
	return nil
}

// forger stands before Prometheus and may change its answers to queries.
type forger struct {
	listener net.Listener
	server   *http.Server
	forge    atomic.Pointer[func(*http.Response) error]
}

func newForger(upstream string) (*forger, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	f := &forger{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Header.Set("Accept-Encoding", "identity") },
		ModifyResponse: func(r *http.Response) error {
			if forge := f.forge.Load(); forge != nil {
				return (*forge)(r)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(http.StatusBadGateway) },
	}
	if f.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	f.server = &http.Server{Handler: proxy}
	go func() { _ = f.server.Serve(f.listener) }() // ends with close
	return f, nil
}

func (f *forger) address() string { return f.listener.Addr().String() }
func (f *forger) close()          { _ = f.server.Close() }

// honest lets answers pass as they are.
func (f *forger) honest() { f.forge.Store(nil) }

// lie changes all answers from now on.
func (f *forger) lie(forge func(*http.Response) error) { f.forge.Store(&forge) }

// text makes an answer of a status and a body.
func text(status int, body func(was []byte) []byte) func(*http.Response) error {
	return func(r *http.Response) error {
		was, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		is := body(was)
		r.StatusCode, r.Status = status, strconv.Itoa(status)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(is)), int64(len(is))
		r.Header.Set("Content-Length", strconv.Itoa(len(is)))
		return nil
	}
}

// sample is a series of an answer.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// samples changes the series of an answer.
func samples(change func([]sample) []sample) func(*http.Response) error {
	return text(http.StatusOK, func(was []byte) []byte {
		var answer struct {
			Status string `json:"status"`
			Data   struct {
				ResultType string   `json:"resultType"`
				Result     []sample `json:"result"`
			} `json:"data"`
			Warnings []string `json:"warnings,omitempty"`
		}
		if err := json.Unmarshal(was, &answer); err != nil || answer.Data.ResultType != "vector" {
			return was
		}
		answer.Data.Result = change(answer.Data.Result)
		is, err := json.Marshal(answer)
		if err != nil {
			return was
		}
		return is
	})
}
