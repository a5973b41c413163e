package mqttbridge

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// FuzzPackets has whatever a broker may send read by the client alone and by
// way of a packetConn: the messages that this takes, and the packets that the
// client still gets, are the same, as far as the client can read at all.
func FuzzPackets(f *testing.F) {
	for _, qos := range []byte{0, 1, 2} {
		f.Add(append(publishPacket(f, "a/b", qos, []byte("21.5")), 0x90, 3, 0, 1, 1))
	}
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'})
	f.Add([]byte{0x30, 2, 0, 0, 0xd0, 0, 0x3a, 5, 0, 1, 'a', 0, 7})
	f.Add([]byte{0x36, 5, 0, 1, 'a', 0, 7})
	f.Fuzz(func(t *testing.T, wire []byte) {
		if len(wire) > 1<<16 {
			return // each packet is within all bounds
		}
		var want []string
		for in := bytes.NewReader(wire); ; {
			packet, err := packets.ReadPacket(in)
			if err != nil {
				break
			}
			want = append(want, told(packet))
		}
		var got []string
		c := newPacketConn(readOnly{Reader: bytes.NewReader(wire)})
		c.let = true
		c.take = func(batch []*arrival) bool {
			for _, a := range batch {
				got = append(got, fmt.Sprintf("%q %d %v %v %q", a.topic, a.id, a.dup, a.retained, a.payload))
			}
			return false
		}
		for {
			packet, err := packets.ReadPacket(c)
			if err != nil {
				break
			}
			got = append(got, told(packet))
		}
		// What is no MQTT ends both, not always at the same place.
		for i := range min(len(want), len(got)) {
			if want[i] != got[i] {
				t.Fatalf("packet %d is\n%s\nwant\n%s", i, got[i], want[i])
			}
		}
		if len(got) < len(want) {
			t.Fatalf("%d packets, want %d: %q", len(got), len(want), want)
		}
	})
}

// told is what matters of a packet; of a message as an arrival has it.
func told(packet packets.ControlPacket) string {
	p, ok := packet.(*packets.PublishPacket)
	if !ok || p.Qos > 1 {
		return packet.String()
	}
	return fmt.Sprintf("%q %d %v %v %q", p.TopicName, p.MessageID, p.Qos == 1 && p.Dup, p.Retain, p.Payload)
}
