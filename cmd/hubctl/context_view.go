package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/contexts"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
)

// savedContext is what may be shown of a context: not its token.
type savedContext struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	Hub     string `json:"hub"`
	Token   string `json:"token"` // where it is: "saved", "file …" or "none"
	CA      string `json:"ca"`    // whose certificate
}

func describe(name string, f contexts.File) savedContext {
	c := f.Contexts[name]
	s := savedContext{Name: name, Current: name == f.Current, Hub: c.Hub, Token: "none", CA: "system"}
	switch {
	case c.TokenFile != "":
		s.Token = "file " + c.TokenFile
	case c.Token != "":
		s.Token = "saved"
	}
	if c.CAPEM != "" {
		s.CA = "saved"
		if block, _ := pem.Decode([]byte(c.CAPEM)); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil && cert.Subject.CommonName != "" {
				s.CA = fmt.Sprintf("saved, %s until %s", cert.Subject.CommonName, cert.NotAfter.Format("2006-01-02"))
			}
		}
	}
	return s
}

func contextColumns(names ...string) []output.Column[savedContext] {
	return []output.Column[savedContext]{
		{Name: names[0], Cell: func(s savedContext) string { return s.Name }, Whole: true},
		{Name: names[1], Cell: func(s savedContext) string { return yesNo(s.Current) }},
		{Name: names[2], Cell: func(s savedContext) string { return s.Hub }, Whole: true},
		{Name: names[3], Cell: func(s savedContext) string { return s.Token }},
		{Name: names[4], Cell: func(s savedContext) string { return s.CA }},
	}
}

func (a *app) printContexts(all []savedContext) error {
	switch a.out {
	case output.JSON:
		return a.contextJSON(append([]savedContext{}, all...))
	case output.CSV:
		w := output.NewCSV(a.stdout, a.screenWidth() > 0, contextColumns("name", "current", "hub", "token", "ca"))
		for _, s := range all {
			if err := w.Put(s); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	if len(all) == 0 {
		a.notef("No saved contexts. 'hubctl context add NAME --hub URL --token @FILE --ca FILE' saves one.")
		return nil
	}
	_, err := output.WriteTable(a.stdout, a.screenWidth(), contextColumns("NAME", "CURRENT", "HUB", "TOKEN", "CA"), all)
	return err
}

func (a *app) printContext(s savedContext) error {
	switch a.out {
	case output.JSON:
		return a.contextJSON(s)
	case output.CSV:
		return a.printContexts([]savedContext{s})
	}
	return output.WriteDetails(a.stdout, []output.Detail{
		{Name: "Context", Value: s.Name},
		{Name: "Current", Value: yesNo(s.Current)},
		{Name: "Hub", Value: s.Hub},
		{Name: "Token", Value: s.Token},
		{Name: "CA", Value: s.CA},
	})
}

func (a *app) contextJSON(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return output.WriteRaw(a.stdout, raw)
}

func (a *app) completeContextArg(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeContexts(cmd, args, toComplete)
}
