package device

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors are worked bytes for those who write a client in another language.
// Everything but text is hexadecimal.
type vectors struct {
	Comment          string `json:"comment"`
	MasterKey        string `json:"master_key"`
	DeviceID         string `json:"device_id"`
	Generation       uint32 `json:"generation"`
	Secret           string `json:"secret"`
	Credential       string `json:"credential"`
	HubNonce         string `json:"hub_nonce"`
	DeviceNonce      string `json:"device_nonce"`
	BootID           string `json:"boot_id"`
	ServerTimeUnixNs uint64 `json:"server_time_unix_ns"`
	DeviceToken      string `json:"device_token"`
	HubToken         string `json:"hub_token"`

	Bound   handshakeVector `json:"bound_to_tls"`
	Unbound handshakeVector `json:"unbound"`
	Renewal renewalVector   `json:"renewal"`
	Frames  frameVectors    `json:"frames"`
}

type handshakeVector struct {
	Binding     string `json:"binding"`
	Transcript  string `json:"transcript"`
	DeviceProof string `json:"device_proof"`
	HubProof    string `json:"hub_proof"`
	Challenge   string `json:"challenge_frame"`
	Hello       string `json:"hello_frame"`
	Welcome     string `json:"welcome_frame"`
}

type renewalVector struct {
	Comment    string `json:"comment"`
	Generation uint32 `json:"generation"`
	NextSecret string `json:"next_secret"`
	Credential string `json:"next_credential"`
	Key        string `json:"key"`
	Data       string `json:"additional_data"`
	Nonce      string `json:"nonce"`
	Sealed     string `json:"sealed_secret"`
	Frame      string `json:"renew_frame"`
}

type frameVectors struct {
	Telemetry     string `json:"telemetry"`
	TelemetryText string `json:"telemetry_means"`
	Simple        string `json:"telemetry_simple"`
	SimpleText    string `json:"telemetry_simple_means"`
	Ack           string `json:"ack"`
	Reject        string `json:"reject"`
	RejectText    string `json:"reject_means"`
	Throttle      string `json:"throttle"`
	ThrottleText  string `json:"throttle_means"`

	Describe       string `json:"describe"`
	DescribeText   string `json:"describe_means"`
	DescribeDigest string `json:"describe_digest"`

	Command       string `json:"command"`
	CommandText   string `json:"command_means"`
	Delivered     string `json:"command_update_delivered"`
	Running       string `json:"command_update_running"`
	RunningText   string `json:"command_update_running_means"`
	Succeeded     string `json:"command_update_succeeded"`
	SucceededText string `json:"command_update_succeeded_means"`
	Failed        string `json:"command_update_failed"`
	FailedText    string `json:"command_update_failed_means"`
	Rejected      string `json:"command_update_rejected"`
	RejectedText  string `json:"command_update_rejected_means"`
	CommandCancel string `json:"command_cancel"`
	Canceled      string `json:"command_update_canceled"`
	CanceledText  string `json:"command_update_canceled_means"`
	CommandAck    string `json:"command_ack"`
}

const vectorTime = 1_800_000_000_000_000_000

