package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A payload that is too large is refused in the same way however large it is
// and however it comes, and is in the audit log.
func TestRequestSizeIsBounded(t *testing.T) {
	h := newHub(t)
	h.device("d", "a")
	token := h.token("ann", registry.RoleOperator, "")
	protocols := map[string][]connect.ClientOption{
		"Connect":      nil,
		"Connect JSON": {connect.WithProtoJSON()},
		"gRPC":         {connect.WithGRPC()},
		"gRPC-Web":     {connect.WithGRPCWeb()},
	}
	calls := 0
	for name, options := range protocols {
		for what, gzip := range map[string][]connect.ClientOption{"plain": nil, "gzip": {connect.WithSendGzip()}} {
			c := h.as(token, append(options, gzip...)...)
			for _, size := range []int{17 << 10, 2 << 20} {
				calls++
				what := fmt.Sprintf("%s, %s, %d bytes", name, what, size)
				_, err := c.commands.SendCommand(testContext(t), req(&operatorv1.SendCommandRequest{DeviceId: "d", Spec: &operatorv1.CommandSpec{
					Name: "write", Payload: &operatorv1.CommandSpec_Json{Json: `{"a":"` + strings.Repeat("x", size) + `"}`},
				}}))
				wantCode(t, what, err, connect.CodeInvalidArgument)
				if err == nil || !strings.Contains(err.Error(), "16384") || !strings.Contains(err.Error(), "fetch it") {
					t.Errorf("%s: %v; want the limit, and what to do", what, err)
				}
			}
			if _, err := c.devices.GetDevice(testContext(t), req(&operatorv1.GetDeviceRequest{Id: "d"})); err != nil {
				t.Errorf("%s, %s: the next call: %v", name, what, err)
			}
		}
	}
	records := must(h.as(h.admin).operators.ListAudit(testContext(t), req(&operatorv1.ListAuditRequest{PageSize: 1000})))(t).Msg.GetRecords()
	refused := 0
	for _, r := range records {
		if r.GetOperator() == "ann" && r.GetMethod() == "CommandService/SendCommand" && r.GetOutcome() == "invalid_argument" {
			refused++
		}
		if len(r.GetDetail()) > 100 {
			t.Errorf("record %.200v", r)
		}
	}
	if refused != calls {
		t.Errorf("%d of %d refused calls are in the audit log", refused, calls)
	}
}

// endless counts what is taken of it.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// Nobody has the hub read for as long as he likes, and what cannot be read is
// in the audit log as well.
func TestRequestWithoutEndIsLeft(t *testing.T) {
	h := newHub(t)
	send := func(version int, method string, body io.Reader) (int, string) {
		r := must(http.NewRequestWithContext(testContext(t), http.MethodPost, h.http.URL+"/tetherline.operator.v1.CommandService/"+method, body))(t)
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + h.admin}}
		client := h.http.Client()
		if version == 1 {
			own := client.Transport.(*http.Transport).Clone()
			own.Protocols = new(http.Protocols)
			own.Protocols.SetHTTP1(true)
			own.TLSClientConfig.NextProtos = nil
			defer own.CloseIdleConnections()
			client = &http.Client{Transport: own}
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatalf("HTTP/%d: %v", version, err)
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode, string(must(io.ReadAll(res.Body))(t))
	}
	for _, version := range []int{1, 2} {
		body := new(endless)
		if status, text := send(version, "SendCommand", body); status != http.StatusBadRequest || !strings.Contains(text, "over the limit of 1048576 bytes") {
			t.Errorf("HTTP/%d: %d %s", version, status, text)
		}
		if n := body.taken.Load(); n > 32<<20 {
			t.Errorf("HTTP/%d: %d bytes were taken", version, n)
		}
	}
	if status, _ := send(2, "SendCommand", strings.NewReader("{")); status != http.StatusBadRequest {
		t.Errorf("half a message: %d", status)
	}
	if status, _ := send(2, "GetCommand", strings.NewReader("{")); status != http.StatusBadRequest {
		t.Errorf("half a question: %d", status)
	}
	records := must(h.as(h.admin).operators.ListAudit(testContext(t), req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords()
	var got []string
	for _, r := range records {
		got = append(got, strings.Join([]string{r.GetOperator(), r.GetMethod(), r.GetOutcome(), r.GetDetail()}, "|"))
	}
	want := []string{
		"root|CommandService/SendCommand|invalid_argument|a request that cannot be read",
		"root|CommandService/SendCommand|invalid_argument|a request of over 1048576 bytes",
		"root|CommandService/SendCommand|invalid_argument|a request of over 1048576 bytes",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
