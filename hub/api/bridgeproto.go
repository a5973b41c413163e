package api

import (
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// gearProto is unset for a device that is no gear.
func gearProto(g *registry.Gear) *operatorv1.Gear {
	if g == nil {
		return nil
	}
	return &operatorv1.Gear{Broker: g.Broker, Profile: g.Profile, Name: g.Name}
}

func brokerProto(b *mqttbridge.BrokerStatus) *operatorv1.Broker {
	out := &operatorv1.Broker{
		Name: b.Name, Url: b.URL, Connected: b.Connected, Since: timestamp(b.Since), Error: b.Error,
		Messages: b.Messages, Rows: b.Rows, Refused: b.Refused, UnknownGear: b.UnknownGear, LostQos0: b.LostQoS0,
		PendingMessages: b.PendingMessages, PendingBytes: b.PendingBytes, Published: b.Published,
	}
	for _, p := range b.Profiles {
		out.Profiles = append(out.Profiles, &operatorv1.BridgeProfile{
			Name: p.Name, Kind: p.Kind, GearAllowed: p.GearAllowed, GearUnknown: p.GearUnknown, Messages: p.Messages,
		})
	}
	for _, p := range b.Problems {
		out.Problems = append(out.Problems, &operatorv1.BridgeProblem{
			Time: timestamp(p.Time), Reason: p.Reason, Count: p.Count,
			Topic: p.Topic, Gear: p.Gear, Profile: p.Profile, Detail: p.Detail,
		})
	}
	return out
}

func seenGearProto(g *mqttbridge.SeenGear) *operatorv1.SeenGear {
	return &operatorv1.SeenGear{
		Gear: gearProto(&g.Gear), Kind: g.Kind, DeviceId: g.DeviceID, Messages: g.Messages, Problem: g.Problem,
		FirstHeard: timestamp(g.FirstHeard), LastHeard: timestamp(g.LastHeard),
	}
}

func sampleProto(p *mqttbridge.SampleProgress) *operatorv1.SampleBrokerResponse {
	out := &operatorv1.SampleBrokerResponse{Messages: p.Messages, ConfigYaml: p.Config, Done: p.Done, Asked: p.Asked}
	for _, g := range p.Gear {
		fields := descriptionProto(&devicev1.Describe{Fields: g.Fields}).GetFields()
		out.Gear = append(out.Gear, &operatorv1.SampledGear{
			Kind: g.Kind, Profile: g.Profile, Name: g.Name, DeviceId: g.DeviceID,
			Fields: fields, Commands: g.Commands, Status: g.Status, Problem: g.Problem,
		})
	}
	for _, t := range p.Unrecognised {
		out.Unrecognised = append(out.Unrecognised, &operatorv1.SampledTopic{
			Topic: t.Topic, Messages: t.Messages, Payload: t.Payload, Reason: t.Reason,
		})
	}
	return out
}
