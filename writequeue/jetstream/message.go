package jetstream

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate/headgate/writequeue"
)

// timeHeader holds an item's time, in seconds since 1970 with nine digits of
// their fraction. Its key is the message's id.
const timeHeader = "Headgate-Time"

// message is an item as the stream keeps it.
func message(subject string, item writequeue.Item) *nats.Msg {
	return &nats.Msg{
		Subject: subject,
		Header: nats.Header{
			jetstream.MsgIDHeader: {escape(item.Key)},
			timeHeader:            {fmt.Sprintf("%d.%09d", item.Time.Unix(), item.Time.Nanosecond())},
		},
		Data: item.Payload,
	}
}

// item is what a message holds. Those that somebody else put into the stream
// have the time and, where they have no id, the number that it gave them.
func item(stream string, m jetstream.Msg, about *jetstream.MsgMetadata) writequeue.Item {
	made := writequeue.Item{
		Key:     unescape(m.Headers().Get(jetstream.MsgIDHeader)),
		Time:    about.Timestamp,
		Payload: m.Data(),
	}
	if made.Key == "" {
		made.Key = stream + "/" + strconv.FormatUint(about.Sequence.Stream, 10)
	}
	if at, ok := parseTime(m.Headers().Get(timeHeader)); ok {
		made.Time = at
	}
	return made
}

func parseTime(text string) (time.Time, bool) {
	whole, fraction, found := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if !found || err != nil || len(fraction) != 9 {
		return time.Time{}, false
	}
	nanoseconds, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC(), true
}

// escape makes a key one that a header can hold as it is: without control
// characters, spaces that would be cut off, and what is no ASCII.
func escape(key string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }
	for i := range len(key) {
		if !plain(key[i]) {
			return escapeAll(key, plain)
		}
	}
	return key
}

func escapeAll(key string, plain func(byte) bool) string {
	var b strings.Builder
	for i := range len(key) {
		if plain(key[i]) {
			b.WriteByte(key[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", key[i])
		}
	}
	return b.String()
}

// unescape is the key that escape was given. What escape did not write stays as
// it is.
func unescape(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	key, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return key
}
