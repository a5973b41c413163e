package api

import (
	"time"

	"github.com/tetherline/tetherline/hub/registry"
	connectv1 "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// access is who may call a method, and how it is treated.
type access struct {
	role registry.Role // the least one
	// unbound: only operators without a selector, because the method shows
	// or changes what concerns all devices.
	unbound bool
	// audited: the method changes something.
	audited bool
	// finished: once begun, the call goes on when its caller goes away, so
	// that the audit record says what became of the change.
	finished bool
	timeout  time.Duration // 0: a stream, which ends with its operator's token
}

// How long a call may take.
const (
	quick = 30 * time.Second
	slow  = 10 * time.Minute // moves many rows
)

func read() access  { return access{role: registry.RoleViewer, timeout: quick} }
func watch() access { return access{role: registry.RoleViewer} }
func change() access {
	return access{role: registry.RoleOperator, audited: true, finished: true, timeout: quick}
}
func manage(changes bool) access {
	return access{role: registry.RoleAdmin, unbound: true, audited: changes, finished: changes, timeout: quick}
}

// accessTable has every method of the API. What is not in it may be called by
// nobody.
var accessTable = map[string]access{
	connectv1.DeviceServiceCreateDeviceProcedure:     change(),
	connectv1.DeviceServiceCreateDevicesProcedure:    change(),
	connectv1.DeviceServiceGetDeviceProcedure:        read(),
	connectv1.DeviceServiceListDevicesProcedure:      read(),
	connectv1.DeviceServiceLabelDeviceProcedure:      change(),
	connectv1.DeviceServiceSetDeviceEnabledProcedure: change(),
	connectv1.DeviceServiceRotateDeviceProcedure:     change(),
	connectv1.DeviceServiceDeleteDeviceProcedure:     change(),
	connectv1.DeviceServiceWatchPresenceProcedure:    watch(),

	connectv1.TelemetryServiceLatestProcedure:     read(),
	connectv1.TelemetryServiceQueryProcedure:      read(),
	connectv1.TelemetryServiceListFieldsProcedure: read(),
	connectv1.TelemetryServiceCountProcedure:      read(),
	connectv1.TelemetryServiceWatchRowsProcedure:  watch(),

	connectv1.CommandServiceSendCommandProcedure:         {role: registry.RoleOperator, audited: true, finished: true, timeout: quick + maxSendWait},
	connectv1.CommandServiceSendGroupCommandProcedure:    change(),
	connectv1.CommandServiceListRefusedCommandsProcedure: read(),
	connectv1.CommandServiceGetCommandProcedure:          read(),
	connectv1.CommandServiceListCommandsProcedure:        read(),
	connectv1.CommandServiceCancelCommandProcedure:       change(),
	connectv1.CommandServiceWatchCommandsProcedure:       watch(),
	connectv1.CommandServiceGetGroupProcedure:            read(),
	connectv1.CommandServiceListGroupsProcedure:          read(),
	connectv1.CommandServiceCancelGroupProcedure:         change(),

	connectv1.QuarantineServiceListQuarantineProcedure:   read(),
	connectv1.QuarantineServiceGetQuarantinedProcedure:   read(),
	connectv1.QuarantineServiceReplayQuarantineProcedure: {role: registry.RoleOperator, audited: true, timeout: slow},
	connectv1.QuarantineServiceDropQuarantineProcedure:   {role: registry.RoleAdmin, audited: true, timeout: slow},

	connectv1.OperatorServiceCreateOperatorProcedure: manage(true),
	connectv1.OperatorServiceListOperatorsProcedure:  manage(false),
	connectv1.OperatorServiceDeleteOperatorProcedure: manage(true),
	connectv1.OperatorServiceWhoAmIProcedure:         read(),
	connectv1.OperatorServiceListAuditProcedure:      manage(false),

	connectv1.BridgeServiceListBrokersProcedure: read(),
	connectv1.BridgeServiceListGearProcedure:    read(),
	connectv1.BridgeServiceAllowGearProcedure:   {role: registry.RoleOperator, unbound: true, audited: true, finished: true, timeout: quick},
	// It stores nothing, but connects to where the caller says.
	connectv1.BridgeServiceSampleBrokerProcedure: {role: registry.RoleAdmin, unbound: true, audited: true},

	connectv1.HubServiceGetStatusProcedure: read(),
}

// permits reports whether an operator may call a method.
func (a access) permits(o *registry.Operator) bool {
	return a.role != 0 && o.Role >= a.role && (!a.unbound || o.Unbound())
}
