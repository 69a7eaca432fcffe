package settings

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
)

// FuzzLoad gives every binary's settings an environment: one name and value a
// line. What is accepted lies in its range, and what is wrong leaves the default.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"HEADGATE_INTERVAL=5s\nHEADGATE_SOFT_ENTER=50%\nMDP_FB_SCALE_SOFT=0.5",
		"HEADGATE_INTERVAL=-1s\nHEADGATE_COORDINATOR_IDS=a,,b\nHEADGATE_CONTROLLER_LISTEN=:99999",
		"MDP_FB_SCALE_HARD=NaN\nMDP_FB_SCALE_OK=+Inf\nHEADGATE_QUEUE_CAPACITY=1e309",
		"HEADGATE_SHARD=0x10\nHEADGATE_SHARDS= 3 \nHEADGATE_LOG_LEVEL=DEBUG",
		"HEADGATE_HARD_ENTER=101%\nHEADGATE_TARGET=\xff\nHEADGATE_ENABLED=yes\nHEADGATE_=\nHEADGATE_X",
		"HEADGATE_SCALER_STALE_AFTER=1h0m0.000000001s\nHEADGATE_SCALER_GRPC_LISTEN=[::1]:6000\nHEADGATE_MATCHERS=job=\"a\"} or up{",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		environ := strings.Split(text, "\n")
		if err := Unknown(environ); err != nil {
			invalidtest.Explained(t, err)
		}
		for _, settings := range []any{&Controller{}, &Target{}, &Scaler{}, &Pipeline{}} {
			err := Load(t.Context(), settings, Environ(environ))
			if err != nil {
				invalidtest.Explained(t, err)
			}
			for _, leaf := range leaves(reflect.ValueOf(settings).Elem(), 0) {
				if !leaf.inRange(t.Context(), leaf.value) {
					t.Fatalf("%s is %v", leaf.name, leaf.value)
				}
			}
			again := reflect.New(reflect.TypeOf(settings).Elem()).Interface()
			if err := Load(t.Context(), again, Environ(environ)); err == nil && !cmp.Equal(settings, again) {
				t.Fatalf("read twice it is another:\n%s", cmp.Diff(settings, again))
			}
		}
	})
}
