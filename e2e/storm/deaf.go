package storm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// questions are what a deaf client asks beside its streams, without ever
// taking an answer.
const questions = 20

// opening is all that a deaf client ever says: it opens the connection with a
// window of no bytes, so that the scaler cannot send a single message, opens
// both streams and asks.
func (s *Storm) opening() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		return nil, fmt.Errorf("write settings: %w", err)
	}
	var block bytes.Buffer
	header := hpack.NewEncoder(&block) // remembers what it has said on the connection
	id := uint32(1)
	ask := func(method string, message proto.Message) error {
		block.Reset()
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", s.Address},
			{"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			if err := header.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
				return err
			}
		}
		data, err := proto.Marshal(message)
		if err != nil {
			return err
		}
		// gRPC's prefix: not compressed, and the length.
		data = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
			return err
		}
		if err := framer.WriteData(id, true, data); err != nil {
			return err
		}
		id += 2 // a client's are odd
		return nil
	}
	err := ask(pb.ExternalScaler_StreamIsActive_FullMethodName, s.trigger())
	if err == nil {
		err = ask(pb.ExternalScaler_StreamMetricSpec_FullMethodName, s.trigger())
	}
	for range questions {
		if err == nil {
			err = ask(pb.ExternalScaler_GetMetrics_FullMethodName, &pb.GetMetricsRequest{ScaledObjectRef: s.trigger(), MetricName: Metric})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write what a deaf client asks: %w", err)
	}
	return out.Bytes(), nil
}
