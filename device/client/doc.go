// Package client is the Go SDK of a Tetherline device. A Client keeps one
// connection to the hub open, makes the hub prove itself, streams readings
// and runs the commands that come back.
//
//	cfg, err := client.ConfigFromFile("device.json")
//	...
//	c, err := client.New(cfg)
//	...
//	go c.Publish(ctx, client.Reading(client.Double("temperature", 21.5)))
//	err = c.Run(ctx)
//
// # The way of a row
//
// Publish checks a row, gives it its time and appends it to the open batch.
// A batch that is full or old enough becomes a frame in the Spool, where it
// stays until the hub has acknowledged it as durable, refused it for good, or
// (policy DropOldest) it had to make room; each of these is counted. A frame
// gets its seq when it is sent for the first time and keeps it, its bytes
// and its boot id for every resend of this process. After a restart a durable
// spool is sent again under a new boot id; rows that the hub has already
// overwrite themselves there.
//
// # Who runs
//
// All methods of a Client may be called at once, Run once only. A connected
// client is two goroutines: the caller of Run, who reads, and one writer. A
// running command is one more. Run returns when they have ended.
package client
