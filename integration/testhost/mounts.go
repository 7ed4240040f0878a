package testhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// debianPlugins is where Debian's containernetworking-plugins puts its files,
// and where its containerd looks for plugins.
const debianPlugins = "/usr/lib/cni"

// mountAll gives the thread's mount namespace the file system of a fresh host.
func mountAll(plugins string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for dir, mode := range map[string]string{"/run": "mode=755", "/dev/shm": "mode=1777"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, mode); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for _, dir := range []string{"/etc", "/opt", "/var/lib"} {
		if err := overlay(dir); err != nil {
			return err
		}
	}
	return errors.Join(emptyPlaces(), writeResolvConf(), mountSys(), mountPlugins(plugins))
}

// overlay makes a directory writable: what is written goes to /run.
func overlay(dir string) error {
	layer := filepath.Join("/run/.lab", dir)
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay on %s: %w", dir, err)
	}
	return nil
}

// emptyPlaces forgets what the machine's own CNI plugins keep.
func emptyPlaces() error {
	for _, dir := range []string{"/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/dcni"} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return errors.Join(os.MkdirAll("/etc/cni/net.d", 0o755), os.MkdirAll("/opt/cni/bin", 0o755))
}

// writeResolvConf names the outside as name server. The machine's own file may
// be a link into the /run that is hidden now.
func writeResolvConf() error {
	return replace("/etc/resolv.conf", "nameserver "+OutsideIPv4+"\n")
}

// replace writes a file where the machine's own may be a link, or in a container a mount.
func replace(path, text string) error {
	_ = unix.Unmount(path, unix.MNT_DETACH) // elsewhere there is nothing to unmount
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// mountSys shows the links of the new network namespace in /sys/class/net, and
// keeps the cgroups where they were.
func mountSys() error {
	const cgroups, saved = "/sys/fs/cgroup", "/run/.lab/cgroup"
	if err := os.MkdirAll(saved, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(cgroups, saved, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", cgroups, err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount(saved, cgroups, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s: %w", cgroups, err)
	}
	return nil
}

// mountPlugins puts the plugins under test before Debian's, in both places
// where runtimes look for plugins, and behind them those that were built to test with.
func mountPlugins(plugins string) error {
	var lower []string
	for _, dir := range []string{plugins, debianPlugins} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			lower = append(lower, dir)
		}
	}
	const built = "/run/.lab/plugins" // an overlay without upper layer wants two others
	if err := os.MkdirAll(built, 0o755); err != nil {
		return err
	}
	clients, _ := filepath.Glob(filepath.Join(plugins, "test/plugins/*")) // the pattern is a good one
	for _, file := range clients {
		if err := os.Symlink(file, filepath.Join(built, filepath.Base(file))); err != nil {
			return err
		}
	}
	lower = append(lower, built)
	for _, dir := range []string{"/opt/cni/bin", debianPlugins} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+strings.Join(lower, ":")); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", dir, err)
		}
	}
	return nil
}
