// Screenshots makes the pictures of the status page that the docs show: it
// starts the demo, lets it run for a while, and takes them while the level is
// not OK.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/headgate/headgate/e2e/browser/chromium"
)

// mostBytes is what a picture may have: a page of the docs shows several.
const mostBytes = 200_000

func main() {
	to := flag.String("to", "docs/images", "folder of the pictures")
	after := flag.Duration("after", 3*time.Minute, "how long the demo runs first, so that the charts have something to show")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: screenshots [flags] DEMO [argument of the demo ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *to, *after, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, to string, after time.Duration, command []string) (err error) {
	binary, err := chromium.Find()
	if err != nil {
		return err
	}
	url, stopDemo, err := startDemo(ctx, command)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDemo()) }()
	browser, stop, err := chromium.Start(ctx, binary)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(os.Stderr, "screenshots: the demo runs for %s first, see %s\n", after, url)
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, picture := range []struct {
		name string
		look chromium.Look
	}{
		{"status-light.png", chromium.Look{Width: 1280, Height: 960}},
		{"status-dark.png", chromium.Look{Width: 1280, Height: 960, Dark: true}},
		{"status-phone.png", chromium.Look{Width: 375, Height: 812, Phone: true}},
	} {
		data, err := take(browser, url, picture.look)
		if err != nil {
			return fmt.Errorf("%s: %w", picture.name, err)
		}
		if len(data) > mostBytes {
			return fmt.Errorf("%s has %d bytes, more than %d", picture.name, len(data), mostBytes)
		}
		if err := os.WriteFile(filepath.Join(to, picture.name), data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "screenshots: %s, %d bytes\n", picture.name, len(data))
	}
	return nil
}

// place is where the demo says that the page is.
var place = regexp.MustCompile(`status page +(http://\S+)`)

// startDemo starts the demo and returns the address of its status page.
func startDemo(ctx context.Context, command []string) (url string, stop func() error, err error) {
	demo := exec.Command(command[0], command[1:]...)
	told, err := demo.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := demo.Start(); err != nil {
		return "", nil, fmt.Errorf("start the demo: %w", err)
	}
	ended := make(chan error, 1)
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(told)
		for lines.Scan() {
			if match := place.FindStringSubmatch(lines.Text()); match != nil {
				found <- match[1]
			}
		}
		ended <- demo.Wait()
	}()
	stop = func() error {
		if err := demo.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		return <-ended
	}
	select {
	case url := <-found:
		return url, stop, nil
	case err := <-ended:
		return "", nil, fmt.Errorf("the demo ended before it told of its status page: %v", err)
	case <-ctx.Done():
		return "", nil, errors.Join(ctx.Err(), stop())
	}
}

// take takes a picture of the page once its charts are drawn and the level is
// not OK, at the demo's next such time.
func take(browser context.Context, url string, look chromium.Look) ([]byte, error) {
	page, close := chromedp.NewContext(browser)
	defer close()
	page, cancel := context.WithTimeout(page, 3*time.Minute)
	defer cancel()
	err := chromedp.Do(page, look.Set(), chromedp.Navigate(url), chromedp.WaitVisible("#charts canvas"))
	if err != nil {
		return nil, err
	}
	if _, err := chromedp.Run(page, chromedp.Poll[bool](`document.querySelector(".sentence.soft, .sentence.hard") !== null`,
		chromedp.WithPollingTimeout(0))); err != nil {
		return nil, err
	}
	shot, err := chromedp.Run(page, chromedp.CaptureScreenshot())
	if err != nil {
		return nil, err
	}
	return small(shot)
}

// small writes a picture with a palette, which is a third of the bytes: its
// commonest colours, and of those that look alike one.
func small(shot []byte) ([]byte, error) {
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	counts := map[color.RGBA]int{}
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	commonest := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range commonest {
		if len(palette) < 256 && !slices.ContainsFunc(palette, func(other color.Color) bool { return alike(c, other.(color.RGBA)) }) {
			palette = append(palette, c)
		}
	}
	paletted := image.NewPaletted(bounds, palette)
	draw.Draw(paletted, bounds, full, bounds.Min, draw.Src)
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, paletted); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// alike reports whether hardly anybody could tell two colours apart.
func alike(a, b color.RGBA) bool {
	far := func(x, y uint8) int { return max(int(x), int(y)) - min(int(x), int(y)) }
	return far(a.R, b.R)+far(a.G, b.G)+far(a.B, b.B) < 18
}
