package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type operator = *operatorv1.Operator

func (a *app) operatorCommand() *cobra.Command {
	return group("operator", "Manage who may operate the hub",
		"  hubctl operator create alice --role operator --selector site=north\n  hubctl operator whoami",
		a.operatorCreate(), a.operatorList(), a.operatorRemove(), a.operatorWhoAmI(),
	)
}

func (a *app) operatorCreate() *cobra.Command {
	var role, selector, out string
	var force bool
	cmd := &cobra.Command{
		Use:   "create NAME --role viewer|operator|admin",
		Short: "Create an operator and a token",
		Long: `Create an operator and a token. A viewer reads, an operator also changes devices
and sends commands, an admin also manages operators. With --selector the token
sees and reaches only devices whose labels match.

The token is shown once. With --out it goes into a file that only its owner can
read, fit for --token @FILE.`,
		Example:           "  hubctl operator create dashboard --role viewer --out dashboard.token\n  hubctl operator create alice --role operator --selector site=north",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, ok := operatorv1.Role_value["ROLE_"+strings.ToUpper(role)]
			if !ok || n == 0 {
				return usagef("--role %q: it is viewer, operator or admin", role)
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			file, err := a.reserve(out, force)
			if err != nil {
				return err
			}
			defer file.discard()
			res, err := call(cmd.Context(), a, api.Operators.CreateOperator, &operatorv1.CreateOperatorRequest{Name: args[0], Role: operatorv1.Role(n), Selector: selector})
			if err != nil {
				return err
			}
			if file != nil {
				if err := file.commitText(res.Token + "\n"); err != nil {
					return fmt.Errorf("operator %s exists now, but the token could not be written: %w; remove and create it again", args[0], err)
				}
				if file.stdout {
					return nil
				}
				if a.out != output.Table {
					return printOne(a, a.operatorView(), res.Operator)
				}
				_, err := fmt.Fprintf(a.stdout, "operator %s created, its token is in %s\n", cleanName(args[0]), cleanName(out))
				return err
			}
			return a.printToken(res)
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "viewer", "viewer, operator or admin")
	f.StringVarP(&selector, "selector", "l", "", "only devices whose labels match; unset: all")
	f.StringVar(&out, "out", "", "file for the token, made with mode 0600; - for stdout")
	f.BoolVar(&force, "force", false, "replace the file of --out")
	a.complete(cmd, "role", fixed("viewer", "operator", "admin"))
	return cmd
}

// printToken shows a token, for the only time.
func (a *app) printToken(res *operatorv1.CreateOperatorResponse) error {
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, res)
	case output.CSV:
		w := output.NewCSV(a.stdout, a.screenWidth() > 0, []output.Column[*operatorv1.CreateOperatorResponse]{
			{Name: "name", Cell: func(r *operatorv1.CreateOperatorResponse) string { return r.GetOperator().GetName() }},
			{Name: "role", Cell: func(r *operatorv1.CreateOperatorResponse) string { return roleName(r.GetOperator().GetRole()) }},
			{Name: "token", Cell: (*operatorv1.CreateOperatorResponse).GetToken},
		})
		if err := w.Put(res); err != nil {
			return err
		}
		return w.Flush()
	}
	a.notef("The token is shown this once; keep it, or write it to a file with --out.")
	return output.WriteDetails(a.stdout, append(a.operatorDetails(res.Operator), output.Detail{Name: "Token", Value: res.Token}))
}

func (a *app) operatorList() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List operators with their roles",
		Example: "  hubctl operator ls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Operators.ListOperators, &operatorv1.ListOperatorsRequest{})
			if err != nil {
				return err
			}
			return printList(a, a.operatorView(), each(res.Operators))
		},
	}
}

func (a *app) operatorRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               "rm NAME",
		Short:             "Remove an operator; the token ends at once",
		Example:           "  hubctl operator rm alice --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, "Remove operator %s?", args[0]); err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Operators.DeleteOperator, &operatorv1.DeleteOperatorRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return printDone(a, res, "operator %s removed", args[0])
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) operatorWhoAmI() *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Show whose token this is and what it may do",
		Example: "  hubctl operator whoami",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Operators.WhoAmI, &operatorv1.WhoAmIRequest{})
			if err != nil {
				return err
			}
			return printOne(a, a.operatorView(), res.Operator)
		},
	}
}

func (a *app) operatorDetails(o operator) []output.Detail {
	return []output.Detail{
		{Name: "Operator", Value: o.GetName()},
		{Name: "Role", Value: roleName(o.GetRole())},
		{Name: "Devices", Value: firstOf(o.GetSelector(), "all")},
		{Name: "Created", Value: humanTime(o.GetCreated(), a.zone())},
	}
}

func (a *app) operatorView() view[operator] {
	type col = output.Column[operator]
	role := func(o operator) string { return roleName(o.Role) }
	return view[operator]{
		table: []col{
			{Name: "NAME", Cell: operator.GetName, Whole: true},
			{Name: "ROLE", Cell: role},
			{Name: "DEVICES", Cell: func(o operator) string { return firstOf(o.Selector, "all") }},
			{Name: "CREATED", Cell: func(o operator) string { return humanTime(o.Created, a.zone()) }},
		},
		csv: []col{
			{Name: "name", Cell: operator.GetName},
			{Name: "role", Cell: role},
			{Name: "selector", Cell: operator.GetSelector},
			{Name: "created", Cell: func(o operator) string { return machineTime(o.Created) }},
		},
		details: a.operatorDetails,
	}
}
