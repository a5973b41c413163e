package hub_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/hubtest"
)

// brokerTrip is a device behind Mosquitto that answers requests, and an
// operator who makes them: QoS 1 on every leg.
type brokerTrip struct {
	operator mqtt.Client
	answers  chan struct{}
}

func newBrokerTrip(b *testing.B) *brokerTrip {
	addr, roots := startMosquitto(b)
	t := &brokerTrip{answers: make(chan struct{}, 1)}
	device := dialBroker(b, addr, roots, "device")
	t.operator = dialBroker(b, addr, roots, "operator")
	finish(b, device.Subscribe("cmnd/bench/set-relay", 1, func(c mqtt.Client, m mqtt.Message) {
		c.Publish("stat/bench/set-relay", 1, false, m.Payload())
	}))
	finish(b, t.operator.Subscribe("stat/bench/set-relay", 1, func(mqtt.Client, mqtt.Message) { t.answers <- struct{}{} }))
	return t
}

func (t *brokerTrip) trip(b *testing.B) time.Duration {
	began := time.Now()
	t.operator.Publish("cmnd/bench/set-relay", 1, false, `{"on":true}`)
	select {
	case <-t.answers:
		return time.Since(began)
	case <-time.After(hubtest.Patience):
		b.Fatal("no answer through mosquitto")
		return 0
	}
}

func dialBroker(b *testing.B, addr string, roots *x509.CertPool, id string) mqtt.Client {
	b.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + addr).SetClientID(id).
		SetTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}).SetOrderMatters(false))
	hubtest.Eventually(b, "mosquitto takes connections", func() bool {
		token := c.Connect()
		return token.WaitTimeout(hubtest.Patience) && token.Error() == nil
	})
	b.Cleanup(func() { c.Disconnect(100) })
	return c
}

func finish(b *testing.B, token mqtt.Token) {
	b.Helper()
	if !token.WaitTimeout(hubtest.Patience) || token.Error() != nil {
		b.Fatalf("mqtt: %v", token.Error())
	}
}

// startMosquitto runs the broker with TLS on loopback until the benchmark
// ends, without its own delay of small packets.
func startMosquitto(b *testing.B) (addr string, roots *x509.CertPool) {
	b.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			b.Fatal("mosquitto is not installed: deploy/test-deps bench does that where it may, and says how where not")
		}
	}
	dir := b.TempDir()
	ca := makeCA(b)
	certFile, keyFile, config := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "mosquitto.conf")
	writePair(b, issueCertificate(b, ca, time.Hour), certFile, keyFile)
	addr = hubtest.FreeAddr(b)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		b.Fatal(err)
	}
	writeFile(b, config, fmt.Appendf(nil, `listener %s 127.0.0.1
certfile %s
keyfile %s
allow_anonymous true
set_tcp_nodelay true
persistence false
log_type none
user root
`, port, certFile, keyFile))
	cmd := exec.Command(path, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatalf("start mosquitto: %v", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	roots = x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	return addr, roots
}
