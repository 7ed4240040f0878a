package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/engineapi"
	"dcni/pkg/host/systemd"
	"dcni/pkg/records"
)

// apiOptions are the flags of `dnet api`.
type apiOptions struct {
	socket string
	idle   time.Duration
}

func newAPICommand(a *app) *cobra.Command {
	var o apiOptions
	socket := filepath.Join(a.store.Run, "api.sock")
	cmd := &cobra.Command{
		Use:   "api [OPTIONS]",
		Short: "Serve the network part of Docker's Engine API, for docker and other clients",
		Long: "Serve the part of Docker's Engine API that is about networks, in its versions " + engineapi.MinVersion + " to " + engineapi.MaxVersion +
			", on a unix socket of root's: docker network, Ansible's docker_network and Terraform's docker_network work with it as with Docker. " +
			"What is not about networks is refused. Clients find it by DOCKER_HOST=unix://" + socket +
			". With systemd, dnet-api.socket starts it for the first client.",
		Example: "  dnet api\n" +
			"  dnet api --socket /run/docker.sock --idle 5m",
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.serveAPI(o) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&o.socket, "socket", socket, "Path of the unix socket")
	cmd.Flags().DurationVar(&o.idle, "idle", 0, "End when nothing was asked for so long, as 5m (0: never)")
	return cmd
}

// serveAPI serves until a signal ends it, or until nothing was asked for long enough.
func (a *app) serveAPI(o apiOptions) error {
	a.waits = nil // what clients wait for is no matter of the server's terminal
	if o.idle < 0 {
		return &statusErr{statusUsage, fmt.Errorf("--idle %s: must be 0 or more", o.idle)}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	service, handed, err := systemd.Join(a.getenv, os.Getpid())
	for _, name := range systemd.Variables { // they are not for plugins and what those start
		err = errors.Join(err, os.Unsetenv(name))
	}
	if err != nil {
		return err
	}
	var l net.Listener
	if len(handed) > 0 {
		l, err = handedListener(handed)
	} else {
		var lock *records.Lock
		l, lock, err = a.listenAPI(o.socket)
		defer lock.Unlock()
	}
	if err != nil {
		return err
	}
	server := engineapi.New(apiBackend{a}, cni.Version)
	server.Log = func(format string, args ...any) { fmt.Fprintf(a.stderr, "dnet: "+format+"\n", args...) }
	fmt.Fprintf(a.stderr, "dnet: the API is at unix://%s\n", l.Addr())
	if err := service.Ready(); err != nil {
		return errors.Join(err, l.Close())
	}
	err = server.Serve(ctx, l, o.idle)
	return errors.Join(err, service.Stopping())
}

// handedListener returns the listening socket that systemd opened.
func handedListener(handed []systemd.Descriptor) (net.Listener, error) {
	if len(handed) != 1 {
		return nil, fmt.Errorf("systemd hands over %d sockets: must be one", len(handed))
	}
	file := os.NewFile(uintptr(handed[0].FD), handed[0].Name)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %q of systemd: %w", handed[0].Name, err)
	}
	if network := l.Addr().Network(); network != "unix" {
		return nil, errors.Join(l.Close(), fmt.Errorf("systemd listens at %s %s: must be a unix socket: other hosts must not reach it", network, l.Addr()))
	}
	return l, nil
}

// ownerOnly is the mask of a socket that root alone can connect to.
const ownerOnly = 0o177

// listenAPI listens at a path, for root alone. The socket of a server that was killed is
// replaced; that of one that serves is not, whichever program it is. The lock is held for as
// long as the server serves.
func (a *app) listenAPI(path string) (net.Listener, *records.Lock, error) {
	path, err := filepath.Abs(path)
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; err != nil || len(path) > most {
		return nil, nil, errors.Join(err, &statusErr{statusUsage, fmt.Errorf("--socket %q: must be at most %d bytes", path, most)})
	}
	lock, free, err := a.store.TryLockAPI(path)
	if err == nil && !free {
		err = fmt.Errorf("--socket %s: another dnet api serves there", path)
	}
	if err == nil {
		err = removeStale(path)
	}
	if err != nil {
		lock.Unlock()
		return nil, nil, err
	}
	mask := syscall.Umask(ownerOnly) // a chmod afterwards would leave a moment in which others can connect
	l, err := net.Listen("unix", path)
	syscall.Umask(mask)
	if err != nil {
		lock.Unlock()
		return nil, nil, err
	}
	return l, lock, nil
}

// removeStale removes a socket at which no process listens any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("--socket %s: there is a file that is no socket", path)
	}
	const patience = time.Second
	conn, err := net.DialTimeout("unix", path, patience)
	if err == nil {
		err = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return errors.Join(fmt.Errorf("--socket %s: another program serves there", path), err)
	}
	return os.Remove(path)
}
