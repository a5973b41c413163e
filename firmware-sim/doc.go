// Package firmwaresim simulates the firmware of devices on the real SDK,
// device/client: one device (RunDevice) or a fleet of them (RunFleet), with
// believable signals, bad links and dead clocks. It uses the hub as anybody
// would: devices by the device protocol, enrolment by the operator API.
package firmwaresim
