package mqttbridge

import (
	"bytes"
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// describeInterval is how often, at most, the description of one device is
// saved: each is a durable write.
const describeInterval = 10 * time.Second

// describePause is how long what gear tells of itself is gathered before it
// replaces what it told an earlier hub: retained messages come one by one, in
// any order.
const describePause = 3 * time.Second

// describe takes in what a report tells of the gear itself.
func (b *broker) describe(g *gear, r *profile.Report) {
	firmware := strings.ToValidUTF8(r.Firmware, "")
	if len(firmware) > session.MaxFirmwareBytes {
		firmware = strings.ToValidUTF8(firmware[:session.MaxFirmwareBytes], "")
	}
	renamed := firmware != "" && firmware != g.firmware
	if renamed {
		g.firmware = firmware
	}
	if r.Describe == nil && !renamed {
		return
	}
	d := r.Describe
	if d == nil {
		d = new(devicev1.Describe)
		_ = proto.Unmarshal(g.described(), d)
	} else {
		d = proto.CloneOf(d)
	}
	if g.firmware == "" && d.Firmware == "" { // told before the hub was started, perhaps
		var saved devicev1.Describe
		_ = proto.Unmarshal(g.described(), &saved)
		g.firmware = saved.Firmware
	}
	if d.Firmware == "" || renamed {
		d.Firmware = g.firmware
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err == nil {
		err = session.CheckDescribe(text)
	}
	if err != nil {
		b.problem(problem{reason: "description is not usable", profile: g.bound.cfg.Name, gear: g.name, detail: err.Error()})
		return
	}
	if bytes.Equal(text, g.described()) {
		return
	}
	if g.describeNext.IsZero() && len(g.device.Describe) > 0 {
		g.describeNext = time.Now().Add(describePause)
	}
	g.description = text
	b.changed[g] = struct{}{}
	b.saveDescriptions(time.Now())
}

// described is the description as it is saved or about to be.
func (g *gear) described() []byte {
	switch {
	case g.description != nil:
		return g.description
	case g.saving != nil:
		return g.saving
	}
	return g.device.Describe
}

// saveDescriptions has those saved that are due.
func (b *broker) saveDescriptions(now time.Time) {
	for g := range b.changed {
		if now.Before(g.describeNext) {
			continue
		}
		delete(b.changed, g)
		text := g.description
		g.description = nil
		if g.device == nil || text == nil || g.saving == nil && bytes.Equal(text, g.device.Describe) {
			continue
		}
		g.describeNext, g.saving = now.Add(describeInterval), text
		id := g.device.ID
		b.bridge.clerk.do(func(ctx context.Context) {
			_, err := b.bridge.deps.Registry.Update(ctx, id, func(d *registry.Device) error {
				d.Describe = text
				return nil
			})
			if err != nil && ctx.Err() == nil {
				b.log.Warn("description of a device could not be stored", "device", id, "error", err)
			}
			if err != nil {
				b.inbox.post(func() { g.saving = nil })
			}
		})
	}
}
