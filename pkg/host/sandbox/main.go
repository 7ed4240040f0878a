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

// MainArg is the argument by which the program knows that it is to be a child.
const MainArg = "sandbox-child"

// What a child is to make ready before it is told its command.
const (
	ownNetwork  = "own-network"
	hostNetwork = "host-network"
	join        = "join" // nothing: the sandbox is there
)

// Main is the child's side: it makes ready, waits to be told its command, and
// becomes that. It returns the exit status if it can't.
func Main(mode string) int {
	runtime.LockOSThread()
	unix.CloseOnExec(commandFd)
	unix.CloseOnExec(statusFd)
	ready := prepare(mode)
	data, err := io.ReadAll(os.NewFile(commandFd, "command"))
	if err != nil || len(data) == 0 {
		return notExecutable // the parent gave up
	}
	cmd, err := hear(data)
	if err = errors.Join(ready, err); err == nil {
		err = cmd.become()
	}
	e := &ExecError{}
	if !errors.As(err, &e) {
		e = &ExecError{Status: own, Message: err.Error()}
	}
	if data, err = json.Marshal(e); err == nil {
		_, _ = os.NewFile(statusFd, "status").Write(data) // nobody is there who could be told
	}
	return e.Status
}

// prepare makes ready what needs nobody's word.
func prepare(mode string) error {
	if mode == join {
		return nil
	}
	// What is mounted here stays here; what is mounted on the host shows.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from the host: %w", err)
	}
	if mode == hostNetwork {
		return nil
	}
	return errors.Join(mountSys(), loopbackUp())
}

// mountSys shows the new network namespace's links in /sys/class/net. The
// cgroups, which are mounted in there, stay.
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

// loopbackUp brings lo up: to a CNI runtime that is its own work.
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
		if err := show(cmd.Files[target], target); err != nil {
			return err
		}
	}
	return cmd.exec()
}

// show mounts a file over another one. Where that is a symbolic link, the link
// itself is covered: what it leads to may be replaced at any time, and belongs
// to somebody. A path that is not there is left so.
func show(file, target string) error {
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
