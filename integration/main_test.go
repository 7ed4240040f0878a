package integration

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dcni/integration/testhost"
)

// binaries is where `make build` puts the plugins; tools of the tests are in
// its directory "test". The test binary runs in this folder.
var binaries, _ = filepath.Abs("../bin")

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	err := testhost.Isolate()
	if err == nil {
		err = announce()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestParity runs each script of testdata/parity against the reference plugins
// and against ours: the same session, the same answers.
func TestParity(t *testing.T) {
	t.Parallel()
	t.Run(reference.name, run)
	t.Run(dcni.name, run)
}

// TestDCNI runs the scripts about what only our plugins do, or do better.
func TestDCNI(t *testing.T) { run(t) }

// TestAlone runs the scripts about our plugins that measure or make crowds, no two of them at once.
func TestAlone(t *testing.T) {
	t.Parallel()
	run(t)
}

// TestDCNIWithoutBridgeNetfilter runs the scripts about bridges once more, in
// hosts whose bridged packets don't pass the IP rules. A fresh namespace has
// that on wherever the kernel has br_netfilter: TestDCNI runs with it.
func TestDCNIWithoutBridgeNetfilter(t *testing.T) {
	if _, err := os.Stat(bridgeNetfilter + "iptables"); err != nil {
		t.Skip("the kernel has no br_netfilter: TestDCNI ran without it")
	}
	run(t)
}

// bridgeNetfilter is what the settings of br_netfilter begin with.
const bridgeNetfilter = "/proc/sys/net/bridge/bridge-nf-call-"

// TestDemo runs the session that `make demo` shows.
func TestDemo(t *testing.T) { run(t) }

// TestHarness runs the scripts about the harness itself.
func TestHarness(t *testing.T) { run(t) }

// session is what the commands of one script share about one host.
type session struct {
	*testhost.Host
	suite     suite
	script    *script
	name      string // the node's, "" for the host that each script has
	snapshots map[string]picture
	calls     map[string]*call // by attachment: how ADD was called
	cri       *criClient       // nil until the script starts containerd
	podman    bool             // the script has called podman
	nerdctl   bool             // the script has called nerdctl
	cut       []string         // nodes whose packets are dropped here
}

type scriptKey struct{}

// of returns the session of the host in which a script is.
func of(ts *testscript.TestScript) *session { return ts.Value(scriptKey{}).(*script).now }

// setup makes the script's host. It runs on the goroutine that will run the
// script, so the script and all it starts are in that host.
func (s suite) setup(env *testscript.Env) error {
	host, err := testhost.NewHost(binaries)
	if err != nil {
		return err
	}
	if s.noBridgeNetfilter {
		for _, family := range []string{"iptables", "ip6tables"} {
			if err := os.WriteFile(bridgeNetfilter+family, []byte("0"), 0); err != nil {
				return err
			}
		}
	}
	all := newScript(s, host)
	env.Values[scriptKey{}] = all
	env.Defer(all.close)
	env.Setenv("PATH", strings.Join([]string{binaries, binaries + "/test", binaries + "/test/docker/usr/bin", binaries + "/test/clients",
		binaries + "/test/networkmanager/usr/bin", binaries + "/test/networkmanager/usr/sbin", env.Getenv("PATH"), "/usr/sbin", "/sbin"}, ":"))
	env.Setenv("CNI_PATH", "/opt/cni/bin")
	dir, _ := filepath.Abs(examples) // the test runs in this folder
	env.Setenv("EXAMPLES", dir)
	env.Setenv("CHURN", cmp.Or(os.Getenv("DCNI_CHURN"), "20")) // seconds of tasks that come and go
	for name, value := range s.conf {
		env.Setenv(name, value)
	}
	return nil
}

// condition answers [suite:NAME], [have:BINARY], [kernel:FEATURE], [podman:cni]
// and [systemd].
func (s suite) condition(cond string) (bool, error) {
	kind, arg, _ := strings.Cut(cond, ":")
	switch kind {
	case "systemd":
		return systemd != "", nil
	case "suite":
		return arg == s.name, nil
	case "have":
		_, err := os.Stat(filepath.Join(binaries, arg))
		return err == nil, nil
	case "kernel":
		return kernelHas(arg)
	case "podman":
		return arg == "cni" && podmanHasCNI(), nil
	}
	return false, fmt.Errorf("unknown condition %q: want suite:, have:, kernel: or podman: before it, or systemd", cond)
}

// kernelHas tries what the kernel can do. The links are made in the script's
// throwaway host, and gone with it.
func kernelHas(feature string) (bool, error) {
	switch feature {
	case "sctp":
		fd, err := socket("sctp", false)
		if err == nil {
			_ = fd.Close()
		}
		return err == nil, nil
	case "esp":
		add := "state add src 192.0.2.98 dst 192.0.2.99 proto esp spi 0x4711 mode transport aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128"
		has := exec.Command("ip", append([]string{"xfrm"}, strings.Fields(add)...)...).Run() == nil
		if has {
			return true, exec.Command("ip", "xfrm", "state", "flush").Run()
		}
		return false, nil
	case "macvlan", "ipvlan", "vlan", "vxlan", "vrf":
		args := []string{"link", "add", "link", "eth0", "name", "probe0", "type", feature}
		switch feature {
		case "vlan", "vxlan":
			args = append(args, "id", "7")
		case "vrf":
			args = []string{"link", "add", "name", "probe0", "type", feature, "table", "7"}
		}
		has := exec.Command("ip", args...).Run() == nil
		if has {
			return true, exec.Command("ip", "link", "del", "probe0").Run()
		}
		return false, nil
	}
	return false, fmt.Errorf("unknown kernel feature %q: want sctp, esp, macvlan, ipvlan, vlan, vxlan or vrf", feature)
}
