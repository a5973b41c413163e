//go:build !unix

package hubtest

// ReportMemory does nothing where there are no signals.
func ReportMemory(string) {}

func (p *profiler) turnOnSignal() {}

// NextProfile does nothing where there are no signals.
func (p *Process) NextProfile() {}

func (p *Process) endProfile() {}
