package route_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// makers are what makes a server, a way into one, or a way around its list.
var makers = regexp.MustCompile(`\b((http\.(NewServeMux|ServeMux|Server|Handle|HandleFunc|ListenAndServe|ListenAndServeTLS|Serve|ServeTLS)|` +
	`net\.(Listen|ListenTCP|ListenUnix|ListenPacket|ListenConfig)|tls\.Listen|grpc\.NewServer|route\.Mux)[({])|(net/http/pprof|expvar)"`)

// TestEveryServerIsMadeOfAListThatIsTried holds the binaries to a few places
// where servers are made. Who adds one adds a test that tries each of its routes
// as TestEveryRouteOfTheControllerIsForThoseWithItsRole does.
func TestEveryServerIsMadeOfAListThatIsTried(t *testing.T) {
	want := []string{
		"controller/http.go: route.Mux",             // part of the list of controller/httpapi
		"controller/httpapi/httpapi.go: route.Mux",  // TestEveryRouteOfTheControllerIsForThoseWithItsRole
		"coordinator/httpapi/httpapi.go: route.Mux", // part of the pipeline's list
		"internal/port/limits.go: http.Server",      // which port.Open alone makes
		"internal/port/limits.go: net.Listen",       // for HTTP and for gRPC
		"internal/route/route.go: http.NewServeMux", // in Mux, which asks for a role
		"pipeline/serve.go: route.Mux",              // TestEveryRouteOfThePipelineIsForThoseWithItsRole
		"scaler/grpc.go: grpc.NewServer",            // TestEveryCallThatIsServedHasARole
		"scaler/http.go: route.Mux",                 // TestEveryRouteOfTheScalerIsForThoseWithItsRole
	}
	command := exec.Command("go", "list", "-deps", "-f", "{{if and (not .Standard) .Module}}{{if .Module.Main}}{{.Dir}}{{end}}{{end}}", "./cmd/...")
	command.Dir = "../.."
	folders, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for folder := range strings.FieldsSeq(string(folders)) {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(text) {
				line = bytes.TrimSpace(line)
				if bytes.HasPrefix(line, []byte("//")) {
					continue
				}
				if match := makers.FindSubmatch(line); match != nil {
					found = append(found, filepath.ToSlash(name)+": "+strings.TrimRight(string(match[0]), `({"`))
				}
			}
		}
	}
	slices.Sort(found)
	if diff := cmp.Diff(want, slices.Compact(found)); diff != "" {
		t.Errorf("servers are made elsewhere than where they are known to be tried (-want +got):\n%s", diff)
	}
}
