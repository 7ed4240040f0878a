package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestErrandNonBlockingOutput has a runtime read its plugin's output from a pipe
// that does not block and takes a page at a time. The result comes whole, and
// once.
func TestErrandNonBlockingOutput(t *testing.T) {
	r := namesRig(t)
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
	call.Stdin, call.Stdout = nil, in
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
	_, _ = io.WriteString(stdin, conf) // a plugin that is gone shows below
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
