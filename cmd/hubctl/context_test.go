package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestContextsAreSavedForTheirOwnerOnly(t *testing.T) {
	p := newPeer(t)
	scriptEverything(p)
	config := t.TempDir()
	env := map[string]string{"XDG_CONFIG_HOME": config, "TZ": "UTC"}
	token := write(t, filepath.Join(t.TempDir(), "token"), peerToken+"\n")
	hub := func(args ...string) result { return runWith(t, env, "", args...) }

	hub("context", "add", "home", "--hub", p.server.URL, "--token", peerToken, "--ca", p.ca).want(t, exitOK)
	file := filepath.Join(config, "tetherline", "hubctl.yaml")
	wantMode(t, file, 0o600)
	wantMode(t, filepath.Dir(file), 0o700)
	hub("status").want(t, exitOK) // the first one is current

	hub("context", "add", "by-file", "--hub", p.server.URL, "--token", "@"+token, "--ca", p.ca).want(t, exitOK)
	hub("--context", "by-file", "status").want(t, exitOK)
	write(t, token, "replaced")
	hub("--context", "by-file", "status").want(t, exitUnauthorized)

	hub("context", "add", "home", "--hub", "https://other").want(t, exitError)
	hub("context", "add", "bad/name", "--hub", "https://other").want(t, exitUsage)
	hub("context", "add", "other", "--hub", "https://127.0.0.1:1", "--use").want(t, exitOK)
	hub("status").want(t, exitUnreachable)
	hub("context", "use", "home").want(t, exitOK)
	hub("status").want(t, exitOK)
	env["TETHERLINE_CONTEXT"] = "other"
	hub("status").want(t, exitUnreachable)
	delete(env, "TETHERLINE_CONTEXT")

	list := hub("context", "ls").want(t, exitOK)
	show := hub("context", "show", "-o", "json").want(t, exitOK)
	wantContains(t, list.out, "home", "by-file", "file "+token)
	wantContains(t, show.out, `"token": "saved"`)
	if strings.Contains(list.out+show.out, peerToken) {
		t.Error("a saved token is shown")
	}
	hub("context", "rm", "home").want(t, exitOK)
	hub("context", "use", "home").want(t, exitNotFound)
	hub("context", "show").want(t, exitNotFound)

	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	wantContains(t, hub("context", "ls").want(t, exitOK).stderr, "chmod 600")
	write(t, file, "contexts:\n  x:\n    token: very-secret\n    tokn: y\n")
	if got := hub("context", "ls").want(t, exitError); strings.Contains(got.stderr, "very-secret") || !strings.Contains(got.stderr, "tokn") {
		t.Errorf("stderr: %s", got.stderr)
	}
}

// A saved token goes to its own hub only.
func TestCurrentContextIsNotMixedIntoANamedHub(t *testing.T) {
	home, stranger := newPeer(t), newPeer(t)
	scriptEverything(home)
	scriptEverything(stranger)
	env := map[string]string{"XDG_CONFIG_HOME": t.TempDir()}
	runWith(t, env, "", "context", "add", "home", "--hub", home.server.URL, "--token", peerToken, "--ca", home.ca).want(t, exitOK)
	wantContains(t, runWith(t, env, "", "--hub", stranger.server.URL, "--ca", stranger.ca, "status").want(t, exitUnauthorized).stderr, "no token was given")
	env["TETHERLINE_HUB"] = stranger.server.URL
	env["TETHERLINE_CA"] = stranger.ca
	runWith(t, env, "", "status").want(t, exitUnauthorized)
	env["TETHERLINE_CONTEXT"] = "home"
	runWith(t, env, "", "status").want(t, exitUnauthorized)
	runWith(t, env, "", "--context", "home", "status").want(t, exitOK)
}
