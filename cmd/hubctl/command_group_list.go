package main

import (
	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) groupList() *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List groups, the newest first",
		Example: "  hubctl command group ls --limit 10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			return printList(a, a.groupView(), paged(limit, listPage, func(token string, size uint32) ([]commandGroup, string, error) {
				res, err := call(cmd.Context(), a, api.Commands.ListGroups, &operatorv1.ListGroupsRequest{PageSize: size, PageToken: token})
				if err != nil {
					return nil, "", err
				}
				return res.Groups, res.NextPageToken, nil
			}))
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 100, "at most so many; 0: all")
	return cmd
}

func (a *app) groupShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show one group and how its commands stand",
		Example:           "  hubctl command group show nightly-reboot",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.GetGroup, &operatorv1.GetGroupRequest{Id: args[0]})
			if err != nil {
				return a.perhapsCommand(cmd.Context(), api, err, args[0], "show "+args[0])
			}
			return printOne(a, a.groupView(), res.Group)
		},
	}
}

func (a *app) groupCancel() *cobra.Command {
	return &cobra.Command{
		Use:               "cancel ID",
		Short:             "Send no more of a group and cancel what has not ended",
		Example:           "  hubctl command group cancel nightly-reboot",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Commands.CancelGroup, &operatorv1.CancelGroupRequest{Id: args[0]})
			if err != nil {
				return a.perhapsCommand(cmd.Context(), api, err, args[0], "cancel "+args[0])
			}
			return printOne(a, a.groupView(), res.Group)
		},
	}
}
