package scenario

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// fault is what becomes of the series on their way to Prometheus.
type fault string

const (
	noFault     fault = "none"
	frozen      fault = "stale"  // the same samples with the same timestamps for ever
	notANumber  fault = "NaN"    // every depth is NaN
	nothingLeft fault = "absent" // there is no depth
	emptyLeft   fault = "partly" // only the depths of empty queues are left
)

// faults is an HTTP proxy between Prometheus and the pods that spoils the
// series where it is told to. It gives each sample an explicit timestamp, as an
// exporter that collects from elsewhere does: one that repeats what it heard
// last looks alive, and Prometheus goes on answering with that sample for its
// lookback of five minutes.
type faults struct {
	URL    string
	server *http.Server

	mu      sync.Mutex
	present fault
	frozen  map[string][]byte // what is repeated, by URL
}

func startFaults() (*faults, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for scrapes: %w", err)
	}
	f := &faults{URL: "http://" + listener.Addr().String(), present: noFault, frozen: map[string][]byte{}}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go f.server.Serve(listener) // it ends with Stop
	return f, nil
}

// Stop ends the proxy.
func (f *faults) Stop() error { return f.server.Close() }

// Set changes what becomes of the series.
func (f *faults) Set(to fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.present = to
	clear(f.frozen)
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := fetch(r.Context(), r.URL.String())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(f.spoil(r.URL.String(), stamp(text, time.Now())))
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/plain; version=0.0.4")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// stamp puts a timestamp behind every sample.
func stamp(text []byte, at time.Time) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\n")
		b.Write(line)
		if len(line) > 0 && line[0] != '#' {
			fmt.Fprintf(&b, " %d", at.UnixMilli())
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func (f *faults) spoil(url string, text []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	const depth = "coordinator_queue_depth"
	switch f.present {
	case frozen:
		if f.frozen[url] == nil {
			f.frozen[url] = text
		}
		return f.frozen[url]
	case notANumber, nothingLeft, emptyLeft:
		var b strings.Builder
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line) // the series, its value, and its time
			switch isDepth := strings.HasPrefix(line, depth+"{") && len(fields) == 3; {
			case !isDepth, f.present == emptyLeft && fields[1] == "0":
				b.WriteString(line)
			case f.present == notANumber:
				fmt.Fprintf(&b, "%s NaN %s\n", fields[0], fields[2])
			}
		}
		return []byte(b.String())
	}
	return text
}
