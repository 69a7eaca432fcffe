package jetstream

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/writequeue"
)

// sent is a message as a consumer gets it.
type sent struct {
	jetstream.Msg
	raw *nats.Msg
}

func (s sent) Headers() nats.Header { return s.raw.Header }
func (s sent) Data() []byte         { return s.raw.Data }

func TestAnItemComesOutOfAMessageAsItWasPutIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := writequeue.Item{
			Key:     rapid.StringN(1, 40, -1).Draw(t, "key"),
			Time:    time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
			Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
		}
		about := &jetstream.MsgMetadata{Timestamp: time.Unix(1, 0)}
		m := message("s", want)
		for name, values := range m.Header {
			for _, c := range []byte(values[0]) {
				if c <= ' ' || c >= 0x7f {
					t.Fatalf("%s: %q has a byte that a header may lose", name, values[0])
				}
			}
		}
		got := item("headgate-bars", sent{raw: m}, about)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("item (-put +taken):\n%s", diff)
		}
	})
}

func TestAMessageOfSomebodyElseIsAnItemToo(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	about := &jetstream.MsgMetadata{Timestamp: at, Sequence: jetstream.SequencePair{Stream: 17}}
	for name, test := range map[string]struct {
		header nats.Header
		want   writequeue.Item
	}{
		"without a header":               {nil, writequeue.Item{Key: "headgate-bars/17", Time: at}},
		"with an id that is not escaped": {nats.Header{"Nats-Msg-Id": {"100%"}}, writequeue.Item{Key: "100%", Time: at}},
		"with a time that is none":       {nats.Header{"Nats-Msg-Id": {"a"}, timeHeader: {"1.5"}}, writequeue.Item{Key: "a", Time: at}},
	} {
		t.Run(name, func(t *testing.T) {
			got := item("headgate-bars", sent{raw: &nats.Msg{Header: test.header}}, about)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzItem reads what anybody may have put into the stream.
func FuzzItem(f *testing.F) {
	f.Add("bars/1", "1764000000.000000000", []byte(`{}`))
	f.Add("%zz", "-1.999999999", []byte(nil))
	f.Add("", "9223372036854775808.0", []byte("x"))
	f.Fuzz(func(t *testing.T, id, at string, payload []byte) {
		about := &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: 1}}
		m := &nats.Msg{Header: nats.Header{jetstream.MsgIDHeader: {id}, timeHeader: {at}}, Data: payload}
		got := item("s", sent{raw: m}, about)
		if got.Key == "" {
			t.Fatal("an item without a key")
		}
		if again := item("s", sent{raw: message("s", got)}, about); !again.Time.Equal(got.Time) || again.Key != got.Key {
			t.Fatalf("%v became %v", got, again)
		}
	})
}
