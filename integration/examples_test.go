package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const examples = "../conf-examples"

// TestExamples runs every network of conf-examples: a container is attached
// with all that the file lets a runtime ask for, checked, and detached.
func TestExamples(t *testing.T) {
	if missing := dcni.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	files, err := filepath.Glob(examples + "/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", examples, len(files), err)
	}
	dir := t.TempDir()
	for _, file := range files {
		conf, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".conflist")
		script := exampleScript(t, conf) + "\n-- net.conflist --\n" + string(conf) + donorFile
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scripts, _ := filepath.Glob(dir + "/*.txtar")
	runScripts(t, groupOf(t), scripts)
}

// exampleScript is the session for one file.
func exampleScript(t *testing.T, conf []byte) string {
	var list struct {
		Versions []string `json:"cniVersions"`
		Plugins  []struct {
			Type         string          `json:"type"`
			Container    string          `json:"container"`
			Capabilities map[string]bool `json:"capabilities"`
			IPAM         struct {
				Subnet netip.Prefix `json:"subnet"`
			} `json:"ipam"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(conf, &list); err != nil {
		t.Fatal(err)
	}
	words := map[string]string{"portMappings": " port=8080:80 port=5353:53/udp", "mac": " mac=02:42:0a:17:00:07"}
	if subnet := list.Plugins[0].IPAM.Subnet; subnet.IsValid() {
		words["ips"] = " ip=" + subnet.Addr().Next().Next().Next().String()
	}
	var requests string
	for capability, words := range words {
		if list.Plugins[0].Capabilities[capability] {
			requests += words
		}
	}
	// Once before the picture: networks outlive their attachments.
	attach := fmt.Sprintf("cni add net.conflist c1%s\ncni check net.conflist c1\ncni del net.conflist c1\n", requests)
	script := donorScript(list.Plugins[0].Container) + "netns c1\nexec install -D -m 644 /dev/null /etc/dcni/allow-host-network\n" + attach + "snapshot before\n" + attach + "unchanged before\n"
	if list.Plugins[0].Type == "dipvlan" {
		script = "[!kernel:ipvlan] skip 'the kernel has no ipvlan'\n" + script
	}
	if slices.Contains(list.Versions, "1.1.0") {
		script += "cni status net.conflist\n"
	}
	return script
}

// donorFile is the configuration of donorScript.
const donorFile = "\n-- donor.json --\n" + `{"cniVersion": "1.0.0", "name": "donor", "type": "dnone"}` + "\n"

// donorScript attaches the container whose network another one joins.
func donorScript(name string) string {
	if name == "" {
		return ""
	}
	return "netns " + name + "\nplugin add dnone donor.json containerid=" + name + " netns=" + name + " ifname=eth0\n"
}

// TestExamplesTable compares the files with the table of their README.
func TestExamplesTable(t *testing.T) {
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(examples + "/*.conflist")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if !strings.Contains(string(readme), fmt.Sprintf("| [%s](%s) | ", name, name)) {
			t.Errorf("%s has no row in README.md", name)
		}
	}
	if rows := strings.Count(string(readme), ".conflist)"); rows != len(files) {
		t.Errorf("README.md has %d rows for %d files", rows, len(files))
	}
}
