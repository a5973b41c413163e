package firmwaresim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	credential "github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// enrolled is what the hub has given to a fleet.
type enrolled struct {
	hubURL      string
	roots       *x509.CertPool
	credentials map[string]credential.Credential
}

// devicesACall is how many devices one call creates, at most.
const devicesACall = 500

// sites are the values of the label that simulated devices are spread over.
var sites = []string{"north", "south", "east", "west"}

func enrol(ctx context.Context, cfg *FleetConfig, ids []string) (*enrolled, error) {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	api := operatorv1connect.NewDeviceServiceClient(&http.Client{Transport: transport}, cfg.Hub,
		connect.WithInterceptors(bearer(cfg.Token)))
	e := &enrolled{credentials: make(map[string]credential.Credential, len(ids))}
	done := 0
	for chunk := range slices.Chunk(ids, devicesACall) {
		if err := e.create(ctx, api, chunk, done); err != nil {
			return nil, fmt.Errorf("enrol devices: %w", err)
		}
		done += len(chunk)
		if cfg.Enrolled != nil {
			cfg.Enrolled(done)
		}
	}
	return e, nil
}

func (e *enrolled) create(ctx context.Context, api operatorv1connect.DeviceServiceClient, ids []string, offset int) error {
	request := &operatorv1.CreateDevicesRequest{}
	for i, id := range ids {
		n := offset + i
		request.Devices = append(request.Devices, &operatorv1.NewDevice{
			Id:     id,
			Labels: map[string]string{"site": sites[n/len(models)%len(sites)], "model": models[n%len(models)].name, "simulated": "true"},
		})
	}
	answer, err := api.CreateDevices(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	e.hubURL = answer.Msg.HubUrl
	if e.roots, err = client.RootsFromPEM(answer.Msg.CaPem); err != nil {
		return err
	}
	for _, outcome := range answer.Msg.Outcomes {
		text := outcome.Credential
		if text == "" {
			if text, err = renew(ctx, api, outcome.Id); err != nil {
				return fmt.Errorf("device %s: %w", outcome.Id, errors.Join(errors.New(outcome.Error), err))
			}
		}
		c, err := credential.ParseCredential(text)
		if err != nil {
			return fmt.Errorf("device %s: %w", outcome.Id, err)
		}
		e.credentials[outcome.Id] = c
	}
	return nil
}

// renew gets a new credential for a device of an earlier run.
func renew(ctx context.Context, api operatorv1connect.DeviceServiceClient, id string) (string, error) {
	answer, err := api.RotateDevice(ctx, connect.NewRequest(&operatorv1.RotateDeviceRequest{Id: id, Grace: durationpb.New(0)}))
	if err != nil {
		return "", err
	}
	return answer.Msg.Credential, nil
}

func bearer(token string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			request.Header().Set("Authorization", "Bearer "+token)
			return next(ctx, request)
		}
	}
}
