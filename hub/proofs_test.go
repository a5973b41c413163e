package hub_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// rotate makes the next generation and returns it.
func rotate(t testing.TB, h hubtest.Endpoint, id string, grace *durationpb.Duration) (next device.Credential, handedOver bool) {
	t.Helper()
	answer, err := h.Devices.RotateDevice(t.Context(), connect.NewRequest(&operatorv1.RotateDeviceRequest{Id: id, Grace: grace}))
	if err != nil {
		t.Fatalf("rotate %s: %v", id, err)
	}
	if next, err = device.ParseCredential(answer.Msg.Credential); err != nil {
		t.Fatal(err)
	}
	return next, answer.Msg.HandedOver
}

func enable(t testing.TB, h hubtest.Endpoint, id string, enabled bool) {
	t.Helper()
	_, err := h.Devices.SetDeviceEnabled(t.Context(), connect.NewRequest(&operatorv1.SetDeviceEnabledRequest{Id: id, Enabled: enabled}))
	if err != nil {
		t.Fatalf("enable %s, %v: %v", id, enabled, err)
	}
}

func remove(t testing.TB, h hubtest.Endpoint, id string) {
	t.Helper()
	if _, err := h.Devices.DeleteDevice(t.Context(), connect.NewRequest(&operatorv1.DeleteDeviceRequest{Id: id})); err != nil {
		t.Fatalf("delete %s: %v", id, err)
	}
}

func getDevice(t testing.TB, h hubtest.Endpoint, id string) *operatorv1.Device {
	t.Helper()
	answer, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: id}))
	if err != nil {
		t.Fatalf("get device %s: %v", id, err)
	}
	return answer.Msg.Device
}

// refused is every way to fail the device's proof: the credential to use, and
// what is done to a good Hello.
type refused struct {
	credential device.Credential
	spoil      func(*devicev1.Hello)
}

// From outside there is one refusal, whatever is wrong: the same bytes, the
// same close code, and nothing that an operator of another device could see.
func TestRefusedProofsAreAlikeAndLeaveNoTrace(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	good := h.CreateDevice(t, "good")
	dead := h.CreateDevice(t, "dead")
	rotate(t, h.Endpoint, "dead", durationpb.New(0))
	gone := h.CreateDevice(t, "gone")
	remove(t, h.Endpoint, "gone")
	reborn := h.CreateDevice(t, "reborn")
	remove(t, h.Endpoint, "reborn")
	h.CreateDevice(t, "reborn")
	off := h.CreateDevice(t, "off")
	enable(t, h.Endpoint, "off", false)

	wrong := func(c device.Credential) device.Credential { c.Secret[0] ^= 1; return c }
	future := good
	future.Generation = 9
	unknown := good
	unknown.ID = "nobody"
	first := connectPeer(t, h.Endpoint, good)
	cases := map[string]refused{
		"wrong secret":               {wrong(good), nil},
		"unknown device":             {unknown, nil},
		"dead generation":            {dead, nil},
		"future generation":          {future, nil},
		"deleted device":             {gone, nil},
		"deleted and made again":     {reborn, nil},
		"disabled, and wrong secret": {wrong(off), nil},
		"no channel binding": {good, func(h *devicev1.Hello) {
			h.BindingType = devicev1.BindingType_BINDING_TYPE_NONE
		}},
		"another boot": {good, func(h *devicev1.Hello) { h.BootId[0] ^= 1 }},
	}
	before := metric(t, h.Endpoint, `tetherline_handshakes_total{outcome="unauthorized"}`)
	var last string
	for name, c := range cases {
		p := dialPeer(t, h.Endpoint)
		p.sendHello(c.credential, c.spoil)
		closed := p.wantRefused(name)
		if last != "" && closed.Text != last {
			t.Errorf("%s: reason %q, another had %q", name, closed.Text, last)
		}
		last = closed.Text
	}
	// The Hello of a session that stands is worth nothing on another one.
	p := dialPeer(t, h.Endpoint)
	if err := p.ws.WriteMessage(2, first.hello); err != nil {
		t.Fatal(err)
	}
	if closed := p.wantRefused("replay"); closed.Text != last {
		t.Errorf("replay: reason %q, others had %q", closed.Text, last)
	}
	if n := metric(t, h.Endpoint, `tetherline_handshakes_total{outcome="unauthorized"}`) - before; n != float64(len(cases)+1) {
		t.Errorf("%v refusals are counted; want %d", n, len(cases)+1)
	}
	wantNoTrace(t, h.Endpoint)
}

// wantRefused reads the answer to a Hello: the end, and nothing before it.
func (p *peer) wantRefused(name string) *websocket.CloseError {
	p.t.Helper()
	f, err := p.read()
	var closed *websocket.CloseError
	switch {
	case err == nil:
		p.t.Fatalf("%s: the hub answers with %T; want close 4500", name, f.GetFrame())
	case !errors.As(err, &closed) || closed.Code != 4500:
		p.t.Fatalf("%s: the connection ends with %v; want close 4500", name, err)
	}
	return closed
}

