package firmwaresim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	credential "github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// usurperWord is what a usurper says of a command that is not its own.
const usurperWord = "said by another device"

// tryUsurper has a device that is known to the hub, with its own credential,
// try all that the protocol leaves to it to speak for another one: it reports
// the end of a command that another device has in hand, and sends a row with a
// column in which it names that device.
func (r *proof) tryUsurper(ctx context.Context, f plannedFault) error {
	ctx, cancel := context.WithTimeout(ctx, 2*strangerPatience)
	defer cancel()
	victim := r.calmDevice(ctx, f.pick)
	k, err := r.occupy(ctx, victim)
	if err != nil {
		return err
	}
	link, err := r.dialStranger(ctx)
	if err != nil {
		return errNotMet // the hub is away
	}
	defer link.bye()
	accepted, err := usurp(link, orderID(k), victim.id)
	if err != nil {
		return errNotMet
	}
	if accepted {
		r.find(promiseOwnName, "the hub has accepted a row of %s that names %s as its device", strangerID, victim.id)
	}
	answer, err := call(ctx, r.hub.commands.GetCommand, &operatorv1.GetCommandRequest{Id: orderID(k)})
	if err != nil {
		return errNotMet
	}
	for _, e := range answer.Events {
		if e.Message == usurperWord {
			r.find(promiseOwnName, "the hub believes what %s says of a command to %s: %s", strangerID, victim.id, story(answer))
		}
	}
	r.count.usurpers.Add(1)
	return nil
}

// occupy gives a device a command that it has in hand for a while.
func (r *proof) occupy(ctx context.Context, d *provenDevice) (k int, err error) {
	k = r.orders.add(order{device: uint16(d.index)})
	spec := &operatorv1.CommandSpec{Name: "hang", Ttl: durationpb.New(5 * time.Minute), Timeout: durationpb.New(6 * time.Second)}
	state := orderAccepted
	if !r.insist(ctx, func() error {
		_, err := call(ctx, r.hub.commands.SendCommand, &operatorv1.SendCommandRequest{DeviceId: d.id, Spec: spec, Key: orderID(k)})
		if isDisabled(err) {
			state, err = orderRefused, nil
		}
		return err
	}) {
		return k, errNotMet
	}
	r.orders.set(k, state, false)
	for state == orderAccepted && r.orders.at(k).runs == 0 {
		if !sleep(ctx, 10*time.Millisecond) {
			return k, errNotMet
		}
	}
	if state != orderAccepted {
		return k, errNotMet
	}
	return k, nil
}

// dialStranger connects the stranger's device with its true credential.
func (r *proof) dialStranger(ctx context.Context) (*loadLink, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1", RootCAs: r.hub.roots}
	d := &loadDevice{credential: r.stranger, tls: secure}
	_, _ = rand.Read(d.boot[:]) // it never fails
	return dialLoad(ctx, &loadRun{hub: "wss://" + r.hub.addr + credential.Path}, d)
}

// usurp says both, and waits for both answers. accepted: the hub has taken the
// row.
func usurp(l *loadLink, command, victim string) (accepted bool, err error) {
	_ = l.ws.SetReadDeadline(time.Now().Add(strangerPatience))
	for _, frame := range []*devicev1.DeviceFrame{
		{Frame: &devicev1.DeviceFrame_CommandUpdate{CommandUpdate: &devicev1.CommandUpdate{
			Id: command, Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: 2, Message: usurperWord,
		}}},
		{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{Seq: 1, Series: []*devicev1.Series{{
			BaseTimeUnixNs: time.Now().UnixNano(),
			Columns:        []*devicev1.Column{{Name: fieldNumber, Ints: []int64{usurperRow}}, {Name: "device", Strings: []string{victim}}},
		}}}}},
	} {
		data, err := proto.Marshal(frame)
		if err != nil {
			return false, err
		}
		if err := l.write(data); err != nil {
			return false, err
		}
	}
	answered, rejected := false, false
	for settled := false; !settled || !answered; {
		frame, err := l.readFrame()
		if err != nil {
			return false, fmt.Errorf("no answer: %w", err)
		}
		switch {
		case frame.GetCommandAck().GetId() == command:
			answered = true
		case frame.GetReject().GetSeq() == 1:
			rejected, settled = true, true
		case frame.GetAck().GetSeq() == 1:
			settled = true
		case frame.GetThrottle().GetResumeSeq() == 1:
			return false, errors.New("the hub takes no rows now")
		}
	}
	return !rejected, nil
}
