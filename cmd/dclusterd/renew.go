package main

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// renewPause is the time between two looks at the node's certificate.
const renewPause = time.Hour

// renewInTime renews the node's certificate after two thirds of its time.
func (n *node) renewInTime(ctx context.Context) {
	for {
		if time.Now().After(trust.RenewAt(n.current().Cert)) {
			if err := n.renew(ctx); err != nil {
				n.log.Error("the node's certificate is not renewed", "error", err, "expires", n.current().Cert.NotAfter)
			}
		}
		if !sleep(ctx, renewPause) {
			return
		}
	}
}

// renew gets another certificate for the node's key, from the node's own CA or from a
// join door.
func (n *node) renew(ctx context.Context) error {
	i := n.current()
	var data []byte
	var err error
	if c, ca := n.conf(), n.authority(); ca != nil {
		data, err = join.Certify(ca, &i.Key.PublicKey, c.Node, c.Address, time.Now())
	} else {
		data, err = n.askRenewal(ctx)
	}
	if err != nil {
		return err
	}
	if i.Cert, err = trust.ParseCert("", data); err != nil {
		return err
	}
	if err := n.state.Write(fileCert, data); err != nil {
		return err
	}
	n.identity.Store(&i)
	n.log.Info("the node has another certificate", "expires", i.Cert.NotAfter)
	return nil
}

// askRenewal asks for another certificate at a join door.
func (n *node) askRenewal(ctx context.Context) (cert []byte, err error) {
	node := n.look()
	request, err := trust.NewRequest(n.conf().Node, n.current().Key)
	if err != nil {
		return nil, err
	}
	err = n.askDoors(func(caller join.Caller) error {
		reply, err := caller.Renew(ctx, join.RenewRequest{Node: node, Request: request})
		cert = reply.Cert
		return err
	})
	return cert, err
}

// doors are where a join door may be: where the node joined, and at each member of the
// store.
func (c config) doors() []string {
	var list []string
	if c.Door != "" {
		list = append(list, c.Door)
	}
	for _, endpoint := range c.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue
		}
		address := net.JoinHostPort(u.Hostname(), strconv.Itoa(join.Port))
		if !slices.Contains(list, address) {
			list = append(list, address)
		}
	}
	return list
}
