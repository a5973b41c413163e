package connection

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

const (
	dialTimeout = 10 * time.Second
	// maxMessage bounds one answer: 10,000 rows of a page stay far below it.
	maxMessage = 64 << 20
	// A stream may be silent for hours; pings find a hub that has gone.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
)

// Clients are the services of one hub. Their methods may run at once.
type Clients struct {
	Devices    operatorv1connect.DeviceServiceClient
	Telemetry  operatorv1connect.TelemetryServiceClient
	Commands   operatorv1connect.CommandServiceClient
	Quarantine operatorv1connect.QuarantineServiceClient
	Operators  operatorv1connect.OperatorServiceClient
	Bridge     operatorv1connect.BridgeServiceClient
	Hub        operatorv1connect.HubServiceClient

	transport *http.Transport
}

// Open prepares the clients; it does not connect yet. userAgent names the
// program to the hub.
func Open(s Settings, userAgent string) (*Clients, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(s.CA) {
			return nil, fmt.Errorf("%w: no PEM certificate in the CA of %s", ErrSettings, s.CAFrom)
		}
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	client := &http.Client{
		Transport: transport,
		// A redirect could lead the token elsewhere; the API has none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	opts := []connect.ClientOption{
		connect.WithInterceptors(&identity{token: s.Token, userAgent: userAgent}),
		connect.WithReadMaxBytes(maxMessage),
	}
	return &Clients{
		Devices:    operatorv1connect.NewDeviceServiceClient(client, s.Hub, opts...),
		Telemetry:  operatorv1connect.NewTelemetryServiceClient(client, s.Hub, opts...),
		Commands:   operatorv1connect.NewCommandServiceClient(client, s.Hub, opts...),
		Quarantine: operatorv1connect.NewQuarantineServiceClient(client, s.Hub, opts...),
		Operators:  operatorv1connect.NewOperatorServiceClient(client, s.Hub, opts...),
		Bridge:     operatorv1connect.NewBridgeServiceClient(client, s.Hub, opts...),
		Hub:        operatorv1connect.NewHubServiceClient(client, s.Hub, opts...),
		transport:  transport,
	}, nil
}

// Close ends idle connections; calls must have returned.
func (c *Clients) Close() { c.transport.CloseIdleConnections() }

// identity adds to each call who is asking.
type identity struct{ token, userAgent string }

func (i *identity) set(h http.Header) {
	if i.token != "" {
		h.Set("Authorization", "Bearer "+i.token)
	}
	h.Set("User-Agent", i.userAgent)
}

func (i *identity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		i.set(req.Header())
		return next(ctx, req)
	}
}

func (i *identity) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		i.set(conn.RequestHeader())
		return conn
	}
}

func (i *identity) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
