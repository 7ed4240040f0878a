package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func TestParsePortMappings(t *testing.T) {
	for raw, want := range map[string]string{
		`[]`: "[]",
		`[{"hostPort": 8080, "containerPort": 80}]`:                                                              "[0.0.0.0:8080->80/tcp]",
		`[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "SCTP", "HostIP": "::ffff:192.0.2.1"}]`:            "[192.0.2.1:8080->80/sctp]",
		`[{"containerPort": 1}, {"containerPort": 65535, "hostPort": 65535, "protocol": "udp", "hostIP": "::"}]`: "[0.0.0.0:0->1/tcp [::]:65535->65535/udp]",
		`{}`:                        "code 7: ports: must be a list of {hostPort, containerPort, protocol, hostIP}",
		`[{"containerPort": "80"}]`: "code 7: ports: must be a list of",
		`[{"containerPort": 80, "hostPort": 65536}]`:        "code 7: ports[0].hostPort 65536: must be 0 (chosen) or 1 to 65535",
		`[{"containerPort": 80, "hostPort": -1}]`:           "code 7: ports[0].hostPort -1:",
		`[{"hostPort": 80}]`:                                "code 7: ports[0].containerPort 0: must be 1 to 65535",
		`[{"containerPort": 80}, {"containerPort": 65536}]`: "code 7: ports[1].containerPort 65536:",
		`[{"containerPort": 80, "protocol": "icmp"}]`:       `code 7: ports[0].protocol "icmp": must be tcp, udp or sctp`,
		`[{"containerPort": 80, "hostIP": "eth0"}]`:         `code 7: ports[0].hostIP "eth0": must be an address of the host`,
		`[{"containerPort": 80, "hostIP": "fe80::1%eth0"}]`: "code 7: ports[0].hostIP",
		`[{"containerPort": 80, "hostIP": "224.0.0.1"}]`:    "code 7: ports[0].hostIP",
	} {
		ports, err := ParsePortMappings("ports", []byte(raw))
		if got := portsText(ports, err); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
		if err != nil {
			continue
		}
		written, _ := json.Marshal(PortMappings(ports))
		if again := portsText(ParsePortMappings("ports", written)); again != want {
			t.Errorf("%s: written as %s and read as %s", raw, written, again)
		}
	}
}

func TestTooManyPortMappings(t *testing.T) {
	raw := "[" + strings.Repeat(`{"containerPort": 80}, `, 65535) + `{"containerPort": 80}]`
	if got := portsText(ParsePortMappings("ports", []byte(raw))); got != "code 7: ports: 65536 mappings: must be at most 65535" {
		t.Error(got)
	}
}

func portsText(ports []Port, err error) string {
	var coded *wire.Error
	if errors.As(err, &coded) {
		return fmt.Sprintf("code %d: %v", coded.Code, err)
	}
	return fmt.Sprint(ports)
}