// wantNoTrace: nobody but "good" has ever been seen, and the audit log knows
// of what operators did alone.
func wantNoTrace(t testing.TB, h hubtest.Endpoint) {
	t.Helper()
	answer, err := h.Devices.ListDevices(t.Context(), connect.NewRequest(&operatorv1.ListDevicesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range answer.Msg.Devices {
		if d.Id != "good" && (d.Presence.GetSince() != nil || d.Presence.GetRemoteAddr() != "") {
			t.Errorf("%s was refused, but its presence is %v", d.Id, d.Presence)
		}
	}
	log, err := h.Operators.ListAudit(t.Context(), connect.NewRequest(&operatorv1.ListAuditRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range log.Msg.Records {
		if !strings.HasPrefix(r.Method, "DeviceService/") || strings.Contains(r.String(), "tl1.") || r.Subject == "nobody" {
			t.Errorf("audit record %v", r)
		}
	}
}

// The SDK tells the one who runs the device which of the ends it is, and does
// not come back by itself.
func TestRefusedDeviceStopsWithItsReason(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	wrong := h.CreateDevice(t, "wrong")
	wrong.Secret[5] ^= 1
	disabled := h.CreateDevice(t, "disabled")
	enable(t, h.Endpoint, "disabled", false)
	for want, c := range map[error]device.Credential{client.ErrUnauthorized: wrong, client.ErrDisabled: disabled} {
		cfg := h.Client(c)
		cfg.FlushTimeout = -1
		sdk, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := sdk.Publish(t.Context(), client.Reading(client.Int("n", 1))); err != nil {
			t.Fatal(err)
		}
		if err := sdk.Run(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: Run returns %v; want %v", c.ID, err, want)
		}
		if st := sdk.Stats(); st.FramesSent != 0 || st.Sessions != 0 || st.Attempts != 1 {
			t.Errorf("%s: %+v; want one attempt and nothing sent", c.ID, st)
		}
		if n := h.Count(t, c.ID); n != 0 {
			t.Errorf("%s: %d rows are stored", c.ID, n)
		}
	}
}

// A hub with another master key has the same device id, but not its token: it
// refuses the device, and where it does not, the device refuses it. No reading
// ends there and no command is obeyed, though its certificate is trusted.
func TestAnotherHubGetsNothing(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	home, other := hubtest.Start(t, hubtest.Config(t)), hubtest.Start(t, cfg)
	c := home.CreateDevice(t, "dev-1")
	theirs := other.CreateDevice(t, "dev-1")
	honest := other.Client(c)
	certificate := issueCertificate(t, stealCA(t, cfg.Data), time.Hour)
	credulous := func(proof func([]byte) []byte) client.Config {
		cfg := other.Client(c)
		cfg.URL = startCredulous(t, certificate, theirs.Secret, proof)
		return cfg
	}
	itsOwn := credulous(func(proof []byte) []byte { return proof })
	for name, tt := range map[string]struct {
		hub  client.Config
		want error
	}{
		"it asks for the proof":                       {honest, client.ErrUnauthorized},
		"it believes any proof":                       {itsOwn, client.ErrHubProof},
		"it believes any proof, and gives none":       {credulous(func([]byte) []byte { return nil }), client.ErrHubProof},
		"it believes any proof, and gives half a one": {credulous(func(proof []byte) []byte { return proof[:16] }), client.ErrHubProof},
	} {
		sdk, errs, switched := wary(t, tt.hub)
		awaitDoubt(t, name, sdk, errs, tt.want)
		if st := sdk.Stats(); st.FramesSent != 0 || st.RowsAcked != 0 || st.Sessions != 0 || len(switched) != 0 {
			t.Errorf("%s: %+v, %d commands obeyed", name, st, len(switched))
		}
	}
	if got := status(t, other.Endpoint).RowsAcknowledged; got != 0 {
		t.Errorf("%d rows ended at the other hub", got)
	}
	// It is the proof that the device does not believe: its own device would.
	mine := other.Client(theirs)
	mine.URL = itsOwn.URL
	sdk, _, _ := wary(t, mine)
	hubtest.Eventually(t, "the other hub's own device is online there", func() bool { return sdk.Stats().Sessions > 0 })
}

// startCredulous is the handshake of a hub that welcomes any device, with what
// proof makes of the proof of its own secret for it, and then sends a command.
func startCredulous(t *testing.T, certificate tls.Certificate, secret device.Secret, proof func([]byte) []byte) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{Subprotocols: []string{device.Protocol}}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		_ = ws.SetReadDeadline(time.Now().Add(hubtest.Patience))
		send := func(f *devicev1.HubFrame) {
			b, _ := proto.Marshal(f)
			_ = ws.WriteMessage(websocket.BinaryMessage, b)
		}
		var nonce [device.NonceBytes]byte
		send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Challenge{Challenge: &devicev1.Challenge{HubNonce: nonce[:], Protocol: device.Protocol}}})
		_, b, err := ws.ReadMessage()
		f := new(devicev1.DeviceFrame)
		if err != nil || proto.Unmarshal(b, f) != nil || f.GetHello() == nil {
			return
		}
		state := ws.NetConn().(*tls.Conn).ConnectionState()
		binding, err := state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
		if err != nil {
			return
		}
		hello := f.GetHello()
		transcript := device.Transcript{DeviceID: hello.DeviceId, Generation: hello.Generation, Binding: binding}
		copy(transcript.BootID[:], hello.BootId)
		copy(transcript.DeviceNonce[:], hello.DeviceNonce)
		own := secret.HubProof(&transcript)
		send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{
			HubProof: proof(own[:]), HeartbeatIntervalS: 25, WindowFrames: 64, WindowBytes: 1 << 20, MaxFrameBytes: 64 << 10,
		}}})
		send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: &devicev1.Command{Id: "c-1", Name: "switch", Attempt: 1}}})
		_, _, _ = ws.ReadMessage() // whatever it says then
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return "wss://" + server.Listener.Addr().String() + device.Path
}
