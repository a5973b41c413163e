package hub

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/mqttbridge"
)

// mqttBridgeDir holds the bridge's own files, in the data folder.
const mqttBridgeDir = "mqtt-bridge"

// openMQTTBridge makes the bridge to legacy gear. It connects to no broker
// before startMQTTBridge.
func (h *Hub) openMQTTBridge(context.Context) error {
	var embedded *mqttbridge.Embedded
	if h.cfg.MQTTListen != "" {
		embedded = &mqttbridge.Embedded{Endpoint: h.mqttEndpoint, Taken: func(ctx context.Context, clientID string) error {
			return h.mqtt.Taken(ctx, mqttBridgeUser, clientID)
		}}
	}
	if h.cfg.MQTTBridge == "" {
		h.sampler = mqttbridge.NewSampler(mqttbridge.Config{}, embedded, h.registry.Get)
		return nil
	}
	cfg, err := mqttbridge.LoadConfig(h.cfg.MQTTBridge)
	if err != nil {
		return bad("mqtt-bridge", "%v", err)
	}
	h.bridge, err = mqttbridge.New(cfg, mqttbridge.Deps{
		Registry: h.registry, KeyID: h.keyring.ActiveID, Buffer: h.buffer, Tail: h.buffer, Live: h.live,
		Commands: h.commands, JetStream: h.node.JetStream(), Replicas: h.node.Replicas(),
		Labels: labelTags(h.cfg.LabelTags), Node: h.node.Name(), Dir: filepath.Join(h.cfg.Data, mqttBridgeDir),
		Embedded: embedded, Logger: h.log,
	})
	if err != nil {
		return bad("mqtt-bridge", "%v", err)
	}
	return nil
}

// apiBridge is what operators may ask.
func (h *Hub) apiBridge() api.Bridge {
	if h.bridge == nil {
		return mqttbridge.SampleOnly{Sampler: h.sampler}
	}
	return h.bridge
}

// startMQTTBridge runs the bridge, now that the hub's own broker is there. It
// is the first to end: it still needs all the others then.
func (h *Hub) startMQTTBridge(context.Context) error {
	if h.bridge != nil {
		h.onClose("MQTT bridge", h.goRun("MQTT bridge", h.bridge.Run))
	}
	return nil
}

// checkMQTTBridge names the brokers that cannot be reached, or whose gear is
// not stored because of a name. They are no
// reason to send wss devices elsewhere: the hub is ready without them.
func (h *Hub) checkMQTTBridge(context.Context) error {
	var failing []string
	for _, b := range h.bridge.Brokers() {
		if !b.Connected {
			failing = append(failing, fmt.Sprintf("broker %s (%s): %s", b.Name, b.URL, b.Error))
		}
		if b.RenamedGear > 0 {
			failing = append(failing, fmt.Sprintf("broker %s: %d pieces of gear are devices of a broker or profile that the config no longer has, and nothing of them is stored: see hubctl bridge ls %s", b.Name, b.RenamedGear, b.Name))
		}
	}
	if len(failing) == 0 {
		return nil
	}
	return errors.New(strings.Join(failing, "; ")) // in one line
}

// collectMQTTBridge collects of the brokers of the MQTT bridge.
func (m *metrics) collectMQTTBridge(c collector) {
	if m.hub.bridge == nil {
		return
	}
	for _, b := range m.hub.bridge.Brokers() {
		connected := 0.0
		if b.Connected {
			connected = 1
		}
		c.labelled("bridge_connected", "1 while the broker is connected.", connected, "broker", b.Name)
		c.labelled("bridge_pending_messages", "Messages received and not durable yet.", float64(b.PendingMessages), "broker", b.Name)
		c.labelled("bridge_pending_bytes", "Bytes of messages received and not durable yet.", float64(b.PendingBytes), "broker", b.Name)
		c.counter("bridge_messages_total", "Messages received from the broker.", b.Messages, "broker", b.Name)
		c.counter("bridge_rows_total", "Rows of gear made durable.", b.Rows, "broker", b.Name)
		c.counter("bridge_refused_total", "Messages, or parts of them, that were not usable.", b.Refused, "broker", b.Name)
		c.counter("bridge_unknown_gear_total", "Messages of gear that is not allowed.", b.UnknownGear, "broker", b.Name)
		c.counter("bridge_lost_total", "QoS 0 messages dropped for want of room, and messages that Sparkplug nodes miss in their own count: at least so many.", b.LostQoS0, "broker", b.Name)
		c.counter("bridge_published_total", "Messages published to the broker, commands among them.", b.Published, "broker", b.Name)
		for _, p := range b.Problems {
			c.counter("bridge_problems_total", "Problems, by reason.", p.Count, "broker", b.Name, "profile", p.Profile, "reason", p.Reason)
		}
		for _, p := range b.Profiles {
			c.labelled("bridge_gear", "Gear that is allowed.", float64(p.GearAllowed), "broker", b.Name, "profile", p.Name)
		}
	}
}
