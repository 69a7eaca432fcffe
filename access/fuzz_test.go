package access

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/headgate/headgate/internal/invalid"
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
			if len(invalid.All(err)) == 0 {
				t.Fatalf("no field is named: %v", err)
			}
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
