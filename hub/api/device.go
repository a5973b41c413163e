package api

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// deviceService implements operatorv1connect.DeviceServiceHandler. Watching
// presence is in presence.go.
type deviceService struct{ *Server }

// cancelTimeout bounds the end of a deleted device's commands.
const cancelTimeout = 10 * time.Second

// maxCreate is the most devices of one CreateDevices.
const maxCreate = 1000

func (s *deviceService) CreateDevice(ctx context.Context, req *connect.Request[operatorv1.CreateDeviceRequest]) (*connect.Response[operatorv1.CreateDeviceResponse], error) {
	asked := req.Msg.GetDevice()
	if asked == nil {
		return nil, fmt.Errorf("%w: device is missing", errBadRequest)
	}
	n, err := s.newDevice(ctx, asked)
	if err != nil {
		return nil, err
	}
	d, err := s.deps.Registry.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	credential, err := s.credential(d)
	if err != nil {
		return nil, err
	}
	hubURL, caPEM := s.deps.Endpoint()
	return connect.NewResponse(&operatorv1.CreateDeviceResponse{
		Device: s.deviceProto(d), Credential: credential.Encode(), HubUrl: hubURL, CaPem: caPEM,
	}), nil
}

func (s *deviceService) CreateDevices(ctx context.Context, req *connect.Request[operatorv1.CreateDevicesRequest]) (*connect.Response[operatorv1.CreateDevicesResponse], error) {
	asked := req.Msg.GetDevices()
	if len(asked) == 0 || len(asked) > maxCreate {
		return nil, fmt.Errorf("%w: 1 to %d devices a call, not %d", errBadRequest, maxCreate, len(asked))
	}
	hubURL, caPEM := s.deps.Endpoint()
	res := &operatorv1.CreateDevicesResponse{HubUrl: hubURL, CaPem: caPEM, Outcomes: make([]*operatorv1.CreateDevicesResponse_Outcome, len(asked))}
	var (
		wanted []registry.NewDevice
		places []int // of wanted in the request
	)
	for i, a := range asked {
		res.Outcomes[i] = &operatorv1.CreateDevicesResponse_Outcome{Id: clip(a.GetId(), device.MaxIDBytes)}
		n, err := s.newDevice(ctx, a)
		if err != nil {
			s.refuseCreation(res.Outcomes[i], err, req.Spec().Procedure)
			continue
		}
		wanted, places = append(wanted, n), append(places, i)
	}
	var made []string
	for k, created := range s.deps.Registry.CreateMany(ctx, wanted) {
		outcome := res.Outcomes[places[k]]
		err := created.Err
		if err == nil {
			var credential device.Credential
			if credential, err = s.credential(created.Device); err == nil {
				outcome.Credential = credential.Encode()
				made = append(made, created.Device.ID)
				continue
			}
		}
		s.refuseCreation(outcome, err, req.Spec().Procedure)
	}
	callOf(ctx).note(fmt.Sprintf("created=%d refused=%d: %s", len(made), len(asked)-len(made), strings.Join(made, " ")))
	return connect.NewResponse(res), nil
}

func (s *deviceService) refuseCreation(outcome *operatorv1.CreateDevicesResponse_Outcome, err error, procedure string) {
	outcome.Error = s.answer(err, procedure).Message()
}

// newDevice checks that the caller may make such a device.
func (s *deviceService) newDevice(ctx context.Context, asked *operatorv1.NewDevice) (registry.NewDevice, error) {
	if !scope(ctx).Match(asked.GetLabels()) {
		return registry.NewDevice{}, errOutOfScope
	}
	if _, exists := s.deps.Registry.Get(asked.GetId()); !exists {
		// What was accepted while an earlier device of that id was deleted.
		if err := s.cancelCommands(ctx, asked.GetId(), ""); err != nil {
			return registry.NewDevice{}, err
		}
	}
	return registry.NewDevice{
		ID: asked.GetId(), Labels: asked.GetLabels(), Note: asked.GetNote(),
		AllowUnbound: asked.GetAllowUnbound(), KeyID: s.deps.Keyring.ActiveID(),
	}, nil
}

// credential of the newest generation.
func (s *deviceService) credential(d *registry.Device) (device.Credential, error) {
	secret, ok := s.deps.Keyring.Secret(d.KeyID, d.ID, d.Generation)
	if !ok {
		return device.Credential{}, fmt.Errorf("the keyring has no key %s, which device %s was made with", d.KeyID, d.ID)
	}
	return device.Credential{ID: d.ID, Generation: d.Generation, Secret: secret}, nil
}

func (s *deviceService) GetDevice(ctx context.Context, req *connect.Request[operatorv1.GetDeviceRequest]) (*connect.Response[operatorv1.GetDeviceResponse], error) {
	d, err := s.visible(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.GetDeviceResponse{Device: s.deviceProto(d)}), nil
}

