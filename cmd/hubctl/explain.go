package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
)

// badRequest is what a TLS port answers to plain HTTP; answers of a hub have
// words of their own.
const badRequest = "400 Bad Request"

// explain turns an error into words that say what to do, and an exit code.
func (a *app) explain(err error) (string, int) {
	if errors.Is(err, connection.ErrSettings) {
		return err.Error(), exitUsage
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err.Error(), exitError
	}
	if !connect.IsWireError(err) {
		if text := a.explainNetwork(err); text != "" {
			return text, exitUnreachable
		}
	}
	if lostAnswer(err) {
		return fmt.Sprintf("the answer of %s broke off (%s)", a.settings.Hub, ce.Message()), exitUnreachable
	}
	if https, ok := strings.CutPrefix(a.settings.Hub, "http://"); ok && ce.Code() == connect.CodeInternal && ce.Message() == badRequest {
		return fmt.Sprintf("%s answers %s, as a port that speaks TLS does: use https://%s", a.settings.Hub, badRequest, https), exitUnreachable
	}
	switch ce.Code() {
	case connect.CodeInvalidArgument:
		return fmt.Sprintf("%s (%s)", ce.Message(), ce.Code()), exitUsage
	case connect.CodeUnauthenticated:
		return a.explainToken(ce.Message()), exitUnauthorized
	case connect.CodePermissionDenied:
		return fmt.Sprintf("%s; the token of %s may not do this ('hubctl operator whoami' shows its role, an admin can make another with 'hubctl operator create')",
			ce.Message(), orNone(a.settings.TokenFrom)), exitUnauthorized
	case connect.CodeNotFound:
		return withHint(ce.Message(), a.notFoundHint()), exitNotFound
	case connect.CodeUnimplemented:
		return fmt.Sprintf("%s does not know this call (%s): is it a Tetherline hub, and not an older one than this hubctl?", a.settings.Hub, ce.Message()), exitError
	case connect.CodeDeadlineExceeded:
		if connect.IsWireError(err) {
			return fmt.Sprintf("the hub at %s did not come to an end in time (%s): what it stores in may be away or slow, 'hubctl status' shows that", a.settings.Hub, ce.Message()), exitUnreachable
		}
		return fmt.Sprintf("no answer from %s within %s (--request-timeout)", a.settings.Hub, a.timeout), exitUnreachable
	case connect.CodeUnavailable:
		return fmt.Sprintf("the hub at %s is not available now: %s", a.settings.Hub, ce.Message()), exitUnreachable
	case connect.CodeAlreadyExists:
		return withHint(ce.Message(), a.existsHint()), exitError
	}
	return fmt.Sprintf("%s (%s)", ce.Message(), ce.Code()), exitError
}

func (a *app) explainToken(said string) string {
	where := "the hub writes the first one to admin.token in its data folder (--data DIR, or --token @DIR/admin.token); an admin makes more with 'hubctl operator create'"
	if a.settings.TokenFrom == "" {
		return "no token was given: " + where
	}
	return fmt.Sprintf("%s does not accept the token of %s (%s): %s", a.settings.Hub, a.settings.TokenFrom, said, where)
}

// explainNetwork is empty where the error is not one of the way to the hub.
func (a *app) explainNetwork(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		op        *net.OpError
		timeout   net.Error
	)
	hub := a.settings.Hub
	switch {
	case errors.As(err, &authority):
		if a.settings.CAFrom != "" {
			return fmt.Sprintf("the certificate of %s is not signed by the CA of %s: is that the ca.pem of this hub?", hub, a.settings.CAFrom)
		}
		return fmt.Sprintf("the certificate of %s is signed by an authority that this machine does not know: pass --ca FILE with the hub's ca.pem (it is in its data folder), or set TETHERLINE_CA", hub)
	case errors.As(err, &hostname):
		return fmt.Sprintf("the certificate of %s is for other names (%s): use one of these, or have the hub name this one", hub, hostname.Error())
	case errors.As(err, &invalid):
		return fmt.Sprintf("the certificate of %s is not valid: %s", hub, invalid.Error())
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s does not speak TLS: is it the right port?", a.settings.Address())
	case errors.As(err, &dns):
		return fmt.Sprintf("cannot find the host of %s: %s", hub, dns.Error())
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s: is hubd running there ('hubd serve --data DIR'), and is %s the right address (--hub, TETHERLINE_HUB)?", a.settings.Address(), hub)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer from %s within %s (--request-timeout): is it reachable from here?", a.settings.Address(), a.timeout)
	case errors.As(err, &op):
		return fmt.Sprintf("cannot reach %s: %s", a.settings.Address(), op.Error())
	}
	return ""
}

// notFoundHint depends on what was asked for.
func (a *app) notFoundHint() string {
	switch topic := strings.Fields(a.path + " x x")[1]; topic {
	case "device", "telemetry":
		return "'hubctl device ls' lists the devices"
	case "command":
		return "'hubctl command ls' lists the commands, 'hubctl device ls' the devices"
	case "quarantine":
		return "'hubctl quarantine ls' lists the rows"
	case "bridge":
		return "'hubctl bridge ls' lists the brokers, 'hubctl bridge gear' what is behind them"
	case "operator":
		return "'hubctl operator ls' lists the operators"
	}
	return ""
}

func (a *app) existsHint() string {
	if a.path == "hubctl device create" {
		return "'hubctl device rotate ID' gives it a new credential"
	}
	return ""
}

func withHint(text, hint string) string {
	if hint == "" {
		return text
	}
	return text + "; " + hint
}

func orNone(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

// neverSent holds for errors from before the request left this machine.
func neverSent(err error) bool {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &cert) || errors.As(err, &record)
}
