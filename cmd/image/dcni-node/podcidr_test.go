package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestPodCIDR: the node's subnets are in the file, and what is wrong is said before anything is written.
func TestPodCIDR(t *testing.T) {
	answer := `{"spec": {"podCIDR": "10.3.0.0/24", "podCIDRs": ["10.3.0.0/24", "fd00:3::/64"]}}`
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != "/api/v1/nodes/node1":
			http.Error(w, `{"kind": "Status", "message": "nodes \"node9\" not found"}`, http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(answer))
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "secret\n")
	write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	both := strings.Replace(network, `"subnet": "10.9.0.0/24"`, `"subnets": [{"subnet": "podCIDR"}, {"subnet": "podCIDR6"}]`, 1)
	for _, test := range []struct{ name, answer, want string }{
		{"node1", answer, ""},
		{"node9", answer, `404 Not Found: {"kind": "Status", "message": "nodes \"node9\" not found"}`},
		{"node1", `{"spec": {}}`, `"podCIDR": node node1 has podCIDRs [], none of the family: kube-controller-manager wants`},
		{"node1", `{"spec": {"podCIDRs": ["10.3.0.0/24"]}}`, `"podCIDR6": node node1 has podCIDRs ["10.3.0.0/24"], none`},
		{"node1", `{"spec": {"podCIDRs": ["10.3.0.0"]}}`, `no '/'`},
		{"node1", `{`, `unexpected end of JSON input`},
	} {
		answer = test.answer
		n, _ := testNode(t)
		write(t, n.network, both)
		n.name = test.name
		n.podCIDRs = func() ([]string, error) {
			return askPodCIDRs(strings.TrimPrefix(server.URL, "https://"), dir, test.name)
		}
		err := n.install()
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) || list(t, n.bin) != "" {
				t.Errorf("%s, %s: %v, want %s; bin has%s", test.name, test.answer, err, test.want, list(t, n.bin))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, n.conf); !strings.Contains(got, `[{"subnet": "10.3.0.0/24"}, {"subnet": "fd00:3::/64"}]`) {
			t.Errorf("the network is %s", got)
		}
	}
}

// TestAPIServer: who is no API server, or says it is and has another certificate, gets no token.
func TestAPIServer(t *testing.T) {
	if address, err := apiServer(func(string) string { return "::1" }); err != nil || address != "[::1]:::1" {
		t.Error(address, err)
	}
	if _, err := apiServer(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
		t.Error(err)
	}
	asked := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	dir := t.TempDir()
	for _, step := range []struct{ file, text, want string }{
		{"token", "secret", "ca.crt: no such file or directory"},
		{"ca.crt", "none", "no certificate is in it"},
		{"ca.crt", read(t, "testdata/other.pem"), "certificate signed by unknown authority"},
	} {
		write(t, filepath.Join(dir, step.file), step.text)
		if _, err := askPodCIDRs(strings.TrimPrefix(server.URL, "https://"), dir, "node1"); err == nil || !strings.Contains(err.Error(), step.want) || asked {
			t.Errorf("%v, want %s; asked: %v", err, step.want, asked)
		}
	}
}
