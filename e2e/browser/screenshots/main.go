// Screenshots makes the pictures of the status page that the docs show, from a
// controller that runs.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
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
	browser, stop := chromium.Start(ctx, binary)
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

// small writes a picture with a palette of its 255 commonest colours, which is
// a third of the bytes.
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
	var palette color.Palette
	commonest := make([]color.RGBA, 0, len(counts))
	for c := range counts {
		commonest = append(commonest, c)
	}
	slices.SortFunc(commonest, func(a, b color.RGBA) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return int(a.R)<<16 + int(a.G)<<8 + int(a.B) - (int(b.R)<<16 + int(b.G)<<8 + int(b.B))
	})
	for _, c := range commonest[:min(255, len(commonest))] {
		palette = append(palette, c)
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
