package main

import (
	"context"

	"dcni/pkg/overlay/etcd"
)

// etcdStore is the backend on etcd.
type etcdStore struct {
	*etcd.Store
	external bool
}

// openEtcd opens a node's store: the cluster's own, or an external one.
func openEtcd(c config, s state) (backend, error) {
	e := etcd.Config{Endpoints: c.Endpoints}
	if c.External != nil {
		e.TLS = etcd.TLS{CA: c.External.CA, Cert: c.External.Cert, Key: c.External.Key}
	} else {
		e.TLS = etcd.TLS{CA: s.Path(fileCA), Cert: s.Path(fileCert), Key: s.Path(fileKey)}
	}
	store, err := etcd.Open(e)
	if err != nil {
		return nil, err
	}
	return etcdStore{store, c.External != nil}, nil
}

// Warning is what is to be told about etcd's version; the error says why it can't be the
// store. Of an external etcd it is assumed that it lets the node at its own prefix only.
func (e etcdStore) Warning(ctx context.Context) (string, error) {
	version, err := e.Version(ctx)
	if err != nil {
		return "", err
	}
	return etcd.CheckVersion(version, e.external)
}
