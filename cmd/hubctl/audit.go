package main

import (
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type auditRecord = *operatorv1.AuditRecord

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "See who changed what", "  hubctl audit ls --limit 20", a.auditList())
}

func (a *app) auditList() *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List changes by operators, the newest first",
		Example: "  hubctl audit ls\n  hubctl audit ls --limit 0 -o csv > audit.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			return printList(a, a.auditView(), paged(limit, listPage, func(token string, size uint32) ([]auditRecord, string, error) {
				res, err := call(cmd.Context(), a, api.Operators.ListAudit, &operatorv1.ListAuditRequest{PageSize: size, PageToken: token})
				if err != nil {
					return nil, "", err
				}
				return res.Records, res.NextPageToken, nil
			}))
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 100, "at most so many; 0: all")
	return cmd
}

func (a *app) auditView() view[auditRecord] {
	columns := func(when func(auditRecord) string, names ...string) []output.Column[auditRecord] {
		return []output.Column[auditRecord]{
			{Name: names[0], Cell: when},
			{Name: names[1], Cell: auditRecord.GetOperator},
			{Name: names[2], Cell: auditRecord.GetMethod},
			{Name: names[3], Cell: auditRecord.GetSubject},
			{Name: names[4], Cell: auditRecord.GetOutcome},
			{Name: names[5], Cell: auditRecord.GetRemoteAddr},
			{Name: names[6], Cell: auditRecord.GetDetail},
		}
	}
	return view[auditRecord]{
		table: columns(func(r auditRecord) string { return humanTime(r.Time, a.zone()) },
			"TIME", "OPERATOR", "METHOD", "SUBJECT", "OUTCOME", "FROM", "DETAIL"),
		csv: columns(func(r auditRecord) string { return machineTime(r.Time) },
			"time", "operator", "method", "subject", "outcome", "remote_addr", "detail"),
		none: "No changes yet.",
	}
}
