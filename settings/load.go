// Package settings is the one place for the settings of every Headgate binary:
// their variables, types, defaults, ranges and meanings. The structs below are
// read from the environment by go-envconfig; --help and the table in the docs
// are made from the same tags, so neither can drift.
package settings

import (
	"cmp"
	"context"
	"encoding"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// Lookup finds a variable's value, as os.LookupEnv does.
type Lookup func(name string) (value string, found bool)

// Environ is a Lookup over pairs such as os.Environ returns. Of a name that
// stands there twice the last value counts.
func Environ(pairs []string) Lookup {
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) (string, bool) {
		value, found := values[name]
		return value, found
	}
}

// Load fills the struct that dst points to from its tags:
//
//	env:"NAME, default=…"   the variable, as go-envconfig reads it
//	help:"…"                its meaning, for --help and the docs
//	min:"…" max:"…"         its range, both ends included, written as a value
//	oneof:"a b c"           the words that it may be
//	form:"host:port"        that it is an address to listen on
//
// Structs without an env tag are filled field by field. A variable that is
// empty counts as not set. Every field that is wrong is reported, joined, each
// as an *invalid.Value under the variable's name, and has its default in dst:
// so that what else is wrong can be found too, not for use.
func Load(ctx context.Context, dst any, lookup Lookup) error {
	var errs []error
	for _, leaf := range leaves(reflect.ValueOf(dst).Elem(), 0) {
		if err := leaf.load(ctx, lookup); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Variable describes one setting.
type Variable struct {
	Name    string // of the environment variable
	Type    string // in words, such as "whole number" or "debug, info or warn"
	Default string // as it would be written; empty where there is none
	Range   string // in words; empty where anything of the type is right
	Help    string // what it means
}

// Variables lists the settings of the struct that s is, or points to, in the
// order in which they stand.
func Variables(s any) []Variable {
	return describe(s, func(leaf) bool { return true })
}

// ownVariables is Variables without those of the structs within s.
func ownVariables(s any) []Variable {
	return describe(s, func(l leaf) bool { return l.depth == 0 })
}

func describe(s any, wanted func(leaf) bool) []Variable {
	zero := reflect.New(reflect.Indirect(reflect.ValueOf(s)).Type()).Elem()
	var all []Variable
	for _, l := range leaves(zero, 0) {
		if wanted(l) {
			all = append(all, l.variable())
		}
	}
	return all
}

// leaf is one settable field and its tags.
type leaf struct {
	value reflect.Value
	field reflect.StructField
	name  string // of the variable
	def   string
	depth int // how many structs deep it stands; 0 is the outermost
}

// leaves walks a struct down to its fields with an env tag.
func leaves(v reflect.Value, depth int) []leaf {
	var all []leaf
	for i := range v.NumField() {
		field := v.Type().Field(i)
		tag, tagged := field.Tag.Lookup("env")
		if !tagged {
			if field.Type.Kind() == reflect.Struct {
				all = append(all, leaves(v.Field(i), depth+1)...)
			}
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		_, def, _ := strings.Cut(tag, "default=")
		all = append(all, leaf{value: v.Field(i), field: field, name: strings.TrimSpace(name), def: def, depth: depth})
	}
	return all
}

// load lets go-envconfig read this one field. It stops at its first error, so
// that each field is read by a call of its own.
func (l leaf) load(ctx context.Context, lookup Lookup) error {
	text, found := lookup(l.name)
	text = strings.TrimSpace(text)
	source := map[string]string{}
	if found && text != "" {
		source[l.name] = text
	}
	value, err := l.parse(ctx, source)
	if err != nil || !l.inRange(ctx, value) {
		if value, err := l.parse(ctx, nil); err == nil {
			l.value.Set(value)
		}
		return invalid.New(l.name, cmp.Or(text, l.def), l.want())
	}
	l.value.Set(value)
	return nil
}

func (l leaf) parse(ctx context.Context, source map[string]string) (reflect.Value, error) {
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: l.field.Name, Type: l.field.Type, Tag: l.field.Tag,
	}}))
	err := envconfig.ProcessWith(ctx, &envconfig.Config{
		Target:   one.Interface(),
		Lookuper: envconfig.MapLookuper(source),
	})
	return one.Elem().Field(0), err
}

func (l leaf) inRange(ctx context.Context, value reflect.Value) bool {
	if list := l.field.Tag.Get("oneof"); list != "" {
		return slices.Contains(strings.Fields(list), value.String())
	}
	if l.field.Tag.Get("form") == formAddress {
		return isAddress(value.String())
	}
	if value.Kind() == reflect.Float64 && value.Float()-value.Float() != 0 {
		return false // NaN and the infinities are nobody's setting
	}
	bound := func(tag string) (reflect.Value, bool) {
		text := l.field.Tag.Get(tag)
		if text == "" {
			return reflect.Value{}, false
		}
		parsed, err := l.parse(ctx, map[string]string{l.name: text})
		return parsed, err == nil
	}
	if low, has := bound("min"); has && less(value, low) {
		return false
	}
	if high, has := bound("max"); has && less(high, value) {
		return false
	}
	return true
}

