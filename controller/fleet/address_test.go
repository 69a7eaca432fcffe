package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/metrics"
)

// phoneBook is a resolver.
type phoneBook map[string][]string

func (b phoneBook) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" || b[host] == nil {
		return nil, errors.New("no such host: " + host)
	}
	var all []netip.Addr
	for _, a := range b[host] {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

// scraped is a reader whose snapshot has these instances of bars.
type scraped []string

func (s scraped) Read(context.Context) (metrics.Snapshot, error) {
	if s == nil {
		return metrics.Snapshot{}, errors.New("down")
	}
	o := metrics.Observation{CoordinatorID: "bars"}
	for _, instance := range s {
		o.Replicas = append(o.Replicas, metrics.Replica{Instance: instance})
	}
	return metrics.Snapshot{Coordinators: map[string]metrics.Observation{"bars": o}}, nil
}

func TestReplicasAreFoundByTheirAddress(t *testing.T) {
	book := phoneBook{
		"pipelines": {"10.0.0.2", "10.0.0.1"},
		"both":      {"10.0.0.1", "fd00::1", "::ffff:10.0.0.2"},
		"six":       {"fd00::1"},
	}
	for _, test := range []struct {
		name, address string
		instances     []string
		ids           []string
		want          []string
		wantErr       string
	}{
		{"a list", "http://a:9400, http://b:9400/", nil, nil, []string{"http://a:9400", "http://b:9400"}, ""},
		{"all addresses of a name", "dns+http://pipelines:9400", nil, nil, []string{"http://10.0.0.1:9400", "http://10.0.0.2:9400"}, ""},
		{"a path is kept", "dns+http://pipelines:9400/gate", nil, nil, []string{"http://10.0.0.1:9400/gate", "http://10.0.0.2:9400/gate"}, ""},
		{"of both families the fourth counts", "dns+http://both:9400", nil, nil, []string{"http://10.0.0.1:9400", "http://10.0.0.2:9400"}, ""},
		{"the sixth where there is no other", "dns+http://six:9400", nil, nil, []string{"http://[fd00::1]:9400"}, ""},
		{"a name that is none", "dns+http://nobody:9400", nil, nil, nil, "no such host: nobody"},
		{"the instances of the series", "series+http://", []string{"10.0.0.1:9400", "10.0.0.2:9400"}, []string{"bars"},
			[]string{"http://10.0.0.1:9400", "http://10.0.0.2:9400"}, ""},
		{"at another port", "series+https://:9443", []string{"10.0.0.1:9400", "pod-2", "[fd00::1]:9400"}, []string{"bars"},
			[]string{"https://10.0.0.1:9443", "https://[fd00::1]:9443", "https://pod-2:9443"}, ""},
		{"one of the coordinators is absent", "series+http://", []string{"10.0.0.1:9400"}, []string{"bars", "ticks"}, nil,
			`no replicas of "ticks" are in Prometheus`},
		{"series without an instance", "series+http://", []string{""}, []string{"bars"}, nil, "have no instance label"},
		{"before Prometheus was read", "series+http://", nil, []string{"bars"}, nil, "the replicas of Prometheus' series are not known yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			signals := &Signals{}
			_, _ = signals.Through(scraped(test.instances)).Read(t.Context()) // fails where there are none
			gate, err := Dialer{Signals: signals, Log: slog.New(slog.DiscardHandler), Resolver: book}.Dial(test.address, test.ids, ShareEqually)
			if err != nil {
				t.Fatal(err)
			}
			got, err := gate.(*Fleet).config.Find.Find(t.Context())
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("got %v, want %q", err, test.wantErr)
			}
		})
	}
}

func TestOneAddressIsOneCoordinatorAsEver(t *testing.T) {
	gate, err := Dialer{}.Dial("http://127.0.0.1:9400", nil, ShareEqually)
	if _, one := gate.(*client.Client); err != nil || !one {
		t.Errorf("got a %T and %v, want a client", gate, err)
	}
}

func TestAnAddressThatIsNoneIsNamed(t *testing.T) {
	for _, address := range []string{
		"", "127.0.0.1:9400", "ftp://a:9400", "http://a:9400,", "http://a:9400,b:9400", "http://a:9400,http://a:9400/",
		"dns+http://", "dns+http://pipelines", "dns+https://pipelines:9400", "dns+ftp://pipelines:9400", "dns+http://pipelines:9400?a=b",
		"series+http://pipelines:9400", "series+http://:", "series+ftp://", "series+http://:9400#a", "dns+http://%zz:1", "series+",
	} {
		_, err := Dialer{Signals: &Signals{}}.Dial(address, []string{"bars"}, ShareEqually)
		if all := invalid.All(err); len(all) != 1 || all[0].Field != "coordinator_url" {
			t.Errorf("%q: got %v, want an error of coordinator_url", address, err)
		}
	}
}

func TestTheSeriesOfOtherCoordinatorsAreOtherReplicas(t *testing.T) {
	if a, b := Name("series+http://", []string{"ticks", "bars"}), Name("series+http://", []string{"bars", "ticks"}); a != b {
		t.Errorf("got %q and %q of the same coordinators", a, b)
	}
	if a, b := Name("series+http://", []string{"bars"}), Name("series+http://", []string{"ticks"}); a == b {
		t.Errorf("got %q of different coordinators", a)
	}
	if a := Name("dns+http://pipelines:9400", []string{"bars"}); a != "dns+http://pipelines:9400" {
		t.Errorf("got %q", a)
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"http://a:1", "http://a:1,http://b:2", "dns+http://a:1", "series+http://:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		gate, err := Dialer{Signals: &Signals{}}.Dial(address, []string{"bars"}, ShareEqually)
		if (gate == nil) == (err == nil) || err != nil && len(invalid.All(err)) == 0 {
			t.Errorf("%q: got %v and %v", address, gate, err)
		}
	})
}
