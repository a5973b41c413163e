package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// said runs the program and returns what it wrote to stdout and stderr.
func said(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(context.Background(), args, &out, &errs); got != status {
		t.Fatalf("%v: exit status %d, want %d: %s", args, got, status, &errs)
	}
	return out.String(), errs.String()
}

func TestVersionAndFlagsAreInWords(t *testing.T) {
	if out, _ := said(t, 0, "--version"); !strings.HasPrefix(out, "firmware-sim version ") {
		t.Errorf("--version prints %q", out)
	}
	_, errs := said(t, 1, "fleet", "--devices", "many")
	if !strings.Contains(errs, `--devices takes a whole number, not "many"`) || strings.Contains(errs, "strconv") {
		t.Errorf("stderr: %s", errs)
	}
	if _, errs = said(t, 1, "load", "--for", "soon"); !strings.Contains(errs, "--for takes a duration") {
		t.Errorf("stderr: %s", errs)
	}
}

// A certificate that is not trusted is a matter of --ca, and nothing was done
// that could be summed up.
func TestUntrustedCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the client breaks off
	server.StartTLS()
	defer server.Close()
	stranger := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(stranger, ownCA(t), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TETHERLINE_CA", "")
	for _, args := range [][]string{{"fleet", "--for", "1s"}, {"load", "--for", "1s"}} {
		args = append(args, "--hub", server.URL, "--token", "t", "--devices", "1")
		out, errs := said(t, 1, args...)
		if !strings.Contains(errs, "--ca hub-data/ca.pem") || out != "" {
			t.Errorf("%v: stdout %q, stderr %q", args, out, errs)
		}
		if _, errs = said(t, 1, append(args, "--ca", stranger)...); !strings.Contains(errs, "is it the ca.pem of this hub?") {
			t.Errorf("%v with another CA: %q", args, errs)
		}
	}
}

// ownCA is a certificate that has signed nothing.
func ownCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// A 0 is not silently something else, and what nobody can send is refused.
func TestNumbersThatAreNone(t *testing.T) {
	for want, args := range map[string][]string{
		"--commands 0 is none: leave it out for 5":       {"prove", "--commands", "0"},
		"--for 0 is none":                                {"prove", "--for", "0s"},
		"--rows-per-frame 0 is none: leave it out for 1": {"load", "--start", "--rows-per-frame", "0"},
		"a rate is up to 5000000 rows":                   {"load", "--start", "--rate", "1e300", "--for", "1s"},
		"1000000 frames a second":                        {"load", "--start", "--rate", "2e6", "--for", "1s"},
	} {
		if _, errs := said(t, 1, args...); !strings.Contains(errs, want) {
			t.Errorf("%v: %q; want %q", args, errs, want)
		}
	}
}
