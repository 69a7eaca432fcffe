// Package chromium drives a real headless Chromium, and writes down what a page
// says and loads.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// BinaryVariable names the environment variable that may hold the path of the
// browser.
const BinaryVariable = "HEADGATE_TEST_CHROMIUM"

// ErrNoBinary says that there is no Chromium on this machine.
var ErrNoBinary = errors.New("no Chromium")

// Find returns the path of a browser: the one that BinaryVariable names, else
// one on PATH. The error wraps ErrNoBinary.
func Find() (string, error) {
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	if name := os.Getenv(BinaryVariable); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: none of %s", ErrNoBinary, strings.Join(names, ", "))
}

// Start starts a browser. Each context that is made of it by
// chromedp.NewContext is a page of its own. It ends by stop, which waits for
// it, or with ctx.
func Start(ctx context.Context, binary string) (browser context.Context, stop func(), err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary),
		chromedp.Flag("disable-dev-shm-usage", true), // which is small in containers
		chromedp.Flag("hide-scrollbars", true),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to have one as root
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	browser, stopBrowser := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		stopAllocator()
		return nil, nil, fmt.Errorf("start %s: %w", binary, err)
	}
	return browser, func() {
		stopBrowser()
		stopAllocator()
	}, nil
}

// Look is how a page is looked at.
type Look struct {
	Width, Height int64 // CSS pixels
	Dark          bool
	Phone         bool // touch, and two device pixels to each
}

// Set makes a page be looked at so, from now on.
func (l Look) Set() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		scheme, ratio := "light", 1.0
		if l.Dark {
			scheme = "dark"
		}
		if l.Phone {
			ratio = 2
		}
		_, err := cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: l.Width, Height: l.Height, DeviceScaleFactor: ratio, Mobile: l.Phone,
		})
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme},
				{Name: "prefers-reduced-motion", Value: "reduce"},
			},
		})
		return err
	})
}

// Record is what a page said and loaded.
type Record struct {
	mu       sync.Mutex
	faults   []string
	requests []string
	bytes    map[network.RequestID]float64
	streams  map[network.RequestID]bool
}

// Listen writes down what the page of a browser context says and loads, from
// now on.
func Listen(page context.Context) (*Record, error) {
	r := &Record{bytes: map[network.RequestID]float64{}, streams: map[network.RequestID]bool{}}
	return r, chromedp.Listen(page, r.take)
}

func (r *Record) take(event any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		switch string(e.Type) {
		case "error", "warning", "assert":
			words := []string{"console:"}
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			r.faults = append(r.faults, strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		fault := "exception: " + e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			fault += " " + thrown.Description
		}
		r.faults = append(r.faults, fault)
	case *log.EventEntryAdded:
		switch string(e.Entry.Level) {
		case "error", "warning":
			r.faults = append(r.faults, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		r.requests = append(r.requests, e.Request.URL)
		r.streams[e.RequestID] = e.Type == network.ResourceTypeEventSource
	case *network.EventLoadingFinished:
		if !r.streams[e.RequestID] {
			r.bytes[e.RequestID] = e.EncodedDataLength
		}
	}
}

// Faults are the errors and warnings on the page's console.
func (r *Record) Faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.faults...)
}

// Requests are the addresses that were asked for, in their order.
func (r *Record) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// Bytes is what came over the network, headers and all, without the streams.
func (r *Record) Bytes() (sum float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.bytes {
		sum += n
	}
	return sum
}
