package api_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
)

const whoAmI = "/tetherline.operator.v1.OperatorService/WhoAmI"

func TestOneCallInEveryProtocol(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for name, options := range map[string][]connect.ClientOption{
		"Connect":      nil,
		"Connect JSON": {connect.WithProtoJSON()},
		"gRPC":         {connect.WithGRPC()},
		"gRPC-Web":     {connect.WithGRPCWeb()},
	} {
		who := must(h.as(h.admin, options...).operators.WhoAmI(ctx, req(&operatorv1.WhoAmIRequest{})))(t).Msg.GetOperator()
		if who.GetName() != "root" || who.GetRole() != operatorv1.Role_ROLE_ADMIN {
			t.Errorf("%s: %v", name, who)
		}
		_, err := h.as("tlo1.x", options...).operators.WhoAmI(ctx, req(&operatorv1.WhoAmIRequest{}))
		wantCode(t, name+" with a wrong token", err, connect.CodeUnauthenticated)
		_, err = h.as(h.admin, options...).devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "none"}))
		wantCode(t, name+" for an unknown device", err, connect.CodeNotFound)
	}
	res := h.post(t, whoAmI, h.admin, "{}")
	if body := bodyOf(t, res); res.StatusCode != http.StatusOK || !strings.Contains(body, `"name":"root"`) {
		t.Errorf("plain JSON: %d %s", res.StatusCode, body)
	}
	res = h.post(t, whoAmI, "", "{}")
	if body := bodyOf(t, res); res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `"code":"unauthenticated"`) {
		t.Errorf("plain JSON without a token: %d %s", res.StatusCode, body)
	}
}

func TestWrongTokensAreLimitedByAddress(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	h := newHub(t, func(d *api.Deps) {
		d.ClientAddr = func(r *http.Request) netip.Addr {
			if r.Header.Get("X-Other") != "" {
				return netip.MustParseAddr("192.0.2.2")
			}
			return addr
		}
	})
	wrong := "tlo1." + strings.Repeat("B", 42) + "A"
	for i := range 10 {
		if res := h.post(t, whoAmI, wrong, "{}"); res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("wrong token %d: %d", i, res.StatusCode)
		}
	}
	res := h.post(t, whoAmI, wrong, "{}")
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("after the budget: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if res := h.post(t, whoAmI, h.admin, "{}"); res.StatusCode != http.StatusOK {
		t.Errorf("the right token from that address: %d", res.StatusCode)
	}
	other := must(http.NewRequestWithContext(testContext(t), http.MethodPost, h.http.URL+whoAmI, strings.NewReader("{}")))(t)
	other.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + wrong}, "X-Other": {"1"}}
	if res := h.do(t, other); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong token from another address: %d", res.StatusCode)
	}
}

func TestOrigins(t *testing.T) {
	const friend = "https://panel.example"
	h := newHub(t, func(d *api.Deps) { d.AllowedOrigins = []string{friend} })
	send := func(method, origin string) *http.Response {
		r := must(http.NewRequestWithContext(testContext(t), method, h.http.URL+whoAmI, strings.NewReader("{}")))(t)
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + h.admin}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		return h.do(t, r)
	}
	for origin, want := range map[string]int{
		"": 200, h.http.URL: 200, friend: 200,
		"https://evil.example": 403, "null": 403, friend + ".evil.example": 403, "http://panel.example": 403,
		strings.Replace(h.http.URL, "https", "http", 1): 403,
	} {
		res := send(http.MethodPost, origin)
		if res.StatusCode != want {
			t.Errorf("origin %q: %d, want %d", origin, res.StatusCode, want)
		}
		allowed := res.Header.Get("Access-Control-Allow-Origin")
		if (allowed != "") != (origin == friend) || allowed == "*" || res.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("origin %q is allowed as %q", origin, allowed)
		}
	}
	if res := send(http.MethodOptions, friend); res.StatusCode != http.StatusNoContent ||
		!strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight of a friend: %d", res.StatusCode)
	}
	if res := send(http.MethodOptions, "https://evil.example"); res.StatusCode != http.StatusForbidden {
		t.Errorf("preflight of another: %d", res.StatusCode)
	}
}

// failing is a store whose errors and panics must stay inside the hub.
type failing struct{ telemetry.Reader }

func (failing) Latest(context.Context, string, string) ([]telemetry.Latest, error) {
	return nil, fmt.Errorf("dial tcp 10.0.0.7:8086: secret inside")
}

func (failing) Fields(context.Context, string) ([]telemetry.FieldInfo, error) { panic("secret inside") }