// formAddress is the form of an address to listen on.
const formAddress = "host:port"

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func less(a, b reflect.Value) bool {
	switch {
	case a.CanInt():
		return a.Int() < b.Int()
	case a.CanUint():
		return a.Uint() < b.Uint()
	case a.CanFloat():
		return a.Float() < b.Float()
	}
	return false
}

// variable describes the leaf in words.
func (l leaf) variable() Variable {
	low, high := l.field.Tag.Get("min"), l.field.Tag.Get("max")
	span := ""
	switch {
	case low != "" && high != "":
		span = low + " to " + high
	case low != "":
		span = "at least " + low
	case high != "":
		span = "at most " + high
	}
	return Variable{
		Name: l.name, Type: l.kind(), Default: l.def, Range: span,
		Help: l.field.Tag.Get("help"),
	}
}

func (l leaf) want() string {
	v := l.variable()
	want := v.Type
	if l.field.Tag.Get("oneof") == "" {
		want = article(want)
	}
	if v.Range != "" {
		want += " (" + v.Range + ")"
	}
	return want
}

func article(kind string) string {
	switch {
	case kind == kindBool, kind == kindMark, kind == kindNames:
		return kind
	default:
		return "a " + kind
	}
}

const (
	kindBool  = "true or false"
	kindMark  = "items such as 8000, or a share such as 80%"
	kindNames = "names, separated by commas"
)

// kind names the leaf's type in words that a reader of --help knows.
func (l leaf) kind() string {
	if list := l.field.Tag.Get("oneof"); list != "" {
		return words(list)
	}
	if l.field.Tag.Get("form") == formAddress {
		return "host:port"
	}
	switch l.value.Interface().(type) {
	case time.Duration:
		return "duration such as 1m30s"
	case pressure.Mark:
		return kindMark
	case encoding.TextMarshaler:
		return "word"
	}
	switch l.value.Kind() {
	case reflect.Bool:
		return kindBool
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return kindNames
	}
	return "text"
}

// words joins a list that is separated by spaces: "a, b or c".
func words(list string) string {
	all := strings.Fields(list)
	last := len(all) - 1
	if last < 1 {
		return list
	}
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

// Unknown reports each variable of the pairs (as os.Environ returns them) that
// begins like one of Headgate's but is none, joined. What Kubernetes puts into
// a pod for a Service whose name begins with headgate is passed over, and so is
// HEADGATE_JOB_, for those variables depend on the job file and are checked
// with it.
func Unknown(pairs []string) error {
	known := map[string]bool{}
	for _, v := range All() {
		known[v.Name] = true
	}
	values := Environ(pairs)
	var errs []error
	for _, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if known[name] || !ours(name) || serviceLink(name, values) {
			continue
		}
		// Its value is not repeated: a misspelt name may hold a password.
		errs = append(errs, &invalid.Value{Field: name, Got: "set", Want: unknownWant(name, known)})
	}
	return errors.Join(errs...)
}

func unknownWant(name string, known map[string]bool) string {
	near, distance := "", 4 // more than three slips of the pen is another word
	for candidate := range known {
		if d := edits(name, candidate); d < distance || d == distance && candidate < near {
			near, distance = candidate, d
		}
	}
	if near == "" {
		return "no such variable: --help lists those there are"
	}
	return fmt.Sprintf("no such variable: did you mean %s?", near)
}

func ours(name string) bool {
	return (strings.HasPrefix(name, "HEADGATE_") && !strings.HasPrefix(name, "HEADGATE_JOB_") &&
		!strings.HasPrefix(name, "HEADGATE_TEST_")) || strings.HasPrefix(name, "MDP_FB_")
}

// serviceLink reports whether Kubernetes made the variable for a Service: it
// sets NAME_SERVICE_HOST beside NAME_PORT, NAME_PORT_80_TCP_ADDR and others.
func serviceLink(name string, values Lookup) bool {
	for _, part := range []string{"_SERVICE_HOST", "_SERVICE_PORT", "_PORT"} {
		if at := strings.Index(name, part); at > 0 {
			if _, found := values(name[:at] + "_SERVICE_HOST"); found {
				return true
			}
		}
	}
	return false
}

// edits counts the letters to insert, delete or change between a and b
// (Levenshtein's distance).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// quoteDefault shows a default as --help does.
func quoteDefault(def string) string {
	if def == "" {
		return "none"
	}
	if strings.ContainsAny(def, " \t") {
		return strconv.Quote(def)
	}
	return def
}
