package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	tokenPrefix = "tlo1."
	tokenBytes  = 32
)

// tokenHash is what the registry keeps of an operator's token. The token has
// 256 random bits, so its plain SHA-256 tells nothing of it.
type tokenHash [sha256.Size]byte

var errBadToken = errors.New(`an operator token is "tlo1." and 43 letters, digits, '-' or '_'`)

// newToken is a fresh token and its hash.
func newToken() (string, tokenHash) {
	var secret [tokenBytes]byte
	_, _ = rand.Read(secret[:]) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:]), sha256.Sum256(secret[:])
}

// hashToken reads a token. Its error never quotes it.
func hashToken(token string) (tokenHash, error) {
	encoded, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return tokenHash{}, errBadToken
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return tokenHash{}, errBadToken
	}
	return sha256.Sum256(secret), nil
}

// trimToken is the token of a file.
func trimToken(text []byte) string { return strings.TrimSpace(string(text)) }