func buildVectors(t *testing.T) vectors {
	t.Helper()
	c, tr := exampleCredential(), exampleTranscript()
	master := exampleMaster()
	v := vectors{
		Comment:   "Made by `go test ./device -update`. Everything but text is hexadecimal; frames are whole WebSocket messages.",
		MasterKey: hex.EncodeToString(master[:]), DeviceID: c.ID, Generation: c.Generation,
		Secret: hex.EncodeToString(c.Secret[:]), Credential: c.Encode(),
		HubNonce: hex.EncodeToString(tr.HubNonce[:]), DeviceNonce: hex.EncodeToString(tr.DeviceNonce[:]),
		BootID: hex.EncodeToString(tr.BootID[:]), ServerTimeUnixNs: vectorTime,
		DeviceToken: hex.EncodeToString(hkdf32(t, c.Secret[:], nil, "device token")),
		HubToken:    hex.EncodeToString(hkdf32(t, c.Secret[:], nil, "hub token")),
	}
	v.Bound = handshakeOf(t, c, tr, devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER)
	unbound := exampleTranscript()
	unbound.Binding = nil
	v.Unbound = handshakeOf(t, c, unbound, devicev1.BindingType_BINDING_TYPE_NONE)
	v.Renewal = renewalOf(t, c, tr, master)
	v.Frames = frameVectors{
		Telemetry:     telemetryFrame(t),
		Simple:        simpleFrame(t),
		SimpleText:    "seq 1; default measurement; one row at T=1800000000: temperature (float) 21.5; dropped_rows 3",
		TelemetryText: "seq 7; default measurement; 3 rows at T, T+1s, T+2.5s with T=1800000000; temperature 21.5 21.625 21.75; open (int) 1 in row 1 alone",
		Ack:           frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Ack{Ack: &devicev1.Ack{Seq: 7}}}),
		Reject: frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Reject{Reject: &devicev1.Reject{
			Seq: 8, Code: devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE, Detail: "time of row 0", ServerTimeUnixNs: vectorTime}}}),
		RejectText: `seq 8; time out of range; detail "time of row 0"; the hub's clock T`,
		Throttle: frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Throttle{Throttle: &devicev1.Throttle{
			PauseMs: 1500, ResumeSeq: 9}}}),
		ThrottleText: "send nothing for 1500 ms, then again from seq 9",
	}
	v.Frames.addDescribe(t)
	v.Frames.addCommands(t)
	return v
}

// addDescribe adds a description, and the digest of its message: of the frame
// without its first two bytes, tag and length.
func (f *frameVectors) addDescribe(t *testing.T) {
	t.Helper()
	d := &devicev1.Describe{
		Firmware: "example 1.0",
		Fields:   []*devicev1.FieldDescription{{Name: "temperature", Unit: "Cel", Kind: devicev1.Kind_KIND_FLOAT}},
		Commands: []*devicev1.CommandDescription{{Name: "set-relay", Arguments: []*devicev1.ArgumentDescription{
			{Name: "on", Kind: devicev1.Kind_KIND_BOOL, Required: true}}}},
	}
	f.Describe = frameHex(t, &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Describe{Describe: d}})
	f.DescribeText = "firmware example 1.0; field temperature in Cel, float; command set-relay with the argument on, bool, required"
	message, err := hex.DecodeString(f.Describe)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message[2:])
	f.DescribeDigest = hex.EncodeToString(digest[:])
}

// addCommands adds the frames of one command, in the order of its life, and
// those of others.
func (f *frameVectors) addCommands(t *testing.T) {
	t.Helper()
	const id = "0198c1d2-7a3b-7c4d-8e5f-0123456789ab"
	update := func(u *devicev1.CommandUpdate) string {
		u.Id = id
		return frameHex(t, &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_CommandUpdate{CommandUpdate: u}})
	}
	f.Command = frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Command{Command: &devicev1.Command{
		Id: id, Name: "set-relay", Payload: &devicev1.Command_Json{Json: `{"on":true}`}, TimeoutMs: 30_000, Attempt: 1}}})
	f.CommandText = `id ` + id + `; set-relay {"on":true}; timeout 30 s; attempt 1`
	f.Delivered = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_DELIVERED})
	f.Running = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_RUNNING, ProgressPercent: 40, Message: "closing"})
	f.RunningText = `40 percent; message "closing"`
	f.Succeeded = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: &devicev1.CommandUpdate_Json{Json: `{"was":false}`}})
	f.SucceededText = `result {"was":false}`
	f.Failed = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: 10, Message: "interrupted by a restart"})
	f.FailedText = `code 10; message "interrupted by a restart"`
	f.Rejected = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_REJECTED, Code: 12, Message: "no such command"})
	f.RejectedText = `code 12; message "no such command"`
	f.CommandCancel = frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_CommandCancel{CommandCancel: &devicev1.CommandCancel{Id: id}}})
	f.Canceled = update(&devicev1.CommandUpdate{Phase: devicev1.CommandPhase_COMMAND_PHASE_CANCELED, Message: "it had not begun"})
	f.CanceledText = `message "it had not begun"`
	f.CommandAck = frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_CommandAck{CommandAck: &devicev1.CommandAck{Id: id}}})
}

