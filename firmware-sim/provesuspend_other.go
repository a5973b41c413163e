//go:build !unix

package firmwaresim

import "errors"

const canSuspend = false

func (p *program) suspend() error { return errors.ErrUnsupported }
func (p *program) resume() error  { return errors.ErrUnsupported }

func (p *program) dump() { p.kill() }
