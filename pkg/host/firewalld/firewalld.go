// Package firewalld asks the daemon of that name over D-Bus which zone a link is in, and puts
// links into one. What it changes is the daemon's runtime configuration. It starts no daemon.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Zone is one that comes with firewalld, and accepts all that is forwarded or for the host.
const Zone = "trusted"

// Names of the daemon (firewalld.dbus(5)).
const (
	service = "org.fedoraproject.FirewallD1"
	path    = "/org/fedoraproject/FirewallD1"
	zones   = service + ".zone."
)

// patience is how long the daemon is waited for: it does one thing after the other, and a
// reload takes seconds.
const patience = 20 * time.Second

// ErrNotRunning says that no firewalld runs.
var ErrNotRunning = errors.New("firewalld does not run")

// A Daemon is a firewalld that runs.
type Daemon struct{ bus *dbus.Conn }

// Dial returns the daemon. Close it after use.
func Dial() (*Daemon, error) {
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	var runs bool
	err = bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, service).Store(&runs)
	if err == nil && !runs {
		err = ErrNotRunning
	}
	if err != nil {
		bus.Close()
		return nil, err
	}
	return &Daemon{bus}, nil
}

// Close lets go of the bus.
func (d *Daemon) Close() { d.bus.Close() }

func (d *Daemon) call(method string, result any, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := d.bus.Object(service, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(result)
	if err != nil {
		return fmt.Errorf("firewalld: %s %v: %w", method, args, err)
	}
	return nil
}

// ZoneOf returns the zone that a link was put into, "" for none: it is in the default one then.
func (d *Daemon) ZoneOf(link string) (zone string, err error) {
	err = d.call(zones+"getZoneOfInterface", &zone, link)
	return zone, err
}

// Trust puts a link into Zone.
func (d *Daemon) Trust(link string) error {
	var zone string
	return d.call(zones+"addInterface", &zone, Zone, link)
}

// Distrust takes a link out of Zone, if it is in it.
func (d *Daemon) Distrust(link string) error {
	zone, err := d.ZoneOf(link)
	if err != nil || zone != Zone {
		return err
	}
	return d.call(zones+"removeInterface", &zone, Zone, link)
}
