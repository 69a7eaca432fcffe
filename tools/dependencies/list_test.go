package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestThePageListsWhatIsCompiledIn(t *testing.T) {
	want, err := list(t.Context(), root, "purposes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what is compiled in; \"make docs\" writes it anew", page)
	}
}

func TestAModuleWithoutAPurposeAndAPurposeWithoutAModuleAreErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "purposes.yaml")
	if err := os.WriteFile(file, []byte("example.org/none: nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := list(t.Context(), root, file)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"google.golang.org/grpc has no purpose", "example.org/none has a purpose in " + file + ", and is compiled into no binary",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}

func TestALicenceIsNamedByItsText(t *testing.T) {
	dir := t.TempDir()
	if _, err := licence(dir); err == nil {
		t.Error("a module without a licence has one")
	}
	text, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "COPYING.txt"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := licence(dir); got != "Apache-2.0" || err != nil {
		t.Errorf("the licence is %q, %v, want Apache-2.0", got, err)
	}
}
