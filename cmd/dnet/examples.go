package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are those of commands that have none of their own, by the words of the command
// behind dnet.
var examples = map[string]string{
	"create": "  dnet create web\n" +
		"  dnet create --subnet 10.20.0.0/16 --ip-range 10.20.5.0/24 --label tier=front web\n" +
		"  dnet create --internal --ipv6 lab\n" +
		"  dnet create -d macvlan --subnet 192.0.2.0/24 --gateway 192.0.2.254 -o parent=eth0 lan\n" +
		"  dnet create -d ptp -o ipMasq=true routed\n" +
		"  dnet create -d cni:bridge --ipam-driver host-local --subnet 10.9.0.0/24 -o bridge=br9 -o isGateway=true other\n" +
		"  dnet create --config-only --subnet 10.30.0.0/24 plan && dnet create --config-from plan web",
	"inspect": "  dnet inspect web\n  dnet inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' web",
	"ls":      "  dnet ls\n  dnet ls -q --filter label=tier=front\n  dnet ls --format '{{.Name}} {{.Driver}}'",
	"rm":      "  dnet rm web\n  dnet rm -f web lab",
	"prune":   "  dnet prune\n  dnet prune -f --filter until=24h --filter label!=keep",
	"run": "  dnet run -it --rm --network web bash\n" +
		"  dnet run -d --name shop --network web -p 8080:80 busybox httpd -f -h /srv/shop\n" +
		"  dnet run --rm --network name=web,alias=db --network lab ip addr\n" +
		"  dnet run -d --name db --expose 5432 sleep 1000\n" +
		"  dnet run --rm --link db:store getent hosts store" + "\n" +
		"  dnet run -d --network web --expose 80 -P -u nobody --env-file shop.env -l tier=front busybox httpd -f",
	"exec":    "  dnet exec shop ip addr\n  dnet exec -it shop bash",
	"ps":      "  dnet ps\n  dnet ps -a --filter network=web --format '{{.Names}} {{.Ports}}'",
	"stop":    "  dnet stop shop\n  dnet stop -t 0 --rm shop",
	"start":   "  dnet start shop\n  dnet start -ai shell",
	"restart": "  dnet restart -t 0 shop",
	"logs":    "  dnet logs -f shop\n  dnet logs -t --tail 20 --since 10m shop",
	"wait":    "  dnet wait shop",

	"container":         "  dnet container ls -a\n  dnet container rm shop",
	"container rm":      "  dnet container rm shop\n  dnet container rm -f shop",
	"container ls":      "  dnet container ls -a",
	"container inspect": "  dnet container inspect -f '{{.NetworkSettings.IPAddress}}' shop",
	"container prune":   "  dnet container prune -f",

	"service":         "  dnet service create --network web api\n  dnet run -d --network web --service api busybox httpd -f\n  dnet service ps api",
	"service create":  "  dnet service create --network web api\n  dnet service create --network web --vip 10.20.0.100 --health http:8080/healthz shop",
	"service ls":      "  dnet service ls\n  dnet service ls -q",
	"service ps":      "  dnet service ps api",
	"service inspect": "  dnet service inspect api\n  dnet service inspect -f '{{.VIPs}}' api",
	"service rm":      "  dnet service rm api",
	"service scale":   "  dnet service scale api=3",
	"service update":  "  dnet service update api",
	"service drain":   "  dnet service drain shop-1\n  dnet service drain --undo shop-1",

	"cluster": "  dnet cluster init\n  dnet cluster token\n  dnet cluster join n1:2378 --token dcni1....",

	"cluster init":     "  dnet cluster init\n  dnet cluster init --advertise eth1 --node n1\n  dnet cluster init --etcd https://etcd1:2379 --etcd-ca ca.pem",
	"cluster join":     "  dnet cluster join n1:2378 --token dcni1....\n  dnet cluster join --etcd https://etcd1:2379 --etcd-ca ca.pem",
	"cluster token":    "  dnet cluster token\n  dnet cluster token --member --ttl 1h",
	"cluster status":   "  dnet cluster status\n  dnet cluster status --format json",
	"cluster leave":    "  dnet cluster leave",
	"cluster members":  "  dnet cluster members 3\n  dnet cluster members auto",
	"cluster rotate":   "  dnet cluster rotate",
	"cluster renew":    "  dnet cluster renew",
	"cluster snapshot": "  dnet cluster snapshot /var/backups/dcni.snapshot",
	"cluster restore":  "  dnet cluster restore /var/backups/dcni.snapshot",
	"cluster reset":    "  dnet cluster reset",
	"cluster node":     "  dnet cluster node ls\n  dnet cluster node rm n3",
	"cluster node ls":  "  dnet cluster node ls\n  dnet cluster node ls --format '{{.Name}} {{.VXLANSince}}'",
	"cluster node rm":  "  dnet cluster node rm n3",
}

// addExamples gives commands their examples.
func addExamples(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Example == "" {
			path := c.CommandPath()[len("dnet "):]
			if c.Example = examples[path]; c.Example == "" {
				c.Example = examples[strings.TrimPrefix(path, "container ")]
			}
		}
		addExamples(c)
	}
}
