package api_test

import (
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A group is that of the operator who has sent it, and not of a later one of
// that name.
func TestANamesakeHasNotTheGroups(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	group := req(&operatorv1.SendGroupCommandRequest{Key: "k", Selector: "site=a", Spec: &operatorv1.CommandSpec{Name: "identify"}})
	first := h.as(h.token("ann", registry.RoleOperator, "site=a")).commands
	id := must(first.SendGroupCommand(ctx, group))(t).Msg.GetGroup().GetId()
	if err := h.registry.DeleteOperator(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	second := h.as(h.token("ann", registry.RoleOperator, "site=a")).commands
	wantCode(t, "get", fail(second.GetGroup(ctx, req(&operatorv1.GetGroupRequest{Id: id}))), connect.CodeNotFound)
	wantCode(t, "cancel", fail(second.CancelGroup(ctx, req(&operatorv1.CancelGroupRequest{Id: id}))), connect.CodeNotFound)
	if list := must(second.ListGroups(ctx, req(&operatorv1.ListGroupsRequest{})))(t).Msg.GetGroups(); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
	if g := must(h.as(h.admin).commands.GetGroup(ctx, req(&operatorv1.GetGroupRequest{Id: id})))(t).Msg.GetGroup(); g.GetOperator() != "ann" {
		t.Errorf("the admin sees %v", g)
	}
	// The same key is another group's.
	own := must(second.SendGroupCommand(ctx, req(group.Msg)))(t).Msg
	if own.GetExisted() || own.GetGroup().GetId() == id {
		t.Errorf("sent by the later operator: %v", own)
	}
	list := must(second.ListGroups(ctx, req(&operatorv1.ListGroupsRequest{})))(t).Msg.GetGroups()
	if len(list) != 1 || list[0].GetId() != own.GetGroup().GetId() {
		t.Errorf("listed: %v", list)
	}
}
