// Package accesstest has the clients by whom a server is tried: strangers, one
// with each role, and one with all roles but each.
package accesstest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/headgate/headgate/access"
)

// Client is one by whom a server is tried.
type Client struct {
	Name          string // for the words of a test
	Authorization string // the header; empty for one who says nothing
	Roles         []access.Role
}

// Known reports whether the server knows who the client is.
func (c Client) Known() bool { return len(c.Roles) > 0 }

// May reports whether the client may do what takes a role.
func (c Client) May(role access.Role) bool {
	return role == access.Open || slices.Contains(c.Roles, role)
}

// Clients are all of them.
func Clients() []Client {
	all := []Client{
		{Name: "a stranger"},
		{Name: "one with a wrong token", Authorization: "Bearer the-token-that-nobody-has"},
		{Name: "one with another scheme", Authorization: "Digest " + Token(access.Read)},
	}
	for _, role := range access.Roles() {
		others := slices.DeleteFunc(access.Roles(), func(r access.Role) bool { return r == role })
		all = append(all,
			Client{Name: "one with the role " + string(role), Authorization: "Bearer " + Token(role), Roles: []access.Role{role}},
			Client{Name: "one with all roles but " + string(role), Authorization: "Bearer " + allBut(role), Roles: others})
	}
	return all
}

// Token is that of the client with one role alone.
func Token(role access.Role) string { return "the-token-that-may-" + string(role) }

func allBut(role access.Role) string { return "the-token-that-may-not-" + string(role) }

// File writes an access file with the clients, and returns its path.
func File(t testing.TB) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("clients:\n")
	for _, c := range Clients() {
		if !c.Known() {
			continue
		}
		token := strings.TrimPrefix(c.Authorization, "Bearer ")
		sum := sha256.Sum256([]byte(token))
		words := make([]string, 0, len(c.Roles))
		for _, r := range c.Roles {
			words = append(words, string(r))
		}
		fmt.Fprintf(&text, "  - {name: %s, token_sha256: %s, roles: [%s]}\n",
			strings.TrimPrefix(token, "the-token-that-"), hex.EncodeToString(sum[:]), strings.Join(words, ", "))
	}
	file := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Guard is one with the clients of File.
func Guard(t testing.TB) *access.Guard {
	t.Helper()
	guard, err := access.New(File(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return guard
}
