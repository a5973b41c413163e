package device

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func exampleCredential() Credential {
	return Credential{ID: "pump-7_A", Generation: 42, Secret: exampleMaster().Secret("pump-7_A", 42)}
}

func exampleMaster() (k MasterKey) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

func TestCredentialReadsBack(t *testing.T) {
	for _, c := range []Credential{
		exampleCredential(),
		{ID: "x", Generation: 1},
		{ID: strings.Repeat("z", MaxIDBytes), Generation: 1<<32 - 1, Secret: Secret{255}},
	} {
		for _, text := range []string{c.Encode(), " " + c.Encode() + "\r\n"} {
			got, err := ParseCredential(text)
			if err != nil || got != c {
				t.Errorf("%v reads back as %v: %v", c, got, err)
			}
		}
	}
}

func TestBadCredentialsAreRefusedAndNotQuoted(t *testing.T) {
	good := exampleCredential().Encode()
	secret := good[strings.LastIndex(good, ".")+1:]
	for name, text := range map[string]string{
		"empty":               "",
		"no dots":             secret,
		"other version":       "tl2" + good[3:],
		"no id":               "tl1..42." + secret,
		"id with a space":     "tl1.a b.42." + secret,
		"id too long":         "tl1." + strings.Repeat("a", 65) + ".42." + secret,
		"generation 0":        "tl1.a.0." + secret,
		"generation with 0":   "tl1.a.01." + secret,
		"generation signed":   "tl1.a.+1." + secret,
		"generation empty":    "tl1.a.." + secret,
		"generation 2^32":     "tl1.a.4294967296." + secret,
		"short secret":        "tl1.a.1." + secret[1:],
		"long secret":         "tl1.a.1." + secret + "AA",
		"padded secret":       "tl1.a.1." + secret + "=",
		"loose trailing bits": "tl1.a.1." + secret[:42] + "_",
		"five parts":          good + ".x",
		"too long":            good + strings.Repeat("x", 200),
		"line break inside":   "tl1.a.1." + secret[:20] + "\n" + secret[20:],
	} {
		c, err := ParseCredential(text)
		if !errors.Is(err, ErrBadCredential) || c != (Credential{}) {
			t.Errorf("%s: %v %v", name, c, err)
			continue
		}
		if strings.Contains(err.Error(), secret[1:20]) {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := exampleCredential()
	secret := c.Encode()[strings.LastIndex(c.Encode(), ".")+1:]
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "credential", c, "pointer", &c, "secret", c.Secret)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "credential", c, "secret", c.Secret)
	for _, text := range []string{
		log.String(), fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s", c, c, c, c), fmt.Sprintf("%x %d %q %v", c.Secret, c.Secret, c.Secret, &c),
		fmt.Sprintf("%+v", struct{ C Credential }{c}),
	} {
		if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", c.Secret[:8])) ||
			strings.Contains(text, fmt.Sprintf("%d %d", c.Secret[0], c.Secret[1])) ||
			strings.Contains(text, fmt.Sprintf("0x%x, 0x%x", c.Secret[0], c.Secret[1])) {
			t.Errorf("the secret shows: %s", text)
		}
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "Z9_-": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a.b": false, "a/b": false, "é": false, "a b": false, "a\x00": false,
	} {
		if err := CheckID(id); (err == nil) != ok || err != nil && !errors.Is(err, ErrBadID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func FuzzParseCredential(f *testing.F) {
	f.Add(exampleCredential().Encode())
	f.Add("tl1.a.1.")
	f.Add("tl1.a.01." + strings.Repeat("A", 43))
	f.Add("....")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCredential(text)
		if err != nil {
			if !errors.Is(err, ErrBadCredential) || c != (Credential{}) {
				t.Fatalf("%v %v", c, err)
			}
			return
		}
		// There is one text form.
		if c.Encode() != strings.TrimSpace(text) || c.Generation == 0 || CheckID(c.ID) != nil {
			t.Fatalf("%q reads as %v", text, c)
		}
	})
}
