package main

import (
	"slices"
	"strings"

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
	type col = output.Column[auditRecord]
	return view[auditRecord]{
		table: []col{
			{Name: "TIME", Cell: func(r auditRecord) string { return secondTime(r.Time, a.zone()) }, Whole: true},
			{Name: "OPERATOR", Cell: auditRecord.GetOperator},
			{Name: "METHOD", Cell: func(r auditRecord) string { return r.Method[strings.LastIndexByte(r.Method, '/')+1:] }, Whole: true},
			{Name: "SUBJECT", Cell: auditRecord.GetSubject},
			{Name: "OUTCOME", Cell: auditRecord.GetOutcome},
			{Name: "DETAIL", Cell: func(r auditRecord) string { return joined(": ", r.GetDetail(), r.GetReason()) }},
			{Name: "FROM", Cell: auditRecord.GetRemoteAddr, Spare: true},
		},
		csv: []col{
			{Name: "time", Cell: func(r auditRecord) string { return machineTime(r.Time) }},
			{Name: "operator", Cell: auditRecord.GetOperator},
			{Name: "method", Cell: auditRecord.GetMethod},
			{Name: "subject", Cell: auditRecord.GetSubject},
			{Name: "outcome", Cell: auditRecord.GetOutcome},
			{Name: "remote_addr", Cell: auditRecord.GetRemoteAddr},
			{Name: "detail", Cell: auditRecord.GetDetail},
			{Name: "reason", Cell: auditRecord.GetReason},
		},
		none: "No changes yet.",
	}
}

// joined is the parts that are not empty.
func joined(by string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), by)
}
