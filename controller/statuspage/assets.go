package statuspage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed assets/index.html assets/app.js assets/style.css assets/icon.svg assets/uplot
var assets embed.FS

// files are what the page consists of: where each is served, which it is, and
// its type.
var files = []struct{ pattern, name, kind string }{
	{"/{$}", "index.html", "text/html; charset=utf-8"},
	{"/assets/app.js", "app.js", "text/javascript; charset=utf-8"},
	{"/assets/style.css", "style.css", "text/css; charset=utf-8"},
	{"/assets/icon.svg", "icon.svg", "image/svg+xml"},
	{"/assets/uplot.js", "uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"},
	{"/assets/uplot.css", "uplot/uPlot.min.css", "text/css; charset=utf-8"},
	{"/assets/uplot-license.txt", "uplot/LICENSE", "text/plain; charset=utf-8"},
}

// policy lets the page load nothing but its own files, and nobody frame it. The
// other headers that keep it to itself are those of every route.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one of them, plain and compressed.
type file struct {
	name, kind    string
	plain, zipped []byte
	tag           string
}

// load reads and compresses a file.
func load(name, kind string) (*file, error) {
	plain, err := assets.ReadFile("assets/" + name)
	if err != nil {
		return nil, fmt.Errorf("load the status page: %w", err)
	}
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	w.Write(plain) // into memory, which cannot fail
	w.Close()
	sum := sha256.Sum256(plain)
	return &file{name, kind, plain, zipped.Bytes(), hex.EncodeToString(sum[:12])}, nil
}

// ServeHTTP answers with the file, compressed where the client takes that, or
// with 304 where it has it already.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Content-Type", f.kind)
	header.Set("Cache-Control", "no-cache") // to be asked for again, by its tag
	header.Set("Vary", "Accept-Encoding")
	body, tag := f.plain, f.tag
	if takesGzip(r.Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		body, tag = f.zipped, f.tag+"-gzip"
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(body))
}

// takesGzip reads an Accept-Encoding header (RFC 9110, section 12.5.3).
func takesGzip(accept string) bool {
	for offer := range strings.SplitSeq(accept, ",") {
		coding, parameters, _ := strings.Cut(offer, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight, given := strings.CutPrefix(strings.TrimSpace(parameters), "q=")
		q, err := strconv.ParseFloat(weight, 64)
		return !given || err == nil && q > 0
	}
	return false
}
