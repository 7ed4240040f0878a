package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/mode"
)

// TestMain has this program be what it tests where it is called by another name.
func TestMain(m *testing.M) {
	if !strings.HasSuffix(os.Args[0], ".test") {
		main()
	}
	os.Exit(m.Run())
}

// call runs this program by a name, as runtimes do: with an absolute path.
func call(t *testing.T, name, stdin string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0], cmd.Env, cmd.Stdin = filepath.Join("/opt/cni/bin", name), env, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestNames: each plugin is there by its name, and there is a folder with a manual and a program
// of its own for each.
func TestNames(t *testing.T) {
	folders, err := filepath.Glob("../../*/main.go")
	if err != nil || len(folders) != len(mode.All)+1 {
		t.Fatalf("%v, %v: want one for each of %d modes, and dipam", folders, err, len(mode.All))
	}
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		if out, err := call(t, name, ""); err != nil || !strings.HasPrefix(out, "CNI "+name+" plugin v") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		conf := `{"cniVersion": "1.0.0", "name": "web", "type": "` + name + `", "ipam": {"type": "foreign"}, "odd": 1}`
		out, err := call(t, name, conf, "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=/no/such", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin")
		if err == nil || strings.Contains(out, `must be one of`) || !strings.Contains(out, `"code": 7`) && name != "dipam" {
			t.Errorf("%s is not the plugin: %v: %s", name, err, out)
		}
	}
}

// TestNoPlugin calls the program by its own name, as a client of all files in the directory does, and for a
// configuration that says so.
func TestNoPlugin(t *testing.T) {
	if out, err := call(t, "dcni", ""); err != nil || !strings.HasPrefix(out, "CNI dcni plugin v") {
		t.Errorf("%v: %s", err, out)
	}
	conf := `{"cniVersion": "1.0.0", "name": "web", "type": "dcni"}`
	out, err := call(t, "dcni", conf, "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=/no/such", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin")
	if err == nil || !strings.Contains(out, `type \"dcni\": must be one of dbridge, dcontainer, ddns, `) {
		t.Errorf("%v: %s", err, out)
	}
}
