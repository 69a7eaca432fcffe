package job

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/settings"
)

// Prefix begins the variables that stand for the keys of a job file.
const Prefix = "HEADGATE_JOB_"

// largestFile is the most bytes that a job file may have.
const largestFile = 1 << 20

// Input is what a job is read from.
type Input struct {
	Path     string   // of the job file, as errors name it; its folder is where those of the files it reads begin
	Data     []byte   // the file's content
	Environ  []string // as os.Environ returns it
	Policies []string // names of the feedback policies that there are

	// Open opens the files that the job names, such as a recording.
	Open func(path string) (io.ReadCloser, error)
}

// Load reads a job. The error joins an *invalid.Value for each fault: its field
// is the variable's name, or the file, the line and the key. Variables that
// begin with Prefix and are none of the job's keys are faults too; those of
// other prefixes are not looked at beyond MDP_FB_, which are the feedback's
// other names.
//
// The relative path of a file that the job reads begins at the job file's
// folder, and at the working directory where a variable gives it. That of a
// file that the job writes begins at the working directory.
func Load(ctx context.Context, in Input) (*Job, error) {
	r := &reader{
		ctx: ctx, in: in, env: settings.Environ(in.Environ),
		variables: map[string]string{}, clashes: map[string]bool{},
	}
	root := r.parse()
	if root == nil {
		return nil, errors.Join(r.errs...)
	}
	j := r.job(root)
	r.unknownVariables()
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return j, nil
}

// reader collects what is wrong while it walks through the file.
type reader struct {
	ctx  context.Context
	in   Input
	env  settings.Lookup
	errs []error

	variables map[string]string // the key that each variable stands for
	clashes   map[string]bool   // pairs of sections that were reported to share variables
}

// report says what is wrong. Passwords in values are not repeated, whatever the
// key is: it may be misspelt.
func (r *reader) report(field string, got any, want string) {
	if text, is := got.(string); is {
		if strings.Contains(strings.ToLower(text), "password") {
			text = "…"
		}
		if strings.Contains(text, "://") {
			text = invalid.WithoutUser(text)
		}
		got = text
	}
	r.errs = append(r.errs, invalid.New(field, got, want))
}

// at names a place in the file.
func (r *reader) at(line int, key string) string {
	place := r.in.Path
	if line > 0 {
		place += ":" + strconv.Itoa(line)
	}
	if key == "" {
		return place
	}
	return place + ": " + key
}

// yamlLine finds the line in what the YAML parser says.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// parse returns the mapping at the file's root, or nil when there is none.
func (r *reader) parse() *yaml.Node {
	const want = "a mapping in YAML or JSON with the key dag"
	data := r.in.Data
	if len(data) > largestFile {
		r.report(r.at(0, ""), fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("at most %d bytes", largestFile))
		return nil
	}
	if json.Valid(data) {
		// JSON is YAML but for tabs between tokens. Within strings JSON has none.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	var document, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&document)
	if err == nil && !errors.Is(decoder.Decode(&more), io.EOF) {
		r.report(r.at(more.Line, ""), "a second document", "one document")
		return nil
	}
	switch {
	case errors.Is(err, io.EOF):
		r.errs = append(r.errs, invalid.Missing(r.at(0, "dag"), want))
		return nil
	case err != nil:
		line, text := 0, err.Error()
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		r.report(r.at(line, ""), text, want)
		return nil
	}
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		r.report(r.at(root.Line, ""), describe(root), want)
		return nil
	}
	return root
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// describe is a value as errors repeat it.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return n.Value
}

// entry is one key of a mapping and its value.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