func TestInnerErrorsStayInside(t *testing.T) {
	var log bytes.Buffer
	h := newHub(t, func(d *api.Deps) {
		d.Reader = failing{d.Reader}
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	h.device("d", "north")
	c, ctx := h.as(h.admin), testContext(t)
	for name, err := range map[string]error{
		"error": fail(c.telemetry.Latest(ctx, req(&operatorv1.LatestRequest{DeviceId: "d"}))),
		"panic": fail(c.telemetry.ListFields(ctx, req(&operatorv1.ListFieldsRequest{DeviceId: "d"}))),
	} {
		wantCode(t, name, err, connect.CodeInternal)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the caller is told %v", name, err)
		}
		reference := err.Error()[strings.LastIndex(err.Error(), " ")+1:]
		if len(reference) != 12 || !strings.Contains(log.String(), reference) {
			t.Errorf("%s: the log does not have the reference %q", name, reference)
		}
	}
	if !strings.Contains(log.String(), "10.0.0.7") {
		t.Error("the log does not have the error")
	}
	if strings.Contains(log.String(), h.admin) {
		t.Error("the log has a token")
	}
	wantCode(t, "GetDevice still works", fail(c.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "x"}))), connect.CodeNotFound)
}

func TestAuditLog(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	admin, viewer := h.as(h.admin), h.as(h.token("eve", registry.RoleViewer, ""))
	made := must(admin.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "d", Labels: map[string]string{"site": "a"}}})))(t).Msg
	_ = fail(admin.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "d"}})))
	_ = fail(viewer.devices.DeleteDevice(ctx, req(&operatorv1.DeleteDeviceRequest{Id: "d"})))
	must(admin.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{Id: "d", Set: map[string]string{"row": "7"}, Remove: []string{"site"}})))(t)
	must(admin.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "d"})))(t)
	bob := must(admin.operators.CreateOperator(ctx, req(&operatorv1.CreateOperatorRequest{Name: "bob", Role: operatorv1.Role_ROLE_VIEWER, Selector: "site=a"})))(t).Msg
	must(admin.devices.CreateDevices(ctx, req(&operatorv1.CreateDevicesRequest{Devices: []*operatorv1.NewDevice{{Id: "e"}, {Id: "d"}}})))(t)

	page := must(admin.operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{PageSize: 4})))(t).Msg
	rest := must(admin.operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{PageSize: 4, PageToken: page.GetNextPageToken()})))(t).Msg
	var got []string
	for _, r := range append(page.GetRecords(), rest.GetRecords()...) {
		got = append(got, strings.Join([]string{r.GetOperator(), r.GetMethod(), r.GetSubject(), r.GetOutcome(), r.GetDetail()}, "|"))
		if r.GetRemoteAddr() != "127.0.0.1" || r.GetTime() == nil {
			t.Errorf("record %v", r)
		}
	}
	want := []string{
		"root|DeviceService/CreateDevices|2 devices|ok|created=1 refused=1: e",
		`root|OperatorService/CreateOperator|bob|ok|role=viewer selector="site=a"`,
		`root|DeviceService/LabelDevice|d|ok|row="7" -site`,
		"eve|DeviceService/DeleteDevice|d|permission_denied|",
		`root|DeviceService/CreateDevice|d|already_exists|`,
		`root|DeviceService/CreateDevice|d|ok|site="a"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || rest.GetNextPageToken() != "" {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all := fmt.Sprint(page, rest)
	for _, secret := range []string{h.admin, bob.GetToken(), made.GetCredential()} {
		if strings.Contains(all, secret[6:]) {
			t.Error("the audit log has a secret")
		}
	}
	_, err := admin.operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{PageSize: 1001}))
	wantCode(t, "page size", err, connect.CodeInvalidArgument)
	_, err = admin.operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{PageToken: "AAAA"}))
	wantCode(t, "page token", err, connect.CodeInvalidArgument)
}

func TestOperatorsByAPI(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin).operators, testContext(t)
	_, err := c.DeleteOperator(ctx, req(&operatorv1.DeleteOperatorRequest{Name: "root"}))
	wantCode(t, "the last admin", err, connect.CodeFailedPrecondition)
	second := must(c.CreateOperator(ctx, req(&operatorv1.CreateOperatorRequest{Name: "second", Role: operatorv1.Role_ROLE_ADMIN})))(t).Msg
	list := must(h.as(second.GetToken()).operators.ListOperators(ctx, req(&operatorv1.ListOperatorsRequest{})))(t).Msg.GetOperators()
	if len(list) != 2 || list[0].GetName() != "root" || list[1].GetRole() != operatorv1.Role_ROLE_ADMIN {
		t.Errorf("operators %v", list)
	}
	// An admin may go by its own hand: the answer still comes.
	must(c.DeleteOperator(ctx, req(&operatorv1.DeleteOperatorRequest{Name: "root"})))(t)
	_, err = c.WhoAmI(ctx, req(&operatorv1.WhoAmIRequest{}))
	wantCode(t, "its token afterwards", err, connect.CodeUnauthenticated)
	for name, m := range map[string]*operatorv1.CreateOperatorRequest{
		"role": {Name: "x"}, "name": {Name: "x y", Role: operatorv1.Role_ROLE_VIEWER},
		"selector": {Name: "x", Role: operatorv1.Role_ROLE_VIEWER, Selector: "=a"},
	} {
		_, err := h.as(second.GetToken()).operators.CreateOperator(ctx, req(m))
		wantCode(t, name, err, connect.CodeInvalidArgument)
	}
}
