package backtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/wiring"
	"github.com/headgate/headgate/settings"
)

// ranger evaluates an expression at each step of a range; v1.API is one.
type ranger interface {
	QueryRange(ctx context.Context, query string, r v1.Range, opts ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error)
}

// source is where the past is read.
type source struct {
	ranger

	// span is the time from the first sample to the last one. It is nil where
	// nobody knows, and a part has to be chosen.
	span func(ctx context.Context) (first, last time.Time, err error)
}

const (
	// queryTimeout bounds one query over a window of ticks.
	queryTimeout = 2 * time.Minute

	wantSource = "the address of a Prometheus server, a folder with its data, or an OpenMetrics file"
)

// wantedNames are the names of the series that are read.
type wantedNames struct {
	depths []string
	all    []string // depths among them
}

// open opens a source: an address such as http://127.0.0.1:9090, a folder, or a
// file. The settings say how to reach a server, and which one where the source
// is empty.
func open(named string, names wantedNames, server settings.Prometheus, log *slog.Logger) (source, error) {
	if named == "" || strings.Contains(named, "://") {
		if named != "" {
			server.URL = named
		}
		api, err := wiring.Prometheus(server)
		return source{ranger: api}, err
	}
	info, err := os.Stat(named)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return source{}, invalid.New("source", named, wantSource)
	case err != nil:
		return source{}, err
	case info.IsDir():
		f := &folder{dir: named, names: names, log: log}
		return source{ranger: f, span: f.span}, nil
	}
	h, err := readOpenMetrics(named, names.all)
	if err != nil {
		return source{}, err
	}
	return source{ranger: h.querier(), span: func(context.Context) (first, last time.Time, err error) {
		return spanOf(h, named, names)
	}}, nil
}

// spanOf is the time from the first depth to the last one.
func spanOf(h history, named string, names wantedNames) (first, last time.Time, err error) {
	first, last, ok := h.span(names.depths)
	if !ok {
		err = invalid.New("source", named, "one with samples of "+strings.Join(names.depths, " or "))
	}
	return first, last, err
}

// loadedAtOnce is how much of a folder is held in memory at a time.
const loadedAtOnce = 24 * time.Hour

// folder is the data of a Prometheus server, which may be running.
type folder struct {
	dir   string
	names wantedNames
	log   *slog.Logger

	loaded   history
	from, to time.Time
}

func (f *folder) span(ctx context.Context) (first, last time.Time, err error) {
	h, err := f.read(ctx, f.names.depths, math.MinInt64, math.MaxInt64)
	if err != nil {
		return first, last, err
	}
	return spanOf(h, f.dir, f.names)
}

// QueryRange implements ranger. It is fast where ranges follow one another.
func (f *folder) QueryRange(ctx context.Context, query string, r v1.Range, opts ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error) {
	if f.loaded == nil || r.Start.Before(f.from) || r.End.After(f.to) {
		to := r.End
		if least := r.Start.Add(loadedAtOnce); to.Before(least) {
			to = least
		}
		h, err := f.read(ctx, f.names.all, r.Start.Add(-lookBack).UnixMilli(), to.UnixMilli())
		if err != nil {
			return nil, nil, nil, err
		}
		f.loaded, f.from, f.to = h, r.Start, to
	}
	return f.loaded.querier().QueryRange(ctx, query, r, opts...)
}

// hasLog reports whether there is a write-ahead log, as the folders of servers
// have it.
func (f *folder) hasLog() bool {
	_, err := os.Stat(filepath.Join(f.dir, "wal"))
	return err == nil
}

// hasBlocks reports whether there is any block.
func (f *folder) hasBlocks() bool {
	blocks, err := filepath.Glob(filepath.Join(f.dir, "*", "meta.json"))
	return err == nil && len(blocks) > 0
}

// querier asks all blocks, and the write-ahead log where there is one. Where there
// is none the database must not be asked, which would look for it whenever its
// last block ends before the range does.
func (f *folder) querier(db *tsdb.DBReadOnly, from, to int64) (storage.Querier, error) {
	if f.hasLog() {
		return db.Querier(from, to)
	}
	blocks, err := db.Blocks()
	if err != nil {
		return nil, err
	}
	var all []storage.Querier
	for _, b := range blocks {
		q, err := tsdb.NewBlockQuerier(b, from, to)
		if err != nil {
			return nil, errors.Join(err, storage.NewMergeQuerier(all, nil, storage.ChainedSeriesMerge).Close())
		}
		all = append(all, q)
	}
	return storage.NewMergeQuerier(all, nil, storage.ChainedSeriesMerge), nil
}

// read reads the samples of the names between two times, in milliseconds.
func (f *folder) read(ctx context.Context, names []string, from, to int64) (h history, err error) {
	if !f.hasLog() && !f.hasBlocks() {
		return nil, invalid.New("source", f.dir, wantSource+": this folder has neither blocks nor a write-ahead log")
	}
	scratch, err := os.MkdirTemp("", "promtest-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the head of %s: %w", f.dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	db, err := tsdb.OpenDBReadOnly(f.dir, scratch, f.log)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	querier, err := f.querier(db, from, to)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.dir, err)
	}
	defer func() { err = errors.Join(err, querier.Close()) }()
	var patterns []string
	for _, n := range names {
		patterns = append(patterns, regexp.QuoteMeta(n))
	}
	matcher, err := labels.NewMatcher(labels.MatchRegexp, model.MetricNameLabel, strings.Join(patterns, "|"))
	if err != nil {
		return nil, fmt.Errorf("select series: %w", err)
	}
	set := querier.Select(ctx, false, nil, matcher)
	h = history{}
	for set.Next() {
		s := &series{labels: set.At().Labels().Copy()}
		samples := set.At().Iterator(nil)
		for kind := samples.Next(); kind != chunkenc.ValNone; kind = samples.Next() {
			if kind == chunkenc.ValFloat {
				s.add(samples.At())
				continue
			}
			s.add(samples.AtT(), math.NaN()) // a histogram is no number
		}
		if err := samples.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.dir, err)
		}
		h = append(h, s)
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.dir, err)
	}
	return h, nil
}
