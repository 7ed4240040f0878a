// Package member runs a member of an etcd cluster inside this process.
//
// etcd ends the process itself (os.Exit) where it can't go on, as on a full disk: the caller of
// [Start] has a process for it alone.
package member

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Config is a member.
type Config struct {
	Name string // among the members
	Dir  string // of its data, made with mode 0700; 123 MB from the start

	// URLs, https://10.0.0.1:2379. All are of one scheme: https with TLS, else http.
	Client       string // where clients are served
	Peer         string // where the other members are
	AdvertiseURL string // where clients are told to come to; "": Client

	TLS TLS

	// Members are the peer URLs of all members by name, this one's as well. With State
	// they count only as long as Dir is empty.
	Members map[string]string
	Cluster string // a word of the cluster's own: members of others are refused
	State   State
	// ForceNew begins a cluster of this member alone with the data that it has, to
	// rescue what is left of one that lost its quorum.
	ForceNew bool

	Quota int64 // bytes of the database, beyond which it takes no more; 0: etcd's default, 2 GiB
	// Log is a path, or "stderr"; "": nowhere. One line of JSON a message, warnings and
	// errors only.
	Log string
}

// A State says whether there is a cluster.
type State string

// The states.
const (
	New      State = "new"      // the members begin it together
	Existing State = "existing" // it was told of this member before
)

// TLS is files in PEM. etcd reads certificate and key for each connection, so they may be
// renewed; not so the CA. Clients and members both have to show a certificate of that CA.
type TLS struct{ CA, Cert, Key string }

// A Member is a running member.
type Member struct {
	etcd *embed.Etcd
}

// Start starts a member and waits until it is in its cluster, or the context has ended.
func Start(ctx context.Context, c Config) (*Member, error) {
	config, err := c.etcd()
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("etcd member %s: %w", c.Name, err)
	}
	m := &Member{etcd: e}
	select {
	case <-e.Server.ReadyNotify():
		return m, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped")
	case <-ctx.Done():
		err = fmt.Errorf("it is not in its cluster: %w", ctx.Err())
	}
	m.Close()
	return nil, fmt.Errorf("etcd member %s: %w", c.Name, err)
}

// Wait waits until the member has stopped, and returns why, or until the context has
// ended, and returns nil.
func (m *Member) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-m.etcd.Err():
		return fmt.Errorf("etcd member: %w", err)
	case <-m.etcd.Server.StopNotify(): // as one that was removed does
		return errors.New("etcd member: it stopped")
	}
}

// Close stops the member. A leader hands its office on before.
func (m *Member) Close() { m.etcd.Close() }

// ID returns the member's, hexadecimal, as etcd's own tools show it.
func (m *Member) ID() string { return m.etcd.Server.MemberID().String() }

// etcd returns the configuration as etcd has it.
func (c Config) etcd() (*embed.Config, error) {
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.Dir
	if err := c.setURLs(e); err != nil {
		return nil, err
	}
	var members []string
	for _, name := range slices.Sorted(maps.Keys(c.Members)) {
		members = append(members, name+"="+c.Members[name])
	}
	if c.Members[c.Name] != c.Peer {
		return nil, fmt.Errorf("etcd member %s: the members' URLs say %q of it, must be %q", c.Name, c.Members[c.Name], c.Peer)
	}
	e.InitialCluster, e.InitialClusterToken = strings.Join(members, ","), c.Cluster
	e.ForceNewCluster = c.ForceNew
	switch c.State {
	case New, Existing:
		e.ClusterState = string(c.State)
	default:
		return nil, fmt.Errorf("etcd member %s: state %q: must be new or existing", c.Name, c.State)
	}
	e.QuotaBackendBytes = c.Quota
	// Nodes resume their watches, and list anew after an hour away.
	e.AutoCompactionMode, e.AutoCompactionRetention = "periodic", "1h"
	e.EnableGRPCGateway = false
	e.LogLevel, e.LogOutputs = "warn", []string{c.Log}
	if c.Log == "" {
		e.LogLevel, e.LogOutputs = "fatal", []string{"/dev/null"}
	}
	return e, nil
}

// setURLs sets where the member is, and how it knows others.
func (c Config) setURLs(e *embed.Config) error {
	client, err := c.parse("client", c.Client)
	if err != nil {
		return err
	}
	peer, err := c.parse("peer", c.Peer)
	if err != nil {
		return err
	}
	advertised := client
	if c.AdvertiseURL != "" {
		if advertised, err = c.parse("advertised", c.AdvertiseURL); err != nil {
			return err
		}
	}
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{client}, []url.URL{advertised}
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	if c.TLS != (TLS{}) {
		info := transport.TLSInfo{CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, TrustedCAFile: c.TLS.CA, ClientCertAuth: true}
		e.ClientTLSInfo, e.PeerTLSInfo = info, info
	}
	return nil
}

func (c Config) parse(what, text string) (url.URL, error) {
	scheme := "http"
	if c.TLS != (TLS{}) {
		scheme = "https"
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Port() == "" || u.Path != "" {
		return url.URL{}, fmt.Errorf("etcd member %s: %s URL %q: must be %s://ADDRESS:PORT", c.Name, what, text, scheme)
	}
	return *u, nil
}
