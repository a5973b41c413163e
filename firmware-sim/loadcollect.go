package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"
)

// collections is the hub's count of garbage collections that it was asked for.
// A hub that cannot be asked has none.
const collections = "tetherline_memory_collections_total"

// collectTimeout is for one of them.
const collectTimeout = 30 * time.Second

// first looks at the hub's process before the devices connect, after a
// collection where the hub can be asked for one. An operator who may not read
// the metrics gets memory with garbage in it.
func (m *loadMeter) first(ctx context.Context) (processUse, error) {
	metrics, err := m.metrics(ctx)
	if err != nil {
		return processUse{}, err
	}
	if said, ok := metrics["process_start_time_seconds"]; ok {
		began, err := startOf(m.pid)
		if err != nil {
			return processUse{}, err
		}
		if math.Abs(began-said) > 1 {
			return processUse{}, fmt.Errorf("%d is not the process of the hub at %s", m.pid, m.hub)
		}
		_, m.collects = metrics[collections]
	}
	if m.collects {
		if err := m.collect(ctx); err != nil {
			return processUse{}, err
		}
	}
	return useOf(m.pid)
}

// collect has the hub collect its garbage and waits until it has.
func (m *loadMeter) collect(ctx context.Context) error {
	before, err := m.metrics(ctx)
	if err != nil {
		return err
	}
	if err := askToCollect(m.pid); err != nil {
		return fmt.Errorf("ask the hub to collect its garbage: %w", err)
	}
	for deadline := time.Now().Add(collectTimeout); ; {
		now, err := m.metrics(ctx)
		switch {
		case err != nil:
			return err
		case now[collections] > before[collections]:
			return nil
		case time.Now().After(deadline):
			return errors.New("the hub does not collect its garbage")
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// metrics of the hub, by name; none where the operator may not read them.
func (m *loadMeter) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.hub+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+m.token)
	answer, err := m.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("metrics of the hub: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, nil
	}
	return readMetrics(answer.Body)
}
