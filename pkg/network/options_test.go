package network

import (
	"encoding/json"
	"fmt"
	"testing"

	"dcni/pkg/ipam"
)

// ipamExamples has a value for each key of dipam's section.
var ipamExamples = map[string]string{
	"type": `"host-local"`, "subnet": `"10.2.0.0/24"`, "ipRange": `"10.1.0.128/25"`, "gateway": `"10.1.0.9"`, "auxAddresses": `{"printer": "10.1.0.7"}`,
	"subnets": `[{"subnet": "10.3.0.0/24"}]`, "routes": `[{"dst": "192.0.2.0/24"}]`, "allocation": `"lowest"`, "sticky": "true", "dataDir": `"/x"`,
}

// namesExamples has a value for each key of ddns, which are those of "names" as well.
var namesExamples = map[string]string{
	"servers": `["192.0.2.53"]`, "search": `["example"]`, "options": `["timeout:1"]`, "ttl": "7", "intercept": "true", "gateway": "true", "fromArgs": `["JOB"]`,
	"hosts": `{"printer": "192.0.2.9"}`, "names": "false", "ipam": `{"type": "dipam"}`, "name": `"lab"`, "prevResult": `{"dns": {"search": ["prev"]}}`,
	"dns": `{"search": ["dns"]}`, "runtimeConfig": `{"dns": {"searches": ["runtime"]}}`,
}

// TestEveryKey: each key of dipam and of ddns changes something, or is refused.
func TestEveryKey(t *testing.T) {
	ipamOf := func(key, value string) string {
		section := map[string]json.RawMessage{"type": json.RawMessage(`"dipam"`), "subnet": json.RawMessage(`"10.1.0.0/24"`)}
		if key != "" {
			section[key] = json.RawMessage(value)
		}
		raw, err := json.Marshal(section)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseIPAM(raw)
		return fmt.Sprintf("%+v %v", parsed, err)
	}
	namesOf := func(key, value string) string {
		if key == "" {
			key, value = "comment", `""`
		}
		conf, err := ReadConf(fmt.Appendf(nil, `{"name": "web", "type": "ddns", "names": true, %q: %s}`, key, value))
		if err != nil {
			t.Fatal(err)
		}
		n, err := conf.DDNS()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s %v %v %t %v", ddnsString(n), n.DNS, n.hosts, *n.Given, n.FromArgs)
	}
	for _, kind := range []struct {
		known    []string
		examples map[string]string
		read     func(key, value string) string
	}{
		{Known(&ipam.Raw{}), ipamExamples, ipamOf},
		{append(Known(&rawNames{}), Known(&rawDDNS{})...), namesExamples, namesOf},
	} {
		plain := kind.read("", "")
		for _, key := range kind.known {
			value := kind.examples[key]
			switch {
			case value == "":
				t.Errorf("%s has no example here", key)
			case key == "name": // the engine's
			case kind.read(key, value) == plain:
				t.Errorf("%s %s is accepted and changes nothing", key, value)
			}
		}
	}
}
