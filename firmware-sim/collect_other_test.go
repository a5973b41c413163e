//go:build !unix

package firmwaresim_test

import "os"

func notifyCollect(chan<- os.Signal) {}
