package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
)

// Bounds on what an access file and the files that it names may hold.
const (
	mostBytes    = 1 << 20
	mostClients  = 1000
	leastToken   = 16   // bytes; shorter ones can be guessed
	longestToken = 4096 // bytes
)

// client is one that the file lists, with all by which it is known.
type client struct {
	name         string
	roles        roles
	tokens       [][sha256.Size]byte // their sums
	certificates []string            // names in them
}

// table is a file, read and checked.
type table struct {
	clients   []client
	anonymous roles // of whoever says nothing of itself

	key   [sha256.Size]byte           // random
	index map[[sha256.Size]byte]place // of the tokens, by their blinded sums
}

// namePattern is what a client's name may be: it stands in logs, and is the
// user where the token is a password, which may have no colon.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@/-]{0,62}$`)

const (
	wantFile        = `a YAML mapping with the key "clients", a list, and perhaps "anonymous"`
	wantName        = "a name of 1 to 63 letters, digits and . _ @ / -, beginning with a letter or digit"
	wantToken       = "a file that holds nothing but a token of 16 to 4096 printable characters without spaces"
	wantTokenSum    = "the SHA-256 of a token in hexadecimal, 64 digits"
	wantCertificate = "a DNS name, URI or common name of a client certificate"
	wantClientKey   = "one of the keys name, token_file, token_sha256, certificate and roles"
)

// parse reads an access file. Token files are read by readFile, which is given
// their paths as the file has them. Every line that is wrong is reported,
// joined, each as an *invalid.Value that names the line; values are not
// repeated, for one of them may be a token at the wrong place.
func parse(data []byte, readFile func(string) ([]byte, error)) (*table, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&document)
	if err == nil && decoder.Decode(new(yaml.Node)) != io.EOF {
		err = errors.New("more than one document")
	}
	if err != nil || len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, hidden("access file", wantFile)
	}
	p := &parser{readFile: readFile, table: &table{}, names: map[string]bool{}, tokens: map[[sha256.Size]byte]bool{}, certificates: map[string]bool{}}
	clients := false
	p.mapping(document.Content[0], func(key, value *yaml.Node) bool {
		switch key.Value {
		case "clients":
			clients = true
			p.clients(value)
		case "anonymous":
			p.table.anonymous = p.roles(value)
			if p.table.anonymous&^setOf(Read) != 0 {
				p.wrong(value, "anonymous", "no role but read: nobody may change anything without saying who it is")
			}
		default:
			return false
		}
		return true
	}, wantFile)
	if !clients {
		p.errs = append(p.errs, invalid.Missing("clients", "a list, which may be empty"))
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	p.table.arrange()
	return p.table, nil
}

// parser gathers what is right and what is wrong in a file.
type parser struct {
	readFile     func(string) ([]byte, error)
	table        *table
	errs         []error
	names        map[string]bool
	tokens       map[[sha256.Size]byte]bool
	certificates map[string]bool
}

// hidden is an *invalid.Value that does not repeat the value.
func hidden(field, want string) *invalid.Value {
	return &invalid.Value{Field: field, Got: "wrong", Want: want}
}

func (p *parser) wrong(at *yaml.Node, field, want string) {
	p.errs = append(p.errs, hidden(fmt.Sprintf("line %d: %s", at.Line, field), want))
}

// mapping gives each pair of a mapping to take, which says whether it knows the
// key.
func (p *parser) mapping(node *yaml.Node, take func(key, value *yaml.Node) bool, want string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case seen[key.Value]:
			p.wrong(key, "key", "each key once")
		case !take(key, value):
			p.wrong(key, "key", want)
		}
		seen[key.Value] = true
	}
}

func (p *parser) clients(list *yaml.Node) {
	switch {
	case list.Kind != yaml.SequenceNode:
		p.wrong(list, "clients", "a list of clients")
		return
	case len(list.Content) > mostClients:
		p.wrong(list, "clients", fmt.Sprintf("at most %d", mostClients))
		return
	}
	for _, node := range list.Content {
		if node.Kind != yaml.MappingNode {
			p.wrong(node, "client", "a mapping with a name, roles, and a token or a certificate")
			continue
		}
		p.client(node)
	}
}

