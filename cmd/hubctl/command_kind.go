package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// perhapsGroup makes more of the error that there is no command of an id,
// where it is the id of a group: what is meant then, as "show g-7".
func (a *app) perhapsGroup(ctx context.Context, api *connection.Clients, err error, id, meant string) error {
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	if _, other := call(ctx, a, api.Commands.GetGroup, &operatorv1.GetGroupRequest{Id: id}); other != nil {
		return err
	}
	return exitStatus{exitNotFound, fmt.Errorf("%s is not a command but a group of commands: 'hubctl command %s'; 'hubctl command ls --group %s' lists its commands", id, meant, id)}
}

// perhapsCommand is the same for a group.
func (a *app) perhapsCommand(ctx context.Context, api *connection.Clients, err error, id, meant string) error {
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	res, other := call(ctx, a, api.Commands.GetCommand, &operatorv1.GetCommandRequest{Id: id})
	if other != nil {
		return err
	}
	of := ""
	if group := res.GetCommand().GetGroupId(); group != "" {
		of = ", one of the group " + group
	}
	return exitStatus{exitNotFound, fmt.Errorf("%s is not a group but one command%s: 'hubctl command %s'", id, of, meant)}
}