// entries are the keys of a mapping in its order. A node that is absent or
// null has none; anything else but a mapping, and a key that stands there
// twice, is reported.
func (r *reader) entries(path string, n *yaml.Node) []entry {
	n = resolve(n)
	if n == nil || n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.report(r.at(n.Line, path), describe(n), "a mapping")
		return nil
	}
	var all []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		e := entry{key: key.Value, line: key.Line, value: resolve(n.Content[i+1])}
		if key.Kind != yaml.ScalarNode {
			r.report(r.at(key.Line, path), describe(key), "a name as the key")
			continue
		}
		if slices.ContainsFunc(all, func(o entry) bool { return o.key == e.key }) {
			r.report(r.at(e.line, join(path, e.key)), describe(e.value), "each key once")
			continue
		}
		all = append(all, e)
	}
	return all
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// section is a struct that was filled, and where each of its values came from.
type section struct {
	r    *reader
	path string
	line int // of the section's own key; 0 where it is absent
	from map[string]origin
	keys []string // that the section may have, sorted

	// wrong holds the keys whose value was reported. They have their defaults,
	// and nothing more is said about them.
	wrong map[string]bool
}

// origin tells where a key's value came from.
type origin struct {
	variable string // the environment; empty for the file
	line     int    // of the file; 0 for the default
	text     string
}

// field names a key of the section as an error does: by the variable that gave
// the value, or by the place in the file.
func (s *section) field(key string) string {
	from := s.from[key]
	if from.variable != "" {
		return from.variable
	}
	return s.r.at(cmp.Or(from.line, s.line), join(s.path, key))
}

func (s *section) report(key string, got any, want string) {
	if !s.wrong[key] {
		s.r.report(s.field(key), got, want)
	}
}

// fill reads a section into the struct that dst points to. Keys in also are
// read by somebody else.
func (r *reader) fill(path string, line int, entries []entry, dst any, also ...string) *section {
	s := &section{r: r, path: path, line: line, from: map[string]origin{}, wrong: map[string]bool{}}
	variables := settings.Variables(dst)
	names := map[string]string{} // of the struct's settings, by key
	keys := slices.Clone(also)
	for _, v := range variables {
		names[Key(v)] = v.Name
		keys = append(keys, Key(v))
	}
	slices.Sort(keys)
	s.keys = keys
	for _, e := range entries {
		_, known := names[e.key]
		text, scalar := scalarText(e.value)
		switch {
		case slices.Contains(also, e.key):
		case !known:
			r.report(r.at(e.line, join(path, e.key)), describe(e.value), "no such key: one of "+strings.Join(keys, ", "))
		case !scalar:
			r.report(r.at(e.line, join(path, e.key)), describe(e.value), "one value, or a list of values")
		default:
			s.from[e.key] = origin{line: e.line, text: text}
		}
	}
	byName := map[string]string{}
	for _, v := range variables {
		r.fromEnvironment(s, Key(v), v.Name)
		byName[v.Name] = Key(v)
	}
	err := settings.Load(r.ctx, dst, func(name string) (string, bool) {
		from, found := s.from[byName[name]]
		return from.text, found
	})
	for _, v := range invalid.All(err) {
		key := byName[v.Field]
		s.wrong[key] = true
		v.Field = s.field(key)
		if s.from[key].text == "" {
			v = invalid.Missing(v.Field, v.Want)
		}
		r.errs = append(r.errs, v)
	}
	if err != nil {
		s.fillRest(dst, variables)
	}
	for _, key := range required(reflect.TypeOf(dst).Elem()) {
		if strings.TrimSpace(s.from[key].text) == "" && !s.wrong[key] {
			s.r.errs = append(s.r.errs, invalid.Missing(s.field(key), "a value"))
			s.wrong[key] = true
		}
	}
	return s
}

// fillRest fills in what is right of a section where something is wrong, so
// that it can be checked further. What is wrong has its default, or 1 where it
// is a number without one.
func (s *section) fillRest(dst any, variables []settings.Variable) {
	wrong := map[string]string{}
	for _, v := range variables {
		if s.wrong[Key(v)] {
			wrong[v.Name] = ""
			if v.Default == "" && v.Range != "" {
				wrong[v.Name] = "1"
			}
		}
	}
	err := settings.Load(s.r.ctx, dst, func(name string) (string, bool) {
		if text, is := wrong[name]; is {
			return text, text != ""
		}
		for _, v := range variables {
			if v.Name == name {
				from, found := s.from[Key(v)]
				return from.text, found
			}
		}
		return "", false
	})
	if err != nil {
		panic("job: a default of the job file is out of its own range: " + err.Error())
	}
}