func handshakeOf(t *testing.T, c Credential, tr *Transcript, binding devicev1.BindingType) handshakeVector {
	t.Helper()
	device, hub := c.Secret.DeviceProof(tr), c.Secret.HubProof(tr)
	return handshakeVector{
		Binding: hex.EncodeToString(tr.Binding), Transcript: hex.EncodeToString(tr.Append(nil)),
		DeviceProof: hex.EncodeToString(device[:]), HubProof: hex.EncodeToString(hub[:]),
		Challenge: frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Challenge{Challenge: &devicev1.Challenge{
			HubNonce: tr.HubNonce[:], ServerTimeUnixNs: vectorTime, Protocol: Protocol}}}),
		Hello: frameHex(t, &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: &devicev1.Hello{
			DeviceId: c.ID, Generation: c.Generation, DeviceNonce: tr.DeviceNonce[:], BindingType: binding,
			DeviceProof: device[:], BootId: tr.BootID[:], Firmware: "example 1.0", HeartbeatWishS: 60}}}),
		Welcome: frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Welcome{Welcome: &devicev1.Welcome{
			HubProof: hub[:], ServerTimeUnixNs: vectorTime, SessionEpoch: 9, HeartbeatIntervalS: 60,
			WindowFrames: 32, WindowBytes: 256 << 10, MaxFrameBytes: 64 << 10, LastSeq: 6}}}),
	}
}

func renewalOf(t *testing.T, c Credential, tr *Transcript, master MasterKey) renewalVector {
	t.Helper()
	next := Credential{ID: c.ID, Generation: 43, Secret: master.Secret(c.ID, 43)}
	nonce := [RenewNonceBytes]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	sealed := c.Secret.SealRenewal(tr, next.Secret, 43, nonce)
	salt := sha256.Sum256(tr.Append(nil))
	return renewalVector{
		Comment:    "on the connection bound_to_tls",
		Generation: 43, NextSecret: hex.EncodeToString(next.Secret[:]), Credential: next.Encode(),
		Key:  hex.EncodeToString(hkdf32(t, c.Secret[:], salt[:], "renew key")),
		Data: hex.EncodeToString([]byte(c.ID + "\x00\x00\x00\x2b")), Nonce: hex.EncodeToString(nonce[:]),
		Sealed: hex.EncodeToString(sealed),
		Frame: frameHex(t, &devicev1.HubFrame{Frame: &devicev1.HubFrame_Renew{Renew: &devicev1.Renew{
			Generation: 43, Nonce: nonce[:], SealedSecret: sealed}}}),
	}
}

func telemetryFrame(t *testing.T) string {
	t.Helper()
	return frameHex(t, &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{
		Seq: 7,
		Series: []*devicev1.Series{{
			BaseTimeUnixNs: vectorTime,
			TimeDeltaNs:    []int64{0, 1_000_000_000, 1_500_000_000},
			Columns: []*devicev1.Column{
				{Name: "temperature", Doubles: []float64{21.5, 21.625, 21.75}},
				{Name: "open", Ints: []int64{1}, Rows: []uint32{1}},
			},
		}},
	}}})
}

func simpleFrame(t *testing.T) string {
	t.Helper()
	return frameHex(t, &devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Telemetry{Telemetry: &devicev1.Telemetry{
		Seq: 1,
		Series: []*devicev1.Series{{
			BaseTimeUnixNs: vectorTime,
			Columns:        []*devicev1.Column{{Name: "temperature", Floats: []float32{21.5}}},
		}},
		DroppedRows: 3,
	}}})
}

func frameHex(t *testing.T, m proto.Message) string {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(data)
}

func hkdf32(t *testing.T, secret, salt []byte, info string) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const vectorsPath = "testdata/vectors.json"

func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(buildVectors(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorsPath, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the protocol has changed: devices in the field would be locked out. If that is meant, run with -update and raise the version")
	}
}

// The proofs follow from the tokens and the transcript by the standards alone.
func TestVectorsFollowFromTheStandards(t *testing.T) {
	v := buildVectors(t)
	for _, h := range []handshakeVector{v.Bound, v.Unbound} {
		for token, want := range map[string]string{v.DeviceToken: h.DeviceProof, v.HubToken: h.HubProof} {
			key, _ := hex.DecodeString(token)
			transcript, _ := hex.DecodeString(h.Transcript)
			mac := hmac.New(sha256.New, key)
			mac.Write(transcript)
			if got := hex.EncodeToString(mac.Sum(nil)); got != want {
				t.Errorf("HMAC of the transcript is %s, the proof %s", got, want)
			}
		}
	}
}
