package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// MainArg is the argument that makes this program a child.
const MainArg = "sandbox-child"

// What a child prepares before it reads its command.
const (
	ownNetwork  = "own-network"
	hostNetwork = "host-network"
	join        = "join" // nothing: the sandbox exists
)

// Main is the child's side: it prepares the sandbox, reads its command, and becomes
// that. If it can't, it returns the exit status.
func Main(mode string) int {
	runtime.LockOSThread()
	unix.CloseOnExec(commandFd)
	unix.CloseOnExec(statusFd)
	ready := prepare(mode)
	data, err := io.ReadAll(os.NewFile(commandFd, "command"))
	if err != nil || len(data) == 0 {
		return statusNotExecutable // the parent gave up
	}
	cmd, err := parseCommand(data)
	if err = errors.Join(ready, err); err == nil {
		err = cmd.become()
	}
	e := &ExecError{}
	if !errors.As(err, &e) {
		e = &ExecError{Status: statusNoSandbox, Message: err.Error()}
	}
	if data, err = json.Marshal(e); err == nil {
		_, _ = os.NewFile(statusFd, "status").Write(data) // if the parent has ended, there is no reader
	}
	return e.Status
}

// prepare makes the mounts of the sandbox, and brings up lo.
func prepare(mode string) error {
	if mode == join {
		return nil
	}
	// Mounts of the sandbox stay in the sandbox; later mounts of the host show there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from the host: %w", err)
	}
	if mode == hostNetwork {
		return nil
	}
	return errors.Join(mountSys(), loopbackUp())
}

// mountSys mounts a sysfs that shows the new network namespace's links. The
// cgroups, which are mounted below /sys, stay.
func mountSys() error {
	const sys, cgroups = "/sys", "/sys/fs/cgroup"
	var stat unix.Statfs_t
	if err := unix.Statfs(sys, &stat); errors.Is(err, unix.ENOENT) {
		return nil
	}
	kept, err := unix.OpenTree(unix.AT_FDCWD, cgroups, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		kept = -1
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if stat.Flags&unix.ST_RDONLY != 0 {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("sysfs", sys, "sysfs", flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", sys, err)
	}
	if kept < 0 {
		return nil
	}
	defer unix.Close(kept)
	if err := unix.MoveMount(kept, "", unix.AT_FDCWD, cgroups, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", cgroups, err)
	}
	return nil
}

// loopbackUp brings lo up, as CNI leaves that to the runtime.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// become turns this process into the command.
func (cmd *Command) become() error {
	if cmd.Join != nil {
		if err := enter(*cmd.Join); err != nil {
			return err
		}
	}
	if cmd.Hostname != "" {
		if err := unix.Sethostname([]byte(cmd.Hostname)); err != nil {
			return fmt.Errorf("hostname %s: %w", cmd.Hostname, err)
		}
	}
	for _, target := range slices.Sorted(maps.Keys(cmd.Files)) {
		if err := mountFile(cmd.Files[target], target); err != nil {
			return err
		}
	}
	return cmd.exec()
}

// mountFile mounts a file over another one. If the target is a symbolic link, the
// mount covers the link itself: another program owns the link's target, and may
// replace it at any time. A target that does not exist is not made.
func mountFile(file, target string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, file, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount %s: %w", file, err)
	}
	defer unix.Close(fd)
	err = unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("mount %s on %s: %w", filepath.Base(file), target, err)
	}
	return nil
}
