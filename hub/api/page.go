package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
)

// A page token is base64url of a version, a digest of the question and the
// caller's scope, and the place to go on from. With another question it is
// refused; a forged one reaches nothing that the list itself would not show.

const (
	pageVersion  = 1
	pageDigest   = 8
	maxPageToken = 4 << 10
)

// question is what a page token belongs to.
type question [pageDigest]byte

// newQuestion digests everything that makes a list what it is.
func newQuestion(ctx context.Context, parts ...any) question {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q", scope(ctx).String())
	for _, part := range parts {
		_, _ = fmt.Fprintf(h, "|%q", fmt.Sprint(part))
	}
	return question(h.Sum(nil)[:pageDigest])
}

// token for going on at place; none for the empty place, which is the end.
func (q question) token(place string) string {
	if place == "" {
		return ""
	}
	b := append([]byte{pageVersion}, q[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, place...))
}

// place of a token; "" for the first page. It returns errBadPage.
func (q question) place(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	if len(token) > maxPageToken {
		return "", errBadPage
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= 1+pageDigest || b[0] != pageVersion || question(b[1:1+pageDigest]) != q {
		return "", errBadPage
	}
	return string(b[1+pageDigest:]), nil
}

// number is the place of a list that is counted; 0 for the first page.
func (q question) number(token string) (uint64, error) {
	place, err := q.place(token)
	if err != nil || place == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(place, 10, 64)
	if err != nil || n == 0 {
		return 0, errBadPage
	}
	return n, nil
}

// numberToken is token for a list that is counted; 0 is the end.
func (q question) numberToken(n uint64) string {
	if n == 0 {
		return ""
	}
	return q.token(strconv.FormatUint(n, 10))
}

// pageSize checks the size of a page; 0 is the default.
func pageSize(size, byDefault, most uint32) (int, error) {
	if size > most {
		return 0, fmt.Errorf("%w: page_size is 1 to %d, or 0 for %d; not %d", errBadRequest, most, byDefault, size)
	}
	if size == 0 {
		size = byDefault
	}
	return int(size), nil
}

// Sizes of pages of devices, operators' records and quarantined rows.
const (
	defaultPage = 100
	maxPage     = 1000
)
