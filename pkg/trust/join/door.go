package join

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/trust"
)

// A Door admits nodes.
type Door struct {
	Store     overlay.Store
	Keys      overlay.Keys
	Cluster   string // ID
	CA        *trust.CA
	Endpoints func() []string // URLs of the store's members
	Now       func() time.Time
	Members   func(context.Context) ([]string, error) // the nodes that have a member of the store
}

// Admit makes the sender of a request a node. The token is spent in the transaction that
// makes the node.
func (d Door) Admit(ctx context.Context, r Request) (Welcome, error) {
	grant, entry, err := d.grant(ctx, r)
	if err != nil {
		return Welcome{}, err
	}
	if err := checkNode(r.Name, r.Node); err != nil {
		return Welcome{}, err
	}
	cert, err := d.certify(r.Request, r.Name, r.Node)
	if err != nil {
		return Welcome{}, err
	}
	done, err := Place(ctx, d.Store, d.Keys, r.Name, r.Node, overlay.Txn{
		If:   []overlay.Condition{{Key: entry.Key, Modified: entry.Modified}},
		Then: []overlay.Change{{Key: entry.Key, Delete: true}},
	})
	if err == nil && !done {
		if _, err = d.Store.Get(ctx, entry.Key); errors.Is(err, overlay.ErrNotFound) {
			err = trust.ErrTokenUnknown
		} else if err == nil {
			err = Conflict(fmt.Sprintf("node %q has changed: try again", r.Name))
		}
	}
	if err != nil {
		return Welcome{}, err
	}
	w := Welcome{Cluster: d.Cluster, Prefix: d.Keys.Prefix, Endpoints: d.Endpoints(), Kind: grant.Kind, Cert: cert}
	if grant.Kind == trust.Member {
		w.CAKey, err = trust.EncodeKey(d.CA.Key)
	}
	return w, err
}

// grant finds the store's side of the token, and compares the secret.
func (d Door) grant(ctx context.Context, r Request) (trust.Grant, overlay.Entry, error) {
	var grant trust.Grant
	if err := checkTokenID(r.Token); err != nil {
		return grant, overlay.Entry{}, err
	}
	entry, err := d.Store.Get(ctx, d.Keys.Token(r.Token))
	if errors.Is(err, overlay.ErrNotFound) {
		err = trust.ErrTokenUnknown
	}
	if err == nil {
		err = json.Unmarshal(entry.Value, &grant)
	}
	if err == nil {
		err = grant.Check(r.Secret, d.Now())
	}
	return grant, entry, err
}

// checkTokenID keeps what is no ID out of keys.
func checkTokenID(id string) error {
	if !nameText.MatchString(id) {
		return trust.ErrTokenUnknown
	}
	return nil
}

// checkNode returns why a node can't be as it says.
func checkNode(name string, n overlay.Node) error {
	if err := CheckName(name); err != nil {
		return err
	}
	switch {
	case n.ID == "":
		return fmt.Errorf("node %q: has no ID", name)
	case !n.Address.IsValid() || n.Address.IsUnspecified() || n.Address.IsMulticast():
		return fmt.Errorf("node %q: address %s: must be one of the host's that other nodes reach", name, n.Address)
	}
	return nil
}

// Renew makes another certificate for a node that has one.
func (d Door) Renew(ctx context.Context, name string, r RenewRequest) (Renewed, error) {
	err := d.knows(ctx, name, r.Node.ID)
	if err == nil {
		err = checkNode(name, r.Node)
	}
	if err != nil {
		return Renewed{}, err
	}
	cert, err := d.certify(r.Request, name, r.Node)
	return Renewed{Cert: cert}, err
}

// knows returns why a host with a node's certificate is not that node any more.
func (d Door) knows(ctx context.Context, name, id string) error {
	entry, err := d.Store.Get(ctx, d.Keys.Node(name))
	if errors.Is(err, overlay.ErrNotFound) {
		return Conflict(fmt.Sprintf("node %q was removed from the cluster", name))
	}
	var known overlay.Node
	if err == nil {
		err = json.Unmarshal(entry.Value, &known)
	}
	if err == nil && known.ID != id {
		err = Conflict(fmt.Sprintf("node %q is another host by now", name))
	}
	return err
}

// Authority gives the CA's key to a node that has a member of the store.
func (d Door) Authority(ctx context.Context, name string, r AuthorityRequest) (Authority, error) {
	if err := d.knows(ctx, name, r.ID); err != nil {
		return Authority{}, err
	}
	members, err := d.Members(ctx)
	if err != nil {
		return Authority{}, err
	}
	if !slices.Contains(members, name) {
		return Authority{}, Conflict(fmt.Sprintf("node %q has no member of the store: the CA's key is for those that have", name))
	}
	key, err := trust.EncodeKey(d.CA.Key)
	return Authority{CAKey: key}, err
}

func (d Door) certify(request []byte, name string, n overlay.Node) ([]byte, error) {
	key, err := trust.ParseRequest(request, name)
	if err != nil {
		return nil, err
	}
	return Certify(d.CA, key, name, n.Address, d.Now())
}

// Certify makes a node's certificate, as PEM.
func Certify(ca *trust.CA, key *ecdsa.PublicKey, name string, address netip.Addr, now time.Time) ([]byte, error) {
	cert, err := ca.Sign(key, name, []netip.Addr{address}, now)
	if err != nil {
		return nil, err
	}
	return trust.EncodeCert(cert), nil
}

// maxBody is the limit of a body, in bytes.
const maxBody = 64 << 10

// answerTime is how long the store may take for an answer.
const answerTime = 10 * time.Second

// Handler serves the door over HTTP. The connection's TLS is [trust.Server]'s.
func (d Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, d.Admit)
	})
	mux.HandleFunc("POST /renew", func(w http.ResponseWriter, r *http.Request) { answerNode(w, r, d.Renew) })
	mux.HandleFunc("POST /ca", func(w http.ResponseWriter, r *http.Request) { answerNode(w, r, d.Authority) })
	return mux
}

// answerNode answers a node, by the name in the certificate that it shows.
func answerNode[Q, A any](w http.ResponseWriter, r *http.Request, f func(context.Context, string, Q) (A, error)) {
	answer(w, r, func(ctx context.Context, q Q) (A, error) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			var none A
			return none, Conflict("a node asks for it with the certificate that it has: it showed none")
		}
		return f(ctx, r.TLS.VerifiedChains[0][0].Subject.CommonName, q)
	})
}

// answer reads a request, and writes what f makes of it.
func answer[Q, A any](w http.ResponseWriter, r *http.Request, f func(context.Context, Q) (A, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	var q Q
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q)
	status := http.StatusBadRequest
	var a A
	if err == nil {
		a, err = f(ctx, q)
		status = statusOf(err)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(failure{Error: err.Error()}) // the client has gone
		return
	}
	_ = json.NewEncoder(w).Encode(a) // the client has gone
}

// A failure is the body of an error.
type failure struct {
	Error string `json:"error"`
}

func statusOf(err error) int {
	var conflict Conflict
	switch {
	case errors.Is(err, overlay.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.As(err, &conflict):
		return http.StatusConflict
	}
	return http.StatusForbidden
}
