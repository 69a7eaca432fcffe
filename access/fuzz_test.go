package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

func FuzzAccessFile(f *testing.F) {
	sum := sha256.Sum256([]byte("a token"))
	f.Add([]byte("clients:\n  - {name: a, token_sha256: " + hex.EncodeToString(sum[:]) + ", roles: [feed, read]}\n"))
	f.Add([]byte("anonymous: [read]\nclients: []\n"))
	f.Add([]byte("clients: [{name: a, token_file: [a, b], roles: read}]"))
	f.Add([]byte("clients: &a [*a]"))
	f.Add([]byte("a: &a [b]\nclients: [{<<: *a}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := parse(data, func(path string) ([]byte, error) {
			if len(path) < leastToken {
				return nil, errors.New("no such file")
			}
			return []byte(path), nil
		})
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		guard := Everyone()
		guard.file = "a file"
		guard.table.Store(read)
		for _, role := range []Role{Feed, Apply, Override} {
			if _, err := guard.Admit(Credentials{}, role); err == nil {
				t.Fatalf("a stranger has the role %s", role)
			}
		}
		for _, c := range read.clients {
			if c.roles == 0 || c.name == "" || len(c.tokens)+len(c.certificates) == 0 {
				t.Fatalf("half a client: %+v", c)
			}
		}
	})
}

// FuzzAuthorization knocks with whatever header: only a token that is listed
// opens, and only for its client's roles.
func FuzzAuthorization(f *testing.F) {
	const token = "the-one-token-there-is"
	sum := sha256.Sum256([]byte(token))
	listed, err := parse([]byte("clients:\n  - {name: ann, token_sha256: "+hex.EncodeToString(sum[:])+", roles: [feed]}\n"), nil)
	if err != nil {
		f.Fatal(err)
	}
	guard := Everyone()
	guard.file = "a file"
	guard.table.Store(listed)
	for _, seed := range []string{
		"Bearer " + token, "bearer  " + token, "Bearer " + token + " ", "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+token)),
		"Basic " + base64.StdEncoding.EncodeToString([]byte("bob:"+token)), "Basic OnRva2Vu", "Basic =", "Bearer", "", "Digest x", "Bearer " + hex.EncodeToString(sum[:]),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		name, err := guard.Admit(Credentials{Authorization: header}, Feed)
		if err == nil {
			scheme, rest, _ := strings.Cut(header, " ")
			decoded, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
			bearer := strings.EqualFold(scheme, "Bearer") && strings.TrimLeft(rest, " ") == token
			basic := strings.EqualFold(scheme, "Basic") && string(decoded) == "ann:"+token
			if name != "ann" || !bearer && !basic {
				t.Fatalf("%q comes in as %q", header, name)
			}
		}
		for _, role := range []Role{Read, Apply, Override, ""} {
			if _, err := guard.Admit(Credentials{Authorization: header}, role); err == nil {
				t.Fatalf("%q has the role %q", header, role)
			}
		}
	})
}
