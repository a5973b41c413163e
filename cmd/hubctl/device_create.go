package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) deviceCreate() *cobra.Command {
	var labels []string
	var note, out string
	var unbound, force bool
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Create a device and its credential",
		Long: `Create a device and its credential.

With --out everything that the device needs goes into a file that only its
owner can read: hub_url, device_id, credential and ca_pem, as JSON. Without
--out the credential is printed, once; the hub cannot show it again.`,
		Example: "  hubctl device create pump-1 --label site=north --label role=pump --out pump-1.json\n" +
			"  hubctl device create behind-proxy --allow-unbound --out - | ssh gateway 'cat > device.json'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := parseLabels(labels)
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			// The file comes first: a credential that cannot be kept is lost.
			file, err := a.reserve(out, force)
			if err != nil {
				return err
			}
			defer file.discard()
			res, err := call(cmd.Context(), a, api.Devices.CreateDevice, &operatorv1.CreateDeviceRequest{
				Device: &operatorv1.NewDevice{Id: args[0], Labels: set, Note: note, AllowUnbound: unbound},
			})
			if err != nil {
				return err
			}
			secret := deviceFile{HubURL: res.HubUrl, DeviceID: res.GetDevice().GetId(), Credential: res.Credential, CAPEM: res.CaPem}
			if file != nil {
				if err := file.commit(secret); err != nil {
					return fmt.Errorf("device %s exists now, but its credential could not be written: %w; 'hubctl device rotate %s --grace 0s --out FILE' makes another", args[0], err, args[0])
				}
				return a.created(file, res.Device, "created")
			}
			if a.out == output.JSON {
				return output.WriteObject(a.stdout, res)
			}
			return a.printSecret(secret)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&labels, "label", nil, "label key=value; may be repeated")
	f.StringVar(&note, "note", "", "a note for people")
	f.BoolVar(&unbound, "allow-unbound", false, "may connect without channel binding, as behind a proxy that ends TLS")
	f.StringVar(&out, "out", "", "file for the credential, made with mode 0600; - for stdout")
	f.BoolVar(&force, "force", false, "replace the file of --out")
	return cmd
}

func (a *app) deviceRotate() *cobra.Command {
	var grace, out string
	var force bool
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Make the next credential of a device",
		Long: `Make the next credential of a device.

A connected device gets it from the hub at once, and the old one ends when the
device has proved the new one. Until then, but no longer than --grace, both
work. --grace 0s ends the old one now: for a credential that has leaked.`,
		Example:           "  hubctl device rotate pump-1\n  hubctl device rotate pump-1 --grace 0s --out pump-1.json --force",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			wait, err := optionalSpan(grace)
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			file, err := a.reserve(out, force)
			if err != nil {
				return err
			}
			defer file.discard()
			res, err := call(cmd.Context(), a, api.Devices.RotateDevice, &operatorv1.RotateDeviceRequest{Id: args[0], Grace: wait})
			if err != nil {
				return err
			}
			if res.HandedOver {
				a.notef("The device has been sent its new credential over its connection.")
			}
			secret := deviceFile{HubURL: res.HubUrl, DeviceID: res.GetDevice().GetId(), Credential: res.Credential, CAPEM: res.CaPem}
			if file != nil {
				if err := file.commit(secret); err != nil {
					return fmt.Errorf("device %s has a new credential, but it could not be written: %w; rotate it again", args[0], err)
				}
				return a.created(file, res.Device, "rotated")
			}
			if a.out == output.JSON {
				return output.WriteObject(a.stdout, res)
			}
			return a.printSecret(secret)
		},
	}
	f := cmd.Flags()
	f.StringVar(&grace, "grace", "", "how long the old credential works if the new one is not proved sooner; unset: the hub's default")
	f.StringVar(&out, "out", "", "file for the credential, made with mode 0600; - for stdout")
	f.BoolVar(&force, "force", false, "replace the file of --out")
	return cmd
}

// created tells that the credential is in its file; it is not shown again.
func (a *app) created(file *secretFile, d *operatorv1.Device, what string) error {
	if file.stdout {
		return nil // the file's content was the answer
	}
	if a.out != output.Table {
		return printOne(a, a.deviceView(), d)
	}
	_, err := fmt.Fprintf(a.stdout, "device %s %s, its credential is in %s\n", cleanName(d.GetId()), what, cleanName(file.path))
	return err
}

// printSecret shows a credential, for the only time.
func (a *app) printSecret(s deviceFile) error {
	if a.out == output.CSV {
		w := output.NewCSV(a.stdout, a.screenWidth() > 0, []output.Column[deviceFile]{
			{Name: "device_id", Cell: func(s deviceFile) string { return s.DeviceID }},
			{Name: "credential", Cell: func(s deviceFile) string { return s.Credential }},
			{Name: "hub_url", Cell: func(s deviceFile) string { return s.HubURL }},
		})
		if err := w.Put(s); err != nil {
			return err
		}
		return w.Flush()
	}
	a.notef("The credential is shown this once; keep it, or write it to a file with --out.")
	return output.WriteDetails(a.stdout, []output.Detail{
		{Name: "Device", Value: s.DeviceID},
		{Name: "Credential", Value: s.Credential},
		{Name: "Hub", Value: s.HubURL},
	})
}
