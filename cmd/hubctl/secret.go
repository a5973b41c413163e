package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// deviceFile is what a device needs to connect. Devices and tools read these
// keys.
type deviceFile struct {
	HubURL     string `json:"hub_url"`
	DeviceID   string `json:"device_id"`
	Credential string `json:"credential"`
	CAPEM      string `json:"ca_pem"`
}

// secretFile is a file with mode 0600 that is made sure of before there is a
// secret to put into it.
type secretFile struct {
	path   string
	stdout bool
	file   *os.File
	to     io.Writer // where stdout is asked for
	temp   bool      // file is a temporary one that replaces path
	done   bool
}

// reserve makes sure that path can be written: a new file, or with force a
// replacement. Empty is no file and nil; "-" is stdout.
func (a *app) reserve(path string, force bool) (*secretFile, error) {
	if path == "" {
		return nil, nil
	}
	if path == "-" {
		return &secretFile{stdout: true, to: a.stdout}, nil
	}
	return reserveFile(path, force)
}

func reserveFile(path string, force bool) (*secretFile, error) {
	if force {
		f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
		if err != nil {
			return nil, err
		}
		return &secretFile{path: path, file: f, temp: true}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists and may hold a credential: choose another name, or replace it with --force", path)
	}
	if err != nil {
		return nil, err
	}
	return &secretFile{path: path, file: f}, nil
}

// commit writes v as JSON.
func (s *secretFile) commit(v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return s.commitText(string(raw) + "\n")
}

// commitText writes text, and to the disk.
func (s *secretFile) commitText(text string) error {
	if s.stdout {
		_, err := io.WriteString(s.to, text)
		return err
	}
	_, err := io.WriteString(s.file, text)
	err = errors.Join(err, s.file.Sync(), s.file.Close())
	if err == nil && s.temp {
		err = os.Rename(s.file.Name(), s.path)
	}
	s.done = err == nil
	return err
}

// discard removes the reserved file unless it has been committed.
func (s *secretFile) discard() {
	if s == nil || s.done || s.file == nil {
		return
	}
	_ = s.file.Close()
	_ = os.Remove(s.file.Name())
}

// cleanName is a name of a stranger in a line of text.
func cleanName(s string) string { return terminal.Clean(s) }
