// Package access says who may do what on Headgate's ports: which clients there
// are, how each is known, and which roles it has.
//
// A client is known by a bearer token, or by a name in a client certificate
// that TLS has verified. Clients are listed in a file, which is read again when
// it changes; tokens stand in files of their own, or as their SHA-256.
package access

import (
	"slices"
	"strings"
)

// Role is what a client may do. Every route and every call of a server has one.
type Role string

// The roles. None includes another.
const (
	Open     Role = "open"     // no role: anyone may, and nobody is asked who it is
	Read     Role = "read"     // look at states, decisions, metrics and the status page, follow streams
	Feed     Role = "feed"     // bring items and feedback events, take tokens, tell outcomes
	Apply    Role = "apply"    // put a controller's leased scale on a provider
	Override Role = "override" // set and clear an operator's override
)

// Roles lists those that a client may have.
func Roles() []Role { return []Role{Read, Feed, Apply, Override} }

// roles is a set of Roles.
type roles uint8

func setOf(all ...Role) roles {
	var s roles
	for _, r := range all {
		if i := slices.Index(Roles(), r); i >= 0 {
			s |= 1 << i
		}
	}
	return s
}

// has reports whether the role is in the set; an unknown one is in none.
func (s roles) has(r Role) bool {
	i := slices.Index(Roles(), r)
	return i >= 0 && s&(1<<i) != 0
}

func roleWords() string {
	words := make([]string, 0, len(Roles()))
	for _, r := range Roles() {
		words = append(words, string(r))
	}
	return strings.Join(words, ", ")
}
