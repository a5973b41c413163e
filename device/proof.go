package device

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// ExporterLabel is the label of the TLS exporter that both proofs cover
// (RFC 9266); its context is absent and its length BindingBytes.
const ExporterLabel = "EXPORTER-Channel-Binding"

// Info strings of HKDF: each key has one use.
const (
	infoDeviceToken  = "device token"
	infoHubToken     = "hub token"
	infoRenewKey     = "renew key"
	infoDeviceSecret = "device secret"
)

// Transcript is what both sides of a handshake have seen. Two peers with the
// same secret and the same transcript accept each other; a difference in any
// field fails both proofs.
type Transcript struct {
	DeviceID    string
	Generation  uint32
	HubNonce    [NonceBytes]byte
	DeviceNonce [NonceBytes]byte
	BootID      [BootIDBytes]byte
	// Binding is the TLS exporter value of BindingBytes bytes, or empty for
	// the binding type none.
	Binding []byte
}

// Append adds the bytes that the proofs cover:
//
//	"tetherline.v1" 0x00
//	len(device id), 1 byte; device id
//	generation, 4 bytes, big endian
//	hub nonce, 32 bytes; device nonce, 32 bytes; boot id, 16 bytes
//	len(binding), 1 byte, 0 or 32; binding
func (t *Transcript) Append(b []byte) []byte {
	b = append(b, Protocol...)
	b = append(b, 0, byte(len(t.DeviceID)))
	b = append(b, t.DeviceID...)
	b = binary.BigEndian.AppendUint32(b, t.Generation)
	b = append(b, t.HubNonce[:]...)
	b = append(b, t.DeviceNonce[:]...)
	b = append(b, t.BootID[:]...)
	b = append(b, byte(len(t.Binding)))
	return append(b, t.Binding...)
}

// DeviceProof is what the device sends in its Hello.
func (s Secret) DeviceProof(t *Transcript) [ProofBytes]byte { return s.prove(infoDeviceToken, t) }

// HubProof is what the hub sends in its Welcome.
func (s Secret) HubProof(t *Transcript) [ProofBytes]byte { return s.prove(infoHubToken, t) }

// VerifyDevice reports in constant time whether proof is the device's.
func (s Secret) VerifyDevice(t *Transcript, proof []byte) bool {
	want := s.DeviceProof(t)
	return hmac.Equal(want[:], proof)
}

// VerifyHub reports in constant time whether proof is the hub's.
func (s Secret) VerifyHub(t *Transcript, proof []byte) bool {
	want := s.HubProof(t)
	return hmac.Equal(want[:], proof)
}

func (s Secret) prove(info string, t *Transcript) [ProofBytes]byte {
	token := derive(s[:], nil, info)
	mac := hmac.New(sha256.New, token[:])
	var buf [256]byte
	mac.Write(t.Append(buf[:0]))
	var proof [ProofBytes]byte
	mac.Sum(proof[:0])
	return proof
}

// derive is 32 bytes of HKDF-SHA256. It cannot fail: the length is within
// what the RFC allows.
func derive(secret, salt []byte, info string) [32]byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		panic("device: hkdf: " + err.Error())
	}
	return [32]byte(key)
}

// MasterKey is the hub's: every device's secret comes from it.
type MasterKey [32]byte

// Secret of a generation of a device's credential.
func (k MasterKey) Secret(id string, generation uint32) Secret {
	info := make([]byte, 0, len(infoDeviceSecret)+MaxIDBytes+6)
	info = append(info, infoDeviceSecret...)
	info = append(info, 0)
	info = append(info, id...)
	info = append(info, 0)
	info = binary.BigEndian.AppendUint32(info, generation)
	return derive(k[:], nil, string(info))
}

// RenewNonceBytes is the length of the nonce of a sealed secret.
const RenewNonceBytes = 12

// ErrBadSeal says that a sealed secret was not made for this connection, this
// device and this generation, or was changed on its way.
var ErrBadSeal = errors.New("renewed credential does not open: it was not sealed by the hub of this connection")

// SealRenewal encrypts the next secret for the device that has proved s in
// the handshake t: AES-256-GCM under HKDF-SHA256(secret s, salt SHA-256 of
// the transcript, info "renew key"), with the device id and the next
// generation (4 bytes, big endian) as additional data. The nonce must be
// fresh and random.
func (s Secret) SealRenewal(t *Transcript, next Secret, generation uint32, nonce [RenewNonceBytes]byte) []byte {
	return s.renewalCipher(t).Seal(nil, nonce[:], next[:], renewalData(t.DeviceID, generation))
}

// OpenRenewal is the reverse of SealRenewal. It returns ErrBadSeal.
func (s Secret) OpenRenewal(t *Transcript, generation uint32, nonce, sealed []byte) (Secret, error) {
	if len(nonce) != RenewNonceBytes {
		return Secret{}, ErrBadSeal
	}
	plain, err := s.renewalCipher(t).Open(nil, nonce, sealed, renewalData(t.DeviceID, generation))
	if err != nil || len(plain) != SecretBytes {
		return Secret{}, ErrBadSeal
	}
	return Secret(plain), nil
}

func (s Secret) renewalCipher(t *Transcript) cipher.AEAD {
	salt := sha256.Sum256(t.Append(nil))
	key := derive(s[:], salt[:], infoRenewKey)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("device: aes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("device: gcm: " + err.Error())
	}
	return aead
}

func renewalData(id string, generation uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(id), generation)
}
