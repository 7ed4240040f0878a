package container

import (
	"fmt"
	"strings"
	"testing"
)

func TestServicePorts(t *testing.T) {
	for words, want := range map[string]string{
		"8080:80": "[*:8080->80/tcp] false", "53:5353/udp": "[*:53->5353/udp] false", "9:9/SCTP": "[*:9->9/sctp] false",
		"8080-8081:80-81":                                 "[*:8080->80/tcp *:8081->81/tcp] false",
		"published=8080,target=80":                        "[*:8080->80/tcp] false",
		"published=8080,target=80,protocol=udp,mode=host": "[*:8080->80/udp] true",
		"80:80 80:80/udp":                                 "[*:80->80/tcp *:80->80/udp] false",
		"published=1,target=1,mode=ingress 2:2":           "[*:1->1/tcp *:2->2/tcp] false",
		"8080:0":                                          "-p 8080:0: invalid containerPort: 0",
		"80":                                              "-p 80: must say the published port, 1 to 65535, as 8080:80",
		"0:80":                                            "-p 0:80: must say the published port",
		"70000:80":                                        "-p 70000:80: invalid hostPort: 70000",
		"127.0.0.1:8080:80":                               "-p 127.0.0.1:8080:80: must have no address of the host",
		"8080-8090:80":                                    "-p 8080-8090:80: must be as many published ports as target ports",
		"80:80/icmp":                                      "-p 80:80/icmp: invalid proto: icmp",
		"80:80 80:81":                                     "-p 80:81: publishes 80/tcp a second time",
		"published=1,target=1,mode=mesh":                  "-p published=1,target=1,mode=mesh: mode must be ingress or host",
		"published=1,target=1,mode=host 2:2":              "-p: mode must be the same for all ports of a service",
	} {
		ports, host, err := ServicePorts(strings.Fields(words))
		got := fmt.Sprint(ports, " ", host)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
}
