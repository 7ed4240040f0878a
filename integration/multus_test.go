package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// multusKubeconfig leads Multus to the API server of the script.
const multusKubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://%s"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`

// multusConf is the network that Multus is to the runtime. Others are in confDir.
const multusConf = `{"cniVersion": "1.0.0", "name": "multus", "type": "multus", "kubeconfig": "/etc/cni/multus/kubeconfig",
	"clusterNetwork": "/etc/cni/multus/%s", "confDir": "/etc/cni/multus", "cniDir": "/var/lib/cni/multus", "logToStderr": false}`

// cmdMultus makes Multus (the thin plugin) the host's network, with an API server that
// knows pods and networks from a folder of the script: pods/NAME and
// network-attachment-definitions/NAME are their objects as JSON, all in the namespace
// "default". NETWORK is the pod's first one, a file that "conf" wrote to /etc/cni/multus.
func cmdMultus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: multus FOLDER NETWORK")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: apiServer(ts.MkAbs(args[0])), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	ts.Defer(func() { _ = server.Close() })
	for name, text := range map[string]string{
		"/etc/cni/multus/kubeconfig":    fmt.Sprintf(multusKubeconfig, listener.Addr()),
		"/etc/cni/net.d/00-multus.conf": fmt.Sprintf(multusConf, args[1]),
		ts.MkAbs("multus.conflist"):     `{"cniVersion": "1.0.0", "name": "multus", "plugins": [` + fmt.Sprintf(multusConf, args[1]) + `]}`,
	} {
		ts.Check(os.WriteFile(name, []byte(text), 0o600))
	}
}

// apiServer answers what Multus asks of Kubernetes. Whatever is written is taken and
// forgotten.
func apiServer(folder string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, object, _ := strings.Cut(r.URL.Path, "/namespaces/default/")
		data, err := os.ReadFile(filepath.Join(folder, filepath.Clean("/"+strings.TrimSuffix(object, "/status"))))
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			data = []byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
		}
		_, _ = w.Write(data)
	})
}
