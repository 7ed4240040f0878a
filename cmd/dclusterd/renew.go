package main

import (
	"context"
	"errors"
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
	if c := n.conf(); n.ca != nil {
		data, err = join.Certify(n.ca, &i.Key.PublicKey, c.Node, c.Address, time.Now())
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

// askRenewal asks the join doors that the node may know of, until one answers.
func (n *node) askRenewal(ctx context.Context) ([]byte, error) {
	c, node := n.conf(), n.look()
	request, err := trust.NewRequest(c.Node, n.current().Key)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, address := range c.doors() {
		caller := join.Caller{Address: address, TLS: n.clientTLS(), Timeout: storeTime}
		reply, err := caller.Renew(ctx, join.RenewRequest{Node: node, Request: request})
		if err == nil {
			return reply.Cert, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
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
