package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
	"unsafe"
)

// bufferBytes is what the input buffers of t hold.
func bufferBytes(t *tls.Conn) int {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t), tlsRawInput)).Cap() +
		(*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t), tlsHand)).Cap()
}

// trim frees what a handshake and a large record have left, and what comes
// afterwards comes whole. It fails where a Go release has changed what trim
// relies on: look at crypto/tls/conn.go then.
func TestTrimFreesTheInputOfTLS(t *testing.T) {
	if tlsRawInput == 0 || tlsInput == 0 || tlsHand == 0 {
		t.Fatalf("tls.Conn has other fields: rawInput at %d, input at %d, hand at %d", tlsRawInput, tlsInput, tlsHand)
	}
	client, server := tlsPair(t)
	if n := bufferBytes(server); n < 1<<10 {
		t.Fatalf("after the handshake the buffers hold %d bytes: nothing is there to be freed any more", n)
	}
	trim(server)
	if n := bufferBytes(server); n != 0 {
		t.Fatalf("buffers hold %d bytes after trim; want none", n)
	}
	sent := make([]byte, 100<<10)
	_, _ = rand.Read(sent)
	for round := range 3 {
		go func() { _, _ = client.Write(sent) }()
		got := make([]byte, len(sent))
		// Between two reads, in the middle of a record, nothing may be lost.
		for n := 0; n < len(got); {
			k, err := server.Read(got[n:min(n+1000, len(got))])
			if err != nil {
				t.Fatal(err)
			}
			n += k
			trim(server)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("round %d: what was read is not what was sent", round)
		}
		if n := bufferBytes(server); n != 0 {
			t.Fatalf("buffers hold %d bytes after trim; want none", n)
		}
	}
	if _, err := server.Write(sent[:10]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

// tlsPair is both ends of a TLS connection, after the handshake.
func tlsPair(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	client = tls.Client(dialled, &tls.Config{InsecureSkipVerify: true})
	server = tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	t.Cleanup(func() { _ = dialled.Close(); _ = accepted.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return client, server
}
