package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/records"
	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// The files of records.Cluster.
const (
	fileConfig  = "cluster.json"
	fileCA      = "ca.crt"
	fileCAKey   = "ca.key"
	fileCert    = "node.crt"
	fileKey     = "node.key"
	fileBoot    = "boot" // the epoch of the boot in which releaseEarlier was done
	dirMember   = "member"
	dirReleases = "releases"
)

// A config is cluster.json: which node of which cluster the host is.
type config struct {
	Cluster   string            `json:"cluster"` // ID
	Prefix    string            `json:"prefix"`  // of the cluster's keys
	Node      string            `json:"node"`
	ID        string            `json:"id"`                  // of the installation
	Address   netip.Addr        `json:"address"`             // where other nodes reach this one
	Endpoints []string          `json:"endpoints"`           // URLs of the store's members
	Recovered string            `json:"recovered,omitempty"` // the recovery of the store that the node has had a part in
	Door      string            `json:"door,omitempty"`      // HOST:PORT where the node joined
	External  *cluster.External `json:"external,omitempty"`
	Member    *memberConfig     `json:"member,omitempty"`  // the node runs a member
	DataDir   string            `json:"dataDir,omitempty"` // of the member that it may run; "": in the cluster's directory
}

// A memberConfig is how the member was made.
type memberConfig struct {
	Dir     string            `json:"dir"`     // its data
	Members map[string]string `json:"members"` // peer URLs of all members, by name, when it was made
	// Existing says that it joins members that are there.
	Existing bool `json:"existing,omitempty"`
	// Began says that it has run: its data is there, or lost.
	Began bool `json:"began,omitempty"`
	// Alone says that it is to forget the other members, once.
	Alone bool `json:"alone,omitempty"`

	private string // URL where clients are served in place of the node's; "": the node's
}

// The ports of the store's members.
const (
	portClient = 2379
	portPeer   = 2380
)

// hostPort is the node's address with a port.
func (c config) hostPort(n int) string { return net.JoinHostPort(c.Address.String(), strconv.Itoa(n)) }

func (c config) clientURL() string { return "https://" + c.hostPort(portClient) }
func (c config) peerURL() string   { return "https://" + c.hostPort(portPeer) }

// A state is the files of the host's node.
type state struct{ records.Cluster }

func (s state) read() (config, error) {
	var c config
	data, err := s.Read(fileConfig)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", s.Path(fileConfig), err)
	}
	return c, nil
}

func (s state) write(c config) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return s.Write(fileConfig, append(data, '\n'))
}

// forget removes all that makes the host a node, but for its ID.
func (s state) forget(c config) error {
	err := s.Remove(fileConfig, fileBoot, fileCAKey, fileKey, fileCert, fileCA, dirMember, dirReleases)
	if c.Member != nil {
		err = errors.Join(err, s.RemoveDir(c.Member.Dir))
	}
	return err
}

// identity reads what the node proves with who it is, and checks its days.
func (s state) identity(now time.Time) (trust.Identity, error) {
	var i trust.Identity
	var err error
	if i.CA, err = s.cert(fileCA); err != nil {
		return i, err
	}
	if i.Cert, err = s.cert(fileCert); err != nil {
		return i, err
	}
	if i.Key, err = s.key(fileKey); err != nil {
		return i, err
	}
	if err := trust.CheckDates(s.Path(fileCA), i.CA, now); err != nil {
		return i, err
	}
	err = trust.CheckDates(s.Path(fileCert), i.Cert, now)
	if err != nil && now.After(i.Cert.NotAfter) {
		err = fmt.Errorf("%w: `dnet cluster leave --force`, and join again with a token", err)
	}
	return i, err
}

// ca reads the CA with its key; nil where the node does not have it.
func (s state) ca() (*trust.CA, error) {
	key, err := s.key(fileCAKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cert, err := s.cert(fileCA)
	return &trust.CA{Cert: cert, Key: key}, err
}

func (s state) cert(name string) (*x509.Certificate, error) {
	data, err := s.Read(name)
	if err != nil {
		return nil, err
	}
	return trust.ParseCert(s.Path(name), data)
}

func (s state) key(name string) (*ecdsa.PrivateKey, error) {
	data, err := s.Read(name)
	if err != nil {
		return nil, err
	}
	return trust.ParseKey(s.Path(name), data)
}

func (s state) writeKey(name string, key *ecdsa.PrivateKey) error {
	data, err := trust.EncodeKey(key)
	if err != nil {
		return err
	}
	return s.Write(name, data)
}

// nodeName returns the name that a node is to have.
func nodeName(asked string) (string, error) {
	if asked == "" {
		var err error
		if asked, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return asked, join.CheckName(asked)
}
