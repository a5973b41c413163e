package api_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// methods of the proto, as paths.
func methods() map[string]protoreflect.MethodDescriptor {
	all := make(map[string]protoreflect.MethodDescriptor)
	services := operatorv1.File_operator_v1_operator_proto.Services()
	for i := range services.Len() {
		service := services.Get(i)
		for k := range service.Methods().Len() {
			m := service.Methods().Get(k)
			all["/"+string(service.FullName())+"/"+string(m.Name())] = m
		}
	}
	return all
}

// The table has every method of every service and nothing else, and treats
// streams as streams and changes as changes.
func TestAccessTableCoversTheProto(t *testing.T) {
	table, all := api.AccessTable(), methods()
	for path, m := range all {
		rule, ok := table[path]
		if !ok {
			t.Errorf("%s is not in the table", path)
			continue
		}
		if rule.Role < registry.RoleViewer || rule.Role > registry.RoleAdmin {
			t.Errorf("%s: role %v", path, rule.Role)
		}
		if m.IsStreamingServer() != (rule.Timeout == 0) {
			t.Errorf("%s: streaming %v, time limit %v", path, m.IsStreamingServer(), rule.Timeout)
		}
		if m.IsStreamingClient() {
			t.Errorf("%s streams from the client: the guard does not know that", path)
		}
		name := string(m.Name())
		reads := false
		for _, prefix := range []string{"Get", "List", "Watch", "Latest", "Query", "Count", "WhoAmI"} {
			reads = reads || strings.HasPrefix(name, prefix)
		}
		if rule.Audited == reads {
			t.Errorf("%s: audited %v", path, rule.Audited)
		}
		if rule.Audited && rule.Role < registry.RoleOperator {
			t.Errorf("%s changes something, and a viewer may call it", path)
		}
	}
	for path := range table {
		if all[path] == nil {
			t.Errorf("%s is in the table but not in the proto", path)
		}
	}
}

// Every method that is served, with every role: by the words of the proto's
// comments.
func TestRolesByMethod(t *testing.T) {
	h := newHub(t)
	viewer, operator, admin := h.token("v", registry.RoleViewer, ""), h.token("o", registry.RoleOperator, ""), h.admin
	boundAdmin := h.token("b", registry.RoleAdmin, "site=north")
	minimum := func(path string) registry.Role {
		switch m := path[strings.LastIndex(path, "/")+1:]; m {
		case "DropQuarantine", "CreateOperator", "ListOperators", "DeleteOperator", "ListAudit", "SampleBroker":
			return registry.RoleAdmin
		case "CreateDevice", "CreateDevices", "LabelDevice", "SetDeviceEnabled", "RotateDevice", "DeleteDevice",
			"ReplayQuarantine", "SendCommand", "SendGroupCommand", "CancelCommand", "CancelGroup", "AllowGear":
			return registry.RoleOperator
		}
		return registry.RoleViewer
	}
	for path, m := range methods() {
		if m.IsStreamingServer() {
			continue
		}
		for _, c := range []struct {
			token string
			role  registry.Role
		}{{"", 0}, {viewer, registry.RoleViewer}, {operator, registry.RoleOperator}, {admin, registry.RoleAdmin}} {
			status := h.post(t, path, c.token, "{}").StatusCode
			switch {
			case c.token == "":
				if status != http.StatusUnauthorized {
					t.Errorf("%s without a token: %d", path, status)
				}
			case c.role < minimum(path):
				if status != http.StatusForbidden {
					t.Errorf("%s as %v: %d, want 403", path, c.role, status)
				}
			case status == http.StatusForbidden || status == http.StatusUnauthorized || status >= 500:
				t.Errorf("%s as %v: %d", path, c.role, status)
			}
		}
		manages := strings.Contains(path, "OperatorService") && !strings.HasSuffix(path, "WhoAmI") || strings.HasSuffix(path, "AllowGear")
		if got := h.post(t, path, boundAdmin, "{}").StatusCode == http.StatusForbidden; got != manages {
			t.Errorf("%s as an admin bound to a selector is forbidden: %v", path, got)
		}
	}
}

// post calls a method as curl would.
func (h *hub) post(t testing.TB, path, token, body string) *http.Response {
	t.Helper()
	r := must(http.NewRequestWithContext(testContext(t), http.MethodPost, h.http.URL+path, strings.NewReader(body)))(t)
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return h.do(t, r)
}

func (h *hub) do(t testing.TB, r *http.Request) *http.Response {
	t.Helper()
	res := must(h.http.Client().Do(r))(t)
	body := must(io.ReadAll(res.Body))(t)
	_ = res.Body.Close()
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	return res
}

func bodyOf(t testing.TB, res *http.Response) string {
	t.Helper()
	return string(must(io.ReadAll(res.Body))(t))
}

// Streams are refused like calls.
func TestStreamsNeedAToken(t *testing.T) {
	h := newHub(t)
	for _, token := range []string{"", "tlo1." + strings.Repeat("A", 43)} {
		c := h.as(token)
		presence, err := c.devices.WatchPresence(context.Background(), req(&operatorv1.WatchPresenceRequest{}))
		if err == nil {
			presence.Receive()
			err = presence.Err()
			_ = presence.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "unauthenticated") {
			t.Errorf("WatchPresence: %v", err)
		}
		rows, err := c.telemetry.WatchRows(context.Background(), req(&operatorv1.WatchRowsRequest{}))
		if err == nil {
			rows.Receive()
			err = rows.Err()
			_ = rows.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "unauthenticated") {
			t.Errorf("WatchRows: %v", err)
		}
	}
}