func (s *deviceService) ListDevices(ctx context.Context, req *connect.Request[operatorv1.ListDevicesRequest]) (*connect.Response[operatorv1.ListDevicesResponse], error) {
	m := req.Msg
	selector, err := selectorIn(ctx, m.GetSelector())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(m.GetPageSize(), defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	online := "any"
	if m.Online != nil {
		online = fmt.Sprint(m.GetOnline())
	}
	q := newQuestion(ctx, "devices", selector.String(), m.GetIdPrefix(), online)
	after, err := q.place(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	devices, total := s.page(selector, m, after, size+1)
	res := &operatorv1.ListDevicesResponse{Total: uint32(total)}
	if len(devices) > size {
		devices = devices[:size]
		res.NextPageToken = q.token(devices[size-1].ID)
	}
	for _, d := range devices {
		res.Devices = append(res.Devices, s.deviceProto(d))
	}
	return connect.NewResponse(res), nil
}

// page is up to limit devices after an id, and how many there are in all.
func (s *deviceService) page(selector registry.Selector, m *operatorv1.ListDevicesRequest, after string, limit int) (devices []*registry.Device, total int) {
	if m.Online == nil {
		return s.deps.Registry.List(selector, m.GetIdPrefix(), after, limit)
	}
	for d := range s.deps.Registry.All(selector, m.GetIdPrefix()) {
		if s.deps.Live.Presence(d.ID).Online != m.GetOnline() {
			continue
		}
		total++
		if len(devices) < limit && d.ID > after {
			devices = append(devices, d)
		}
	}
	return devices, total
}

func (s *deviceService) LabelDevice(ctx context.Context, req *connect.Request[operatorv1.LabelDeviceRequest]) (*connect.Response[operatorv1.LabelDeviceResponse], error) {
	set, remove := req.Msg.GetSet(), req.Msg.GetRemove()
	for _, key := range remove {
		if _, both := set[key]; both {
			return nil, fmt.Errorf("%w: label %.80q is both set and removed", errBadRequest, key)
		}
		if err := registry.CheckLabelKey(key); err != nil {
			return nil, err
		}
	}
	d, err := s.update(ctx, req.Msg.GetId(), func(d *registry.Device) error {
		if d.Labels == nil {
			d.Labels = make(map[string]string, len(set))
		}
		for _, key := range remove {
			delete(d.Labels, key)
		}
		maps.Copy(d.Labels, set)
		return registry.CheckLabels(d.Labels)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.LabelDeviceResponse{Device: s.deviceProto(d)}), nil
}

func (s *deviceService) SetDeviceEnabled(ctx context.Context, req *connect.Request[operatorv1.SetDeviceEnabledRequest]) (*connect.Response[operatorv1.SetDeviceEnabledResponse], error) {
	d, err := s.update(ctx, req.Msg.GetId(), func(d *registry.Device) error {
		disabled := !req.Msg.GetEnabled()
		if disabled && d.Disabled {
			return nil // whoever did it first
		}
		d.Disabled, d.DisabledBy, d.DisabledSince = disabled, "", time.Time{}
		if disabled {
			d.DisabledBy, d.DisabledSince = callOf(ctx).operator.Name, time.Now().UTC()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.SetDeviceEnabledResponse{Device: s.deviceProto(d)}), nil
}

func (s *deviceService) RotateDevice(ctx context.Context, req *connect.Request[operatorv1.RotateDeviceRequest]) (*connect.Response[operatorv1.RotateDeviceResponse], error) {
	grace := s.deps.Registry.Grace()
	if asked := req.Msg.GetGrace(); asked != nil {
		if err := asked.CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: grace: %w", errBadRequest, err)
		}
		grace = asked.AsDuration()
	}
	connected := s.deps.Live.Presence(req.Msg.GetId()).Online
	d, err := s.update(ctx, req.Msg.GetId(), func(d *registry.Device) error {
		if d.Kind == registry.KindMQTT {
			return errBridged
		}
		return d.Rotate(s.deps.Keyring.ActiveID(), grace, time.Now())
	})
	if err != nil {
		return nil, err
	}
	credential, err := s.credential(d)
	if err != nil {
		return nil, err
	}
	hubURL, caPEM := s.deps.Endpoint()
	return connect.NewResponse(&operatorv1.RotateDeviceResponse{
		Device: s.deviceProto(d), Credential: credential.Encode(), HubUrl: hubURL, CaPem: caPEM,
		HandedOver: s.handOver(d, credential, grace) || connected && grace > 0 && !d.Disabled,
	}), nil
}

// handOver gives a connected device its new credential in-band. A session, on
// whichever node, has done so itself when it heard of the change, and may be
// gone by now to come back with it. Without grace the old credential is taken
// for known to others, who could open what is sealed under it: then the new
// one goes by the operator's hand alone.
func (s *deviceService) handOver(d *registry.Device, credential device.Credential, grace time.Duration) bool {
	return grace > 0 && !d.Disabled && s.deps.Live.Renew(d.ID, credential.Generation, credential.Secret)
}

func (s *deviceService) DeleteDevice(ctx context.Context, req *connect.Request[operatorv1.DeleteDeviceRequest]) (*connect.Response[operatorv1.DeleteDeviceResponse], error) {
	id := req.Msg.GetId()
	if _, err := s.visible(ctx, id); err != nil {
		return nil, err
	}
	bound := scope(ctx)
	err := s.deps.Registry.DeleteIf(ctx, id, func(d *registry.Device) error {
		if !bound.Match(d.Labels) {
			return noDevice(id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.cancelCommands(ctx, id, callOf(ctx).operator.Name); err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.DeleteDeviceResponse{}), nil
}

// cancelCommands ends the commands of a device that is not there any more: a
// later device of the same id must not be told what was meant for that one.
// by is the operator who has removed it, "" where that is not known. It goes on
// where the caller has gone.
func (s *deviceService) cancelCommands(ctx context.Context, id, by string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	if _, err := s.deps.Commands.CancelDevice(ctx, id, by); err != nil {
		return fmt.Errorf("device %s is not registered, but its commands are not all canceled: %w", id, err)
	}
	return nil
}
