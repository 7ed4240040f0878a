package service

import "dcni/pkg/wire"

// ingress stands for a container's ID in the attachment of a node. No runtime has such an ID: they
// begin with a letter or a digit.
const ingress = "_ingress"

// IngressOf returns the attachment by which a node of a cluster is on an overlay network for the
// ports of its services, whether it has a container there or not.
func IngressOf(network string) wire.Attachment {
	return wire.Attachment{Network: network, Container: ingress, IfName: "eth0"}
}

// IsIngress reports whether a container's ID stands for that.
func IsIngress(container string) bool { return container == ingress }

// IngressNames are the ID and the name under which people are shown the attachment: those that
// `docker network inspect` has for Swarm's own endpoint of a node.
func IngressNames(network string) (id, name string) { return "lb-" + network, network + "-endpoint" }

// PublishesEverywhere reports whether all nodes of a cluster publish the service's ports.
func (s Service) PublishesEverywhere() bool { return len(s.Ports) > 0 && !s.Local && !s.Removing }
