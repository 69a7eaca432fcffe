// Screenshots makes the pictures of the status page that the docs show, from a
// controller that runs.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/headgate/headgate/e2e/browser/chromium"
)

// mostBytes is what a picture may have: a page of the docs shows several.
const mostBytes = 200_000

func main() {
	url := flag.String("url", "http://127.0.0.1:8080/", "address of the status page")
	to := flag.String("to", "docs/images", "folder of the pictures")
	after := flag.Duration("after", 0, "how long to let the page run first, so that the charts have something to show")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *url, *to, *after); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, to string, after time.Duration) error {
	binary, err := chromium.Find()
	if err != nil {
		return err
	}
	browser, stop, err := chromium.Start(ctx, binary)
	if err != nil {
		return err
	}
	defer stop()
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, picture := range []struct {
		name string
		look chromium.Look
	}{
		{"status-light.png", chromium.Look{Width: 1280, Height: 1040}},
		{"status-dark.png", chromium.Look{Width: 1280, Height: 1040, Dark: true}},
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

// take takes a picture of the page once its charts are drawn.
func take(browser context.Context, url string, look chromium.Look) ([]byte, error) {
	page, close := chromedp.NewContext(browser)
	defer close()
	page, cancel := context.WithTimeout(page, time.Minute)
	defer cancel()
	err := chromedp.Do(page,
		look.Set(),
		chromedp.Navigate(url),
		chromedp.WaitVisible("#charts canvas"),
		chromedp.WaitVisible("#targets tbody tr"),
	)
	if err != nil {
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
