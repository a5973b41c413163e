package main

import (
	"path/filepath"
	"strings"
	"testing"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func TestCommandArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{`on=true n=12 f=-1.5e3 big=12345678901234567890`, `{"on":true,"n":12,"f":-1.5e3,"big":12345678901234567890}`},
		{`s=fast code=007 quoted="007" empty= url=a=b&c`, `{"s":"fast","code":"007","quoted":"007","empty":"","url":"a=b&c"}`},
		{`list=[1,2] o={"a":null} none=null j:=3`, `{"list":[1,2],"o":{"a":null},"none":null,"j":3}`},
	} {
		got, err := (&app{}).argsObject(strings.Fields(c.args))
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v", c.args, got, err)
		}
	}
	for _, bad := range []string{"x", "=1", ":=1", "x:=fast", "x=1 x=2"} {
		if got, err := (&app{}).argsObject(strings.Fields(bad)); err == nil {
			t.Errorf("%s: %s, want an error", bad, got)
		}
	}
}

// An argument can be a file's content, as users of curl and gh expect; what
// names no file is never sent as the text that it is.
func TestArgumentsFromFiles(t *testing.T) {
	dir := t.TempDir()
	text := write(t, filepath.Join(dir, "a.txt"), "12 \"x\"\n")
	number := write(t, filepath.Join(dir, "n.txt"), "12\n")
	object := write(t, filepath.Join(dir, "o.json"), "{\n \"a\": [1, 2]\n}\n")
	binary := write(t, filepath.Join(dir, "b.bin"), "\xff\x00")
	long := write(t, filepath.Join(dir, "long.txt"), strings.Repeat("x", maxJSONInput+1))
	sent := ""
	p := newPeer(t)
	answer(p, rpc.CommandServiceSendCommandProcedure, func(r *operatorv1.SendCommandRequest) (*operatorv1.SendCommandResponse, error) {
		sent = r.Spec.GetJson()
		return &operatorv1.SendCommandResponse{Command: &operatorv1.Command{Id: r.Key, DeviceId: r.DeviceId, State: queued}}, nil
	})
	for arg, want := range map[string]string{
		"x=@" + text:     `{"x":"12 \"x\"\n"}`,
		"x=@" + number:   `{"x":"12\n"}`,
		"x:=@" + number:  `{"x":12}`,
		"x:=@" + object:  `{"x":{"a":[1,2]}}`,
		"x=@-":           `{"x":"of stdin"}`,
		"x=@@ann":        `{"x":"@ann"}`,
		"x=@@@":          `{"x":"@@"}`,
		`x="@ann"`:       `{"x":"@ann"}`,
		"x=ann@site.org": `{"x":"ann@site.org"}`,
	} {
		runWith(t, p.env(), "of stdin", "command", "send", "d", "n", "--arg", arg).want(t, exitOK)
		if sent != want {
			t.Errorf("--arg %s: sent %s, want %s", arg, sent, want)
		}
	}
	sent = ""
	for _, c := range []struct{ args, want string }{
		{"--arg x=@ann", `there is no file "ann"; a text that begins with @ is written @@: --arg 'x=@@ann'`},
		{"--arg x=@", "name a file behind @"},
		{"--arg x=@" + dir, "is a directory"},
		{"--arg x=@" + binary, "is not text (UTF-8)"},
		{"--arg x:=@" + text, "has no JSON"},
		{"--arg x=@" + long, "over the limit of 16384"},
		{"--arg x=@- --arg y=@-", "--arg y: @- is read for x already"},
	} {
		out := p.hubctl(append([]string{"command", "send", "d", "n"}, strings.Fields(c.args)...)...).want(t, exitUsage)
		wantContains(t, out.stderr, c.want)
	}
	if sent != "" {
		t.Errorf("sent %s", sent)
	}
}

// A share that could be meant in two ways, or is none, sends nothing: a group
// that was to stop at failures must not run on without a limit.
func TestSharesOfFailures(t *testing.T) {
	for text, want := range map[string]float64{"10%": 0.1, "0.1": 0.1, ".5": 0.5, "100%": 1, "0.5%": 0.005, "1%": 0.01} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	p := newPeer(t)
	for share, want := range map[string]string{
		"0%":   "1% stops at the first failure, and without the flag nothing stops it",
		"0":    "1% stops at the first failure",
		"0.0%": "1% stops at the first failure",
		"1":    "write 1% or 100%",
		"101%": "is over 100%",
		"10":   "is over 100%",
		"-1":   "write 10% or 0.1",
		"NaN":  "write 10% or 0.1",
		"Inf%": "write 10% or 0.1",
		"5%x":  "write 10% or 0.1",
		"1e-3": "write 10% or 0.1",
		"%":    "write 10% or 0.1",
		"":     "write 10% or 0.1",
	} {
		out := p.hubctl("command", "send", "--selector", "a=b", "reboot", "--stop-after-failures", share).want(t, exitUsage)
		wantContains(t, out.stderr, "--stop-after-failures: ", want)
	}
	if calls := p.called(); len(calls) > 0 {
		t.Errorf("called %v", calls)
	}
}
