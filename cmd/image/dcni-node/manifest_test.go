package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/yaml"
)

// A manifest is what the tests look at of an object of Kubernetes.
type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				ServiceAccountName         string
				HostPID, HostNetwork       bool
				InitContainers, Containers []container
			}
		}
	}
}

type container struct {
	Name, Image                   string
	Args                          []string
	ReadinessProbe, LivenessProbe struct{ Exec struct{ Command []string } }
	SecurityContext               struct {
		Privileged, AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem               bool
		Capabilities                         struct{ Add, Drop []string }
	}
}

func manifests(t *testing.T, name string) (list []manifest) {
	t.Helper()
	for i, document := range strings.Split(read(t, "../../../kubernetes/"+name), "\n---\n") {
		text, err := yaml.ToJSON([]byte(document))
		if err != nil {
			t.Fatalf("%s: document %d: %v", name, i, err)
		}
		var m manifest
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%s: document %d: %v", name, i, err)
		}
		if m.Metadata.Namespace != "kube-system" && !strings.HasPrefix(m.Kind, "ClusterRole") {
			t.Errorf("%s: %s %s is in namespace %q", name, m.Kind, m.Metadata.Name, m.Metadata.Namespace)
		}
		list = append(list, m)
	}
	return list
}

func containers(m manifest) []container {
	return slices.Concat(m.Spec.Template.Spec.InitContainers, m.Spec.Template.Spec.Containers)
}

// TestManifests: the manifests say to this program what it knows, with the privileges that dnetd has under
// systemd, and one more to get among the host's files.
func TestManifests(t *testing.T) {
	_, unit, _ := strings.Cut(read(t, "../../../scripts/systemd/dnetd.service"), "\nCapabilityBoundingSet=")
	unit, _, _ = strings.Cut(unit, "\n")
	want := append(strings.Fields(strings.ReplaceAll(unit, "CAP_", "")), "SYS_CHROOT")
	slices.Sort(want)
	for _, name := range []string{"dcni.yaml", "dcni-remove.yaml"} {
		set := manifests(t, name)
		m := set[len(set)-1]
		if m.Kind != "DaemonSet" || !m.Spec.Template.Spec.HostPID || !m.Spec.Template.Spec.HostNetwork {
			t.Errorf("%s: the last one is a %s", name, m.Kind)
		}
		privileged := 0
		for _, c := range containers(m) {
			s := c.SecurityContext
			add := slices.Sorted(slices.Values(s.Capabilities.Add))
			if s.Privileged != nil || !s.ReadOnlyRootFilesystem || fmt.Sprint(s.Capabilities.Drop) != "[ALL]" {
				t.Errorf("%s: %s: %+v", name, c.Name, s)
			}
			if len(add) > 0 {
				privileged++
				if !slices.Equal(add, want) {
					t.Errorf("%s: %s has %v, want %v", name, c.Name, add, want)
				}
			}
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
				t.Errorf("%s: %s may escalate", name, c.Name)
			}
			checkVerbs(t, name+": "+c.Name, c)
		}
		if privileged != 1 {
			t.Errorf("%s: %d containers have capabilities, want 1", name, privileged)
		}
	}
}

// checkVerbs looks whether a container's command lines are this program's, and its image what the build replaces.
func checkVerbs(t *testing.T, where string, c container) {
	t.Helper()
	if !regexp.MustCompile(`^dcni\.invalid/dcni:[0-9.]+$`).MatchString(c.Image) {
		t.Errorf("%s: image %s", where, c.Image)
	}
	switch verb := c.Args[0]; verb {
	case "install", "remove":
		if _, err := parse(verb, c.Args[1:], io.Discard); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	case "serve":
		if ready, alive := c.ReadinessProbe.Exec.Command, c.LivenessProbe.Exec.Command; fmt.Sprint(ready, alive) != "[/usr/bin/dcni-node ready] [/usr/bin/dcni-node alive]" {
			t.Errorf("%s: probes %v, %v", where, ready, alive)
		}
	case "wait":
	default:
		t.Errorf("%s: what is %s?", where, verb)
	}
}

// TestNetwork: the plugin takes the configuration in the ConfigMap, and both manifests name its file.
func TestNetwork(t *testing.T) {
	set := manifests(t, "dcni.yaml")
	n, _ := testNode(t)
	for name, text := range set[0].Data {
		write(t, n.network, text)
		n.podCIDRs = func() ([]string, error) { return []string{"10.244.7.0/24"}, nil }
		if err := n.install(); err != nil {
			t.Error(err)
		}
		for _, file := range []string{"dcni.yaml", "dcni-remove.yaml"} {
			text, err := os.ReadFile("../../../kubernetes/" + file)
			if err != nil || !strings.Contains(string(text), "--conf=/host/net.d/"+name+"]") && !strings.Contains(string(text), "--conf=/host/net.d/"+name+",") {
				t.Errorf("%s does not name %s: %v", file, name, err)
			}
		}
	}
	if len(set[0].Data) != 1 {
		t.Errorf("the ConfigMap has %d files", len(set[0].Data))
	}
}
