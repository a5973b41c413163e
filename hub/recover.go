package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// RecoverAdmin makes one more admin at a hub that is stopped, for those
// who have lost every admin token: whoever can write the data folder is
// trusted anyway. It returns the file that the token is in.
func RecoverAdmin(ctx context.Context, cfg Config, log *slog.Logger) (file string, err error) {
	if err := cfg.Check(); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, masterKeyFile)); err != nil {
		return "", bad("data", "there is no hub's data folder at %s: %v", cfg.Data, err)
	}
	h := &Hub{cfg: cfg, log: log, failed: make(chan error, 8)}
	defer func() { err = errors.Join(err, h.close()) }()
	for _, open := range []func(context.Context) error{h.openFolder, h.openNATS, h.openRegistry} {
		if err := open(ctx); err != nil {
			return "", err
		}
	}
	file = filepath.Join(cfg.Data, adminTokenFile)
	if _, err := h.registry.RecoverAdmin(ctx, file); err != nil {
		return "", fmt.Errorf("make a new admin: %w", err)
	}
	return file, nil
}
