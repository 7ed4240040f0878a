package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// secrets is where the manifest has the token, and the certificate of who signs the API server's.
const secrets = "/var/run/secrets/kubernetes.io/serviceaccount"

// fill puts the node's own subnets, its PodCIDRs, in the place of the words "podCIDR" (IPv4) and "podCIDR6" of a
// network's configuration. Only where there is one, the API server is asked.
func (n *node) fill(data []byte) ([]byte, error) {
	for _, f := range []struct {
		word string
		is4  bool
	}{{`"podCIDR"`, true}, {`"podCIDR6"`, false}} {
		if !bytes.Contains(data, []byte(f.word)) {
			continue
		}
		list, err := n.podCIDRs()
		if err != nil {
			return nil, err
		}
		own, err := firstOf(list, f.is4)
		if err != nil {
			return nil, fmt.Errorf("%s: node %s %w", f.word, n.name, err)
		}
		data = bytes.ReplaceAll(data, []byte(f.word), []byte(`"`+own.String()+`"`))
	}
	return data, nil
}

// firstOf returns the first subnet of a family.
func firstOf(list []string, is4 bool) (netip.Prefix, error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return p, err
		}
		if p.Addr().Is4() == is4 {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("has podCIDRs %q, none of the family: kube-controller-manager wants --allocate-node-cidrs and --cluster-cidr", list)
}

// askPodCIDRs asks the API server at an address, HOST:PORT, for the PodCIDRs of a node.
func askPodCIDRs(address, dir, name string) ([]string, error) {
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: no certificate is in it", filepath.Join(dir, "ca.crt"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	target := "https://" + address + "/api/v1/nodes/" + url.PathEscape(name)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	const most = 4 << 20 // a node's object is some 10 KB, and images make it larger
	body, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.300s", target, response.Status, bytes.TrimSpace(body))
	}
	var object struct {
		Spec struct {
			PodCIDRs []string `json:"podCIDRs"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return object.Spec.PodCIDRs, nil
}

// apiServer returns the address that the kubelet tells each container.
func apiServer(getenv func(string) string) (string, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return "", errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: must be there, for podCIDR is asked of the API server")
	}
	return net.JoinHostPort(host, port), nil
}
