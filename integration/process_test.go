package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/integration/testhost"
)

// TestNonBlockingOutput has a runtime read its plugin's output from a pipe
// that does not block and takes a page at a time. The result comes whole, and
// once.
func TestNonBlockingOutput(t *testing.T) {
	r := namesFixture(t)
	const routes = 300
	var list []string
	for i := range routes {
		list = append(list, fmt.Sprintf(`{"dst": "10.99.%d.0/24", "gw": "10.88.0.1"}`, i%256))
	}
	conf := strings.Replace(killNamesConf, `"dns": {`, `"routes": [`+strings.Join(list, ",")+`], "dns": {`, 1)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	out, in := os.NewFile(uintptr(pipe[0]), "out"), os.NewFile(uintptr(pipe[1]), "in")
	defer out.Close()
	defer in.Close()
	if _, err := unix.FcntlInt(out.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	call := pluginCall("ADD", "ddns", "")
	// The plugin starts when the configuration comes, so the pipe does not block from its beginning, as a runtime's.
	call.Path, call.Args = "/bin/sh", []string{"sh", "-c", `read -r conf; printf %s "$conf" | exec "$0"`, call.Path}
	call.Stdin, call.Stdout, call.Stderr = nil, in, os.Stderr
	stdin, err := call.StdinPipe()
	if err == nil {
		err = call.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pipe[1], true); err != nil { // the plugin's end is the same open file
		t.Error(err)
	}
	in.Close()
	_, _ = io.WriteString(stdin, strings.ReplaceAll(conf, "\n", " ")+"\n") // a plugin that is gone shows below
	stdin.Close()
	time.Sleep(100 * time.Millisecond) // the pipe is full
	printed, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	if err := call.Wait(); err != nil {
		t.Error(err)
	}
	var result struct{ Routes []any }
	if err := json.Unmarshal(printed, &result); err != nil || len(result.Routes) != routes {
		t.Errorf("%d bytes with %d routes of %d: %v", len(printed), len(result.Routes), routes, err)
	}
	r.ok(r.plugin("DEL", "ddns", conf))
	r.nameless("DEL")
}

// TestOpenSandbox has a runtime hand the sandbox to its plugin as an open
// file, by a path that means another file to dnetd, or none.
func TestOpenSandbox(t *testing.T) {
	r := namesFixture(t)
	sandbox, err := os.Open(testhost.NetNSPath("c1"))
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	for _, path := range []string{"/proc/self/fd/3", "/proc/../proc/thread-self/fd/3", "/dev/fd/3"} {
		for _, verb := range []string{"ADD", "DEL"} {
			call := pluginCall(verb, "ddns", killNamesConf)
			call.Env = append(call.Env, "CNI_NETNS="+path) // the last counts: os/exec
			call.ExtraFiles = []*os.File{sandbox}
			r.ok(outcomeOf(call))
			if is := r.asked("c1"); verb == "ADD" && is != "10.88.0.2" {
				t.Errorf("%s: c1 is said to be %q", path, is)
			}
		}
	}
	r.ok(r.plugin("DEL", "ddns", killNamesConf))
	r.nameless("DEL")
}

// TestOtherRoot has a runtime start its plugin in another root directory,
// where the sandbox's path is that of another one.
func TestOtherRoot(t *testing.T) {
	r := namesFixture(t)
	r.netns("c2")
	const root = "/run/root"
	r.run("mkdir", root)
	r.run("mount", "--rbind", "/", root)
	r.run("mount", "--make-rprivate", root)
	defer r.run("umount", "-l", root)
	r.run("mount", "--bind", testhost.NetNSPath("c2"), root+testhost.NetNSPath("c1"))
	for _, verb := range []string{"ADD", "DEL"} {
		call := pluginCall(verb, "ddns", killNamesConf)
		call.Dir, call.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
		r.ok(outcomeOf(call))
		for name, listens := range map[string]bool{"c1": false, "c2": verb == "ADD"} {
			if is := r.run("nsenter", "--net="+testhost.NetNSPath(name), "ss", "-Hlnut"); (is != "") != listens {
				t.Errorf("%s: %s has %q, want something: %t", verb, name, is, listens)
			}
		}
	}
}
