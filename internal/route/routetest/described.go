package routetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/internal/route"
)

// items is the path under which a description has the http sources of a job,
// which says where each of them really is.
const items = "POST /v1/items"

// Described checks that an OpenAPI file of the folder docs/openapi, which root
// leads to, has just these routes, each with its role, and asks nobody who they
// are where that role is open.
func Described(t *testing.T, root, name string, routes []route.Route) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs", "openapi", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Security []map[string][]string           `yaml:"security"`
		Paths    map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Security) == 0 {
		t.Errorf("%s: nobody is asked who they are", name)
	}
	got := map[string]access.Role{}
	for path, operations := range file.Paths {
		for method, node := range operations {
			if method == "parameters" {
				continue
			}
			var operation struct {
				Role     access.Role            `yaml:"x-headgate-role"`
				Security *[]map[string][]string `yaml:"security"`
			}
			if err := node.Decode(&operation); err != nil {
				t.Fatal(err)
			}
			if open := operation.Security != nil && len(*operation.Security) == 0; open != (operation.Role == access.Open) || operation.Security != nil && !open {
				t.Errorf("%s: %s %s has the role %q and the security %v", name, method, path, operation.Role, operation.Security)
			}
			got[strings.ToUpper(method)+" "+path] = operation.Role
		}
	}
	want := map[string]access.Role{}
	for _, r := range routes {
		method, path, found := strings.Cut(r.Pattern, " ")
		switch {
		case found:
			want[method+" "+strings.TrimSuffix(path, "{$}")] = r.Role
		case r.Role != access.Open: // a source, which answers all methods but POST 405
			want[items] = r.Role
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s.yaml does not have the routes that are served (-served +described):\n%s", name, diff)
	}
}
