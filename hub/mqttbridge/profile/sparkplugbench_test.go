package profile

import (
	"fmt"
	"testing"
	"time"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// BenchmarkSparkplugData decodes a message of ten values under aliases.
func BenchmarkSparkplugData(b *testing.B) {
	p := testSparkplug()
	var births, values []*sparkplugWire
	for i := range uint64(10) {
		births = append(births, aliased(metric(fmt.Sprint("line/value", i), sparkplugv1.DataType_Double, 1.5), i))
		values = append(values, metric(fmt.Sprint("@", i), sparkplugv1.DataType_Double, 2.5))
	}
	if _, err := p.Decode(message(b, topicNBIRTH, birthOf(0, births...)), nil); err != nil {
		b.Fatal(err)
	}
	var messages []Message
	for seq := range uint64(256) {
		messages = append(messages, message(b, topicNDATA, payloadOf((seq+1)%256, values...)))
	}
	var reports []Report
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := messages[i%256]
		m.Received = m.Received.Add(time.Duration(i))
		var err error
		if reports, err = p.Decode(m, reports[:0]); err != nil || len(reports[0].Rows) != 1 || reports[0].Problem != "" {
			b.Fatal(err, reports)
		}
	}
}
