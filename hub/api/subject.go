package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Bounds of what a caller's words may take in an audit record, in bytes.
const (
	maxAuditSubject = 256
	maxAuditDetail  = 512
	maxAuditReason  = 512
)

// subjectOf is what a request is about, for the audit log.
func subjectOf(msg any) string {
	var subject string
	switch m := msg.(type) {
	case *operatorv1.CreateDeviceRequest:
		subject = m.GetDevice().GetId()
	case *operatorv1.CreateDevicesRequest:
		subject = fmt.Sprintf("%d devices", len(m.GetDevices()))
	case interface {
		GetIds() []uint64
		GetDeviceId() string
		GetAll() bool
	}:
		subject = rowsSubject(m.GetIds(), m.GetDeviceId(), m.GetAll())
	case *operatorv1.AllowGearRequest:
		g := m.GetGear()
		subject = g.GetBroker() + "/" + g.GetProfile() + "/" + g.GetName()
	case *operatorv1.SampleBrokerRequest:
		subject = withoutUser(m.GetBroker())
	case interface{ GetDeviceId() string }:
		subject = m.GetDeviceId()
	case interface{ GetId() string }:
		subject = m.GetId()
	case interface{ GetName() string }:
		subject = m.GetName()
	case interface{ GetSelector() string }:
		subject = m.GetSelector()
	}
	return clip(subject, maxAuditSubject)
}

// withoutUser is a broker's URL without what somebody may have written before
// its host; a name stays as it is.
func withoutUser(broker string) string {
	scheme, rest, isURL := strings.Cut(broker, "://")
	if !isURL {
		return broker
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

func rowsSubject(ids []uint64, deviceID string, all bool) string {
	switch {
	case all:
		return "all rows"
	case deviceID != "":
		return deviceID
	case len(ids) == 1:
		return fmt.Sprintf("row %d", ids[0])
	default:
		return fmt.Sprintf("%d rows", len(ids))
	}
}

// detailOf is what a request asks for, for the audit log. It never has a
// secret, a note or a payload.
func detailOf(msg any) string {
	var detail string
	switch m := msg.(type) {
	case *operatorv1.CreateDeviceRequest:
		detail = labelChanges(m.GetDevice().GetLabels(), nil)
		if m.GetDevice().GetAllowUnbound() {
			detail = strings.TrimSpace("allow_unbound " + detail)
		}
	case *operatorv1.LabelDeviceRequest:
		detail = labelChanges(m.GetSet(), m.GetRemove())
	case *operatorv1.SetDeviceEnabledRequest:
		detail = fmt.Sprintf("enabled=%t", m.GetEnabled())
	case *operatorv1.RotateDeviceRequest:
		if m.GetGrace() != nil {
			detail = fmt.Sprintf("grace=%v", m.GetGrace().AsDuration())
		}
	case *operatorv1.CreateOperatorRequest:
		detail = fmt.Sprintf("role=%s selector=%q", roleName(m.GetRole()), m.GetSelector())
	case *operatorv1.AllowGearRequest:
		detail = strings.TrimSpace("device=" + m.GetDeviceId() + " " + labelChanges(m.GetLabels(), nil))
	case *operatorv1.SampleBrokerRequest:
		if m.GetDuration() != nil {
			detail = fmt.Sprintf("for=%v", m.GetDuration().AsDuration())
		}
		if m.GetNoRebirth() {
			detail = strings.TrimSpace(detail + " no_rebirth")
		}
	case *operatorv1.SendGroupCommandRequest:
		detail = askedDetail(m.GetSpec().GetName(), m.GetKey())
	case *operatorv1.SendCommandRequest:
		detail = askedDetail(m.GetSpec().GetName(), m.GetKey())
	}
	return clip(detail, maxAuditDetail)
}

// askedDetail names a command that was refused, and its key: one that was
// accepted has the id. It ends with the key, whatever the name is.
func askedDetail(name, key string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r > '~' }) {
		name = strconv.Quote(clip(name, 64))
	}
	detail := "command=" + clip(name, 128)
	if key != "" {
		detail += " key=" + key
	}
	return detail
}

// askedName is the reverse of askedDetail for a command that was asked for
// under a key; "", false: it was not.
func askedName(detail, key string) (name string, ok bool) {
	name, ok = strings.CutSuffix(detail, " key="+key)
	name = strings.TrimPrefix(name, "command=")
	if plain, err := strconv.Unquote(name); err == nil {
		name = plain
	}
	return name, ok
}

func labelChanges(set map[string]string, remove []string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(set)) {
		parts = append(parts, fmt.Sprintf("%s=%q", clip(key, 64), clip(set[key], 128)))
	}
	for _, key := range remove {
		parts = append(parts, "-"+clip(key, 64))
	}
	return strings.Join(parts, " ")
}
