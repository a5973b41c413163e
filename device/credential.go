package device

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Secret is what a device and its hub share. It formats and logs as
// "[redacted]".
type Secret [SecretBytes]byte

// String hides the secret.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[redacted]" }

// Format hides the secret from every fmt verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Credential is what a device is given to know its hub and be known by it.
// Its text form, Encode, is secret as a whole; formatting it shows the id and
// the generation only.
type Credential struct {
	ID         string
	Generation uint32 // from 1; grows with every rotation
	Secret     Secret
}

// ErrBadCredential says that a string is no credential. Errors that wrap it
// never quote the string.
var ErrBadCredential = errors.New(`a credential is "tl1.<device-id>.<generation>.<secret>", as printed when the device was created`)

const (
	credentialPrefix = "tl1"
	// Four parts; the longest id, generation and secret.
	maxCredentialBytes = len(credentialPrefix) + MaxIDBytes + 10 + 43 + 3
)

// ParseCredential reads the text form. White space around it is ignored.
func ParseCredential(s string) (Credential, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxCredentialBytes {
		return Credential{}, fmt.Errorf("too long: %w", ErrBadCredential)
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return Credential{}, fmt.Errorf("%d parts instead of 4: %w", len(parts), ErrBadCredential)
	}
	if parts[0] != credentialPrefix {
		return Credential{}, fmt.Errorf("does not begin with %q: %w", credentialPrefix, ErrBadCredential)
	}
	if !validID(parts[1]) {
		return Credential{}, fmt.Errorf("bad device id: %w", ErrBadCredential)
	}
	generation, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil || generation == 0 || parts[2][0] < '1' || parts[2][0] > '9' {
		return Credential{}, fmt.Errorf("bad generation: %w", ErrBadCredential)
	}
	// The length is checked too because the decoder skips line breaks.
	secret, err := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err != nil || len(secret) != SecretBytes || len(parts[3]) != base64.RawURLEncoding.EncodedLen(SecretBytes) {
		return Credential{}, fmt.Errorf("bad secret: %w", ErrBadCredential)
	}
	return Credential{ID: parts[1], Generation: uint32(generation), Secret: Secret(secret)}, nil
}

// Encode is the text form: "tl1.<id>.<generation>.<secret, base64url without
// padding>".
func (c Credential) Encode() string {
	return credentialPrefix + "." + c.ID + "." + strconv.FormatUint(uint64(c.Generation), 10) +
		"." + base64.RawURLEncoding.EncodeToString(c.Secret[:])
}

// String names the credential without its secret.
func (c Credential) String() string {
	return fmt.Sprintf("%s.%s.%d.[redacted]", credentialPrefix, c.ID, c.Generation)
}

// LogValue names the credential without its secret.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }
