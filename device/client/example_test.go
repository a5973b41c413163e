package client_test

import (
	"context"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/tetherline/tetherline/device/client"
)

// A device that measures once a second and obeys one command. The README
// shows it.
func Example() {
	file, err := client.LoadFile("barn-1.json")
	if err != nil {
		log.Fatal(err)
	}
	roots, err := client.RootsFromPEM(file.CAPEM)
	if err != nil {
		log.Fatal(err)
	}
	spool, err := client.OpenFileSpool("barn-1.spool", client.FileSpoolOptions{}) // survives a crash
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{
		URL:         file.HubURL,
		Credentials: client.NewFileStore("barn-1.json"), // rotated credentials are written back
		RootCAs:     roots,
		Spool:       spool,
		JournalPath: "barn-1.journal", // no command id runs twice, restarts included
		Commands: map[string]client.Handler{
			"set-relay": {Run: func(ctx context.Context, cmd *client.Command) (client.Result, error) {
				on, err := cmd.Bool("on")
				if err != nil {
					return client.Result{}, err
				}
				return client.JSONResult(map[string]bool{"on": on})
			}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		for range time.Tick(time.Second) {
			if c.Publish(ctx, client.Reading(client.Double("temperature", 21.5))) != nil {
				return
			}
		}
	}()
	if err := c.Run(ctx); err != nil { // returns after ctx has ended and everything was acknowledged
		log.Fatal(err)
	}
}
