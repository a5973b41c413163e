package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// bridgeTimeout is how long the demo waits for the bridge to listen.
const bridgeTimeout = 30 * time.Second

// demoGear is the legacy gear of the demo, on the embedded MQTT broker: its
// kind, its name, and the device that each piece of it becomes.
var demoGear = []struct {
	kind, name string
	devices    map[string]string
}{
	{"tasmota", "workshop-plug", map[string]string{"workshop-plug": "workshop-plug"}},
	{"sparkplug", "plant/press", map[string]string{"plant/press": "plant-press", "plant/press/motor": "plant-press-motor"}},
}

const demoBridge = `# Made anew by each hubd demo.
brokers:
  - name: demo
    url: embedded
    profiles:
      - kind: tasmota
        auto-allow: ["workshop-*"]
        labels: {site: workshop}
      - kind: sparkplug
        auto-allow: ["plant/*"]
        labels: {site: plant}
`

// bridge turns the embedded MQTT broker and the bridge on.
func (d *demo) bridge(config *hub.Config) error {
	config.MQTTListen = "127.0.0.1:0"
	config.MQTTBridge = filepath.Join(d.data, "demo-bridge.yaml")
	if err := os.MkdirAll(d.data, 0o700); err != nil {
		return fmt.Errorf("make the folder of the demo: %w", err)
	}
	if err := os.WriteFile(config.MQTTBridge, []byte(demoBridge), 0o600); err != nil {
		return fmt.Errorf("write the config of the bridge: %w", err)
	}
	return nil
}

// gearIDs are the devices that the gear becomes.
func gearIDs() (ids []string) {
	for _, g := range demoGear {
		for _, id := range g.devices {
			ids = append(ids, id)
		}
	}
	return ids
}

// gearMeasurement is the measurement of the rows of gear, which is its kind;
// "": the device is none.
func gearMeasurement(id string) string {
	for _, g := range demoGear {
		for _, device := range g.devices {
			if device == id {
				return g.kind
			}
		}
	}
	return ""
}

// awaitBridge returns when the bridge listens: what gear publishes before is
// lost, as on any broker.
func (d *demo) awaitBridge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bridgeTimeout)
	defer cancel()
	api := operatorv1connect.NewBridgeServiceClient(d.client, d.address)
	for {
		request := connect.NewRequest(&operatorv1.ListBrokersRequest{})
		request.Header().Set("Authorization", "Bearer "+d.token)
		answer, err := api.ListBrokers(ctx, request)
		if err != nil {
			return fmt.Errorf("ask for the bridge: %w", err)
		}
		if b := answer.Msg.Brokers; len(b) == 1 && b[0].Connected {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the bridge does not reach the embedded MQTT broker")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// gearDone is what the gear has done when it has ended.
type gearDone struct {
	summaries []firmwaresim.GearSummary
	err       error
}

// runGear simulates the gear until ctx ends.
func (d *demo) runGear(ctx context.Context) <-chan gearDone {
	done := make(chan gearDone, 1)
	go func() {
		end := gearDone{summaries: make([]firmwaresim.GearSummary, len(demoGear))}
		failures := make([]error, len(demoGear))
		var running sync.WaitGroup
		for i, g := range demoGear {
			running.Go(func() {
				end.summaries[i], failures[i] = firmwaresim.RunGear(ctx, firmwaresim.GearConfig{
					Broker: "ssl://" + d.hub.AddrMQTT().String(), RootCAs: d.roots,
					Kind: g.kind, Name: g.name, QoS: 1, Seed: 1, Logger: slog.New(slog.DiscardHandler),
				})
			})
		}
		running.Wait()
		end.err = errors.Join(failures...)
		done <- end
	}()
	return done
}

// acked adds the readings that the broker has acknowledged, by device: each
// is at least one row.
func (g gearDone) acked(by map[string]uint64) (readings, commands uint64) {
	for i, s := range g.summaries {
		for gear, n := range s.Readings {
			by[demoGear[i].devices[gear]] += n
			readings += n
		}
		commands += s.Commands
	}
	return readings, commands
}
