package device

import (
	"bytes"
	"errors"
	"testing"
)

func exampleTranscript() *Transcript {
	t := &Transcript{DeviceID: "pump-7_A", Generation: 42, Binding: make([]byte, BindingBytes)}
	for i := range t.HubNonce {
		t.HubNonce[i], t.DeviceNonce[i], t.Binding[i] = 0x10, 0x20, 0x40
	}
	for i := range t.BootID {
		t.BootID[i] = 0x30
	}
	return t
}

func TestProofsHoldForOneTranscriptOneSecretOneDirection(t *testing.T) {
	s := exampleCredential().Secret
	base := exampleTranscript()
	device, hub := s.DeviceProof(base), s.HubProof(base)
	if !s.VerifyDevice(base, device[:]) || !s.VerifyHub(base, hub[:]) {
		t.Fatal("true proofs are refused")
	}
	if s.VerifyDevice(base, hub[:]) || s.VerifyHub(base, device[:]) {
		t.Fatal("a proof can be sent back")
	}
	other := exampleMaster().Secret("pump-7_A", 43)
	if other.VerifyDevice(base, device[:]) || other.VerifyHub(base, hub[:]) {
		t.Fatal("another secret is accepted")
	}
	for name, change := range map[string]func(*Transcript){
		"device id":    func(t *Transcript) { t.DeviceID = "pump-7_B" },
		"generation":   func(t *Transcript) { t.Generation++ },
		"hub nonce":    func(t *Transcript) { t.HubNonce[31]++ },
		"device nonce": func(t *Transcript) { t.DeviceNonce[0]++ },
		"boot id":      func(t *Transcript) { t.BootID[15]++ },
		"binding":      func(t *Transcript) { t.Binding[31]++ },
		"no binding":   func(t *Transcript) { t.Binding = nil },
	} {
		changed := exampleTranscript()
		change(changed)
		if s.VerifyDevice(changed, device[:]) || s.VerifyHub(changed, hub[:]) {
			t.Errorf("%s: another transcript is accepted", name)
		}
	}
	for _, proof := range [][]byte{nil, {}, device[:31], append(device[:], 0)} {
		if s.VerifyDevice(base, proof) {
			t.Errorf("a proof of %d bytes is accepted", len(proof))
		}
	}
}

// No two transcripts have the same bytes: the parts cannot be shifted.
func TestTranscriptIsUnambiguous(t *testing.T) {
	a, b := exampleTranscript(), exampleTranscript()
	a.DeviceID, b.DeviceID = "ab", "a"
	if bytes.Equal(a.Append(nil), b.Append(nil)) || bytes.HasPrefix(a.Append(nil), b.Append(nil)) {
		t.Fatal("two device ids, one transcript")
	}
	want := len(Protocol) + 1 + 1 + 2 + 4 + 32 + 32 + 16 + 1 + 32
	if got := len(a.Append(nil)); got != want {
		t.Fatalf("%d bytes, want %d", got, want)
	}
}

func TestMasterKeySeparatesDevicesAndGenerations(t *testing.T) {
	k := exampleMaster()
	seen := map[Secret]string{}
	for _, id := range []string{"a", "b", "ab", "a\x00b"} {
		for _, generation := range []uint32{1, 2, 256, 1 << 24} {
			s := k.Secret(id, generation)
			if before, twice := seen[s]; twice {
				t.Errorf("%q %d has the secret of %s", id, generation, before)
			}
			seen[s] = id
		}
	}
	k[0]++
	if _, twice := seen[k.Secret("a", 1)]; twice {
		t.Error("another master key, the same secret")
	}
}

func TestRenewalOpensOnlyWhereItWasMeant(t *testing.T) {
	s, next := exampleCredential().Secret, exampleMaster().Secret("pump-7_A", 43)
	tr := exampleTranscript()
	nonce := [RenewNonceBytes]byte{1, 2, 3}
	sealed := s.SealRenewal(tr, next, 43, nonce)
	if got, err := s.OpenRenewal(tr, 43, nonce[:], sealed); err != nil || got != next {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, next[:8]) {
		t.Fatal("the secret is not encrypted")
	}
	changed := func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c }
	other := exampleTranscript()
	other.DeviceNonce[0]++
	for name, err := range map[string]error{
		"another secret":     second(next.OpenRenewal(tr, 43, nonce[:], sealed)),
		"another connection": second(s.OpenRenewal(other, 43, nonce[:], sealed)),
		"another generation": second(s.OpenRenewal(tr, 44, nonce[:], sealed)),
		"changed":            second(s.OpenRenewal(tr, 43, nonce[:], changed(sealed))),
		"another nonce":      second(s.OpenRenewal(tr, 43, changed(nonce[:]), sealed)),
		"short nonce":        second(s.OpenRenewal(tr, 43, nonce[:11], sealed)),
		"short":              second(s.OpenRenewal(tr, 43, nonce[:], sealed[:47])),
		"empty":              second(s.OpenRenewal(tr, 43, nonce[:], nil)),
	} {
		if !errors.Is(err, ErrBadSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ Secret, err error) error { return err }

func BenchmarkDeviceProof(b *testing.B) {
	s, t := exampleCredential().Secret, exampleTranscript()
	b.ReportAllocs()
	for b.Loop() {
		s.DeviceProof(t)
	}
}