func (p *parser) client(node *yaml.Node) {
	var c client
	known, given := false, false // by what it is known; roles
	p.mapping(node, func(key, value *yaml.Node) bool {
		switch key.Value {
		case "name":
			c.name = value.Value
			if value.Kind != yaml.ScalarNode || !namePattern.MatchString(c.name) {
				p.wrong(value, "name", wantName)
			}
		case "token_file":
			known = true
			for _, path := range p.texts(value, key.Value, "a path, or a list of paths") {
				p.token(&c, value, path)
			}
		case "token_sha256":
			known = true
			for _, text := range p.texts(value, key.Value, wantTokenSum) {
				sum, err := hex.DecodeString(text)
				if err != nil || len(sum) != sha256.Size {
					p.wrong(value, key.Value, wantTokenSum)
					continue
				}
				p.sum(&c, value, key.Value, [sha256.Size]byte(sum))
			}
		case "certificate":
			known = true
			for _, name := range p.texts(value, key.Value, wantCertificate) {
				if p.certificates[name] {
					p.wrong(value, key.Value, "a name that no other client has")
				}
				p.certificates[name] = true
				c.certificates = append(c.certificates, name)
			}
		case "roles":
			given = true
			c.roles = p.roles(value)
		case "token":
			p.wrong(value, "token", "token_file or token_sha256: a token does not stand here in clear")
		default:
			return false
		}
		return true
	}, wantClientKey)
	field := func(name string) string { return fmt.Sprintf("line %d: %s", node.Line, name) }
	if !known {
		p.errs = append(p.errs, invalid.Missing(field("token_file"), "this, token_sha256 or certificate, by which the client is known"))
	}
	if !given {
		p.errs = append(p.errs, invalid.Missing(field("roles"), "some of "+roleWords()))
	}
	switch {
	case c.name == "":
		p.errs = append(p.errs, invalid.Missing(field("name"), wantName))
	case p.names[c.name]:
		p.wrong(node, "name", "a name that no other client has")
	}
	p.names[c.name] = true
	p.table.clients = append(p.table.clients, c)
}

// texts are those of a scalar, or of a list of scalars, none of them empty.
func (p *parser) texts(node *yaml.Node, field, want string) []string {
	nodes := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		nodes = node.Content
	}
	var all []string
	for _, n := range nodes {
		if n.Kind != yaml.ScalarNode || n.Value == "" || n.Tag == "!!null" {
			p.wrong(n, field, want)
			continue
		}
		all = append(all, n.Value)
	}
	if len(nodes) == 0 {
		p.wrong(node, field, want)
	}
	return all
}

func (p *parser) roles(node *yaml.Node) roles {
	var all roles
	for _, text := range p.texts(node, "roles", "some of "+roleWords()) {
		if !slices.Contains(Roles(), Role(text)) {
			p.wrong(node, "roles", "some of "+roleWords())
			continue
		}
		all |= setOf(Role(text))
	}
	return all
}

// token reads a client's token from its file.
func (p *parser) token(c *client, at *yaml.Node, path string) {
	data, err := p.readFile(path)
	if err != nil {
		var inPath *fs.PathError // which repeats the path, and that may be a token
		if errors.As(err, &inPath) {
			err = inPath.Err
		}
		p.wrong(at, "token_file", "a file that can be read: "+err.Error())
		return
	}
	token := strings.TrimSpace(string(data))
	printable := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if len(token) < leastToken || len(token) > longestToken || !printable {
		p.wrong(at, "token_file", wantToken)
		return
	}
	p.sum(c, at, "token_file", sha256.Sum256([]byte(token)))
}

func (p *parser) sum(c *client, at *yaml.Node, field string, sum [sha256.Size]byte) {
	if p.tokens[sum] {
		p.wrong(at, field, "a token that no other client has")
	}
	p.tokens[sum] = true
	c.tokens = append(c.tokens, sum)
}

// read reads an access file and the token files that it names, whose paths
// begin at its folder. The sum tells contents apart: of the file itself and of
// all that it names.
func read(file string) (*table, [sha256.Size]byte, error) {
	all := sha256.New()
	data, err := readAtMost(file)
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("read the access file: %w", err)
	}
	all.Write(append(data, 0))
	t, err := parse(data, func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		data, err := readAtMost(path)
		all.Write(append(data, 0)) // where one ends
		return data, err
	})
	return t, [sha256.Size]byte(all.Sum(nil)), err
}

func readAtMost(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	if err == nil && len(data) > mostBytes {
		err = fmt.Errorf("longer than %d bytes", mostBytes)
	}
	return data, err
}