// fromEnvironment takes a key's value from its variables, if they are set.
func (r *reader) fromEnvironment(s *section, key, name string) {
	own := Variable(join(s.path, key))
	r.claim(own, s.path, key)
	candidates := []string{own}
	if name != key {
		candidates = append(candidates, name) // the original's name of the key
	}
	set := ""
	for _, variable := range candidates {
		text, _ := r.env(variable)
		if strings.TrimSpace(text) == "" {
			continue
		}
		if set != "" {
			r.report(variable, text, "one variable for "+join(s.path, key)+", which "+set+" sets too")
			continue
		}
		set = variable
		s.from[key] = origin{variable: variable, text: text}
	}
}

// claim notes which key a variable stands for, and reports two keys that share
// one, once for a pair of sections.
func (r *reader) claim(variable, path, key string) {
	other, taken := r.variables[variable]
	r.variables[variable] = join(path, key)
	if !taken {
		return
	}
	pair := path + " " + strings.TrimSuffix(other, "."+key)
	if r.clashes[pair] {
		return
	}
	r.clashes[pair] = true
	r.report(r.at(0, join(path, key)), variable, "a variable of its own, which "+other+" has already: rename one of the two")
}

// Variable is the environment variable that stands for a key of the job file,
// given with its path, such as providers.ibkr.burst.
func Variable(path string) string {
	upper := strings.ToUpper(path)
	return Prefix + strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, upper)
}

// Key is the job file's key for a setting: its name, but for the feedback's,
// whose names are variables.
func Key(v settings.Variable) string {
	return strings.ToLower(strings.TrimPrefix(v.Name, "MDP_FB_"))
}

// required lists the keys that have no default and must be given.
func required(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if field.Anonymous {
			keys = append(keys, required(field.Type)...)
		}
		if field.Tag.Get("required") != "" {
			name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
			keys = append(keys, name)
		}
	}
	return keys
}

// scalarText is the text of a scalar, or of a list of scalars with commas
// between them.
func scalarText(n *yaml.Node) (string, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "", true
		}
		return n.Value, true
	case yaml.SequenceNode:
		var parts []string
		for _, item := range n.Content {
			if item = resolve(item); item.Kind != yaml.ScalarNode || strings.Contains(item.Value, ",") {
				return "", false
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

// unknownVariables reports the variables with our prefix that no key has.
func (r *reader) unknownVariables() {
	var known []string
	for variable := range r.variables {
		known = append(known, variable)
	}
	slices.Sort(known)
	seen := map[string]bool{}
	for _, pair := range r.in.Environ {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, Prefix) || r.variables[name] != "" || seen[name] {
			continue
		}
		seen[name] = true
		// Its value is not repeated: a misspelt name may hold a password.
		r.errs = append(r.errs, &invalid.Value{Field: name, Got: "set", Want: "the variable of a key of this job; nearest is " + nearest(name, known)})
	}
}

// nearest is the name that shares the longest beginning with another.
func nearest(name string, known []string) string {
	best, longest := "", -1
	for _, candidate := range known {
		n := 0
		for n < len(name) && n < len(candidate) && name[n] == candidate[n] {
			n++
		}
		if n > longest {
			best, longest = candidate, n
		}
	}
	return best
}

// resolvePath makes the path of a file that is read begin at the job file's
// folder, where the job file gives it.
func (s *section) resolvePath(key string, path *string) {
	if *path == "" || filepath.IsAbs(*path) || s.from[key].variable != "" {
		return
	}
	*path = filepath.Join(filepath.Dir(s.r.in.Path), *path)
}
