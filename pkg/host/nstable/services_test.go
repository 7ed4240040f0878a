package nstable

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/service"
)

func balanced(name, vip string, tasks ...string) service.Balanced {
	b := service.Balanced{Chain: service.Chain("web", name), VIP: netip.MustParseAddr(vip)}
	for _, t := range tasks {
		b.Tasks = append(b.Tasks, netip.MustParseAddr(t))
	}
	return b
}

// nftLists returns the rules of each chain of a table, as nft lists them, without comments.
func nftLists(t *testing.T, family string) map[string][]string {
	t.Helper()
	out, err := exec.Command("nft", "list", "table", family, "dcni").CombinedOutput()
	if err != nil {
		return nil
	}
	chains, chain := map[string][]string{}, ""
	for line := range strings.SplitSeq(string(out), "\n") {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "chain "); is {
			chain = strings.TrimSuffix(name, " {")
			chains[chain] = nil
		}
		if rule, _, is := strings.Cut(line, " comment "); is {
			chains[chain] = append(chains[chain], rule)
		}
	}
	return chains
}

// TestServicesListAsSaid wants nft to list what the services say of themselves, also where
// tasks come and go, beside the redirect of the name server.
func TestServicesListAsSaid(t *testing.T) {
	var crowd []string
	for i := range service.MaxTasks {
		crowd = append(crowd, fmt.Sprintf("10.9.%d.%d", 1+i/200, 1+i%200))
	}
	states := [][]service.Balanced{
		{balanced("api", "10.9.0.2")},
		{balanced("api", "10.9.0.2", "10.9.0.11"), balanced("db", "10.9.0.3", "10.9.0.12", "10.9.0.13")},
		{balanced("api", "10.9.0.2", "10.9.0.14", "10.9.0.11", "10.9.0.15"), balanced("db", "10.9.0.3", "10.9.0.12", "10.9.0.13")},
		{balanced("db", "10.9.0.3", crowd...)},
		{balanced("db", "10.9.0.3")},
		nil,
	}
	hosttest.InNewNS(t, func() {
		table := tableHere(t, false)
		if err := table.Install(plainRedirect); err != nil {
			t.Fatal(err)
		}
		for i, want := range states {
			changed, err := table.InstallServices(service.ChainsOf("web"), want)
			if err != nil || !changed {
				t.Fatalf("state %d: changed %v, %v", i, changed, err)
			}
			if err := table.CheckServices(service.ChainsOf("web"), want); err != nil {
				t.Errorf("state %d: %v", i, err)
			}
			have := nftLists(t, "ip")
			if len(have) != len(want)+1 || len(have[chainRewrite]) != 4 {
				t.Errorf("state %d: %v", i, have)
			}
			for _, w := range want {
				if got := have[w.Chain]; !slices.Equal(got, w.Lines()) && len(w.Tasks) < 100 {
					t.Errorf("state %d: nft lists\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(w.Lines(), "\n"))
				}
			}
			if changed, err := table.InstallServices(service.ChainsOf("web"), want); changed || err != nil {
				t.Errorf("state %d, again: changed %v, %v", i, changed, err)
			}
		}
		if err := table.Check(plainRedirect); err != nil {
			t.Error(err)
		}
	})
}

// TestServicesOfNetworks wants the services of one network to leave those of another, and
// the table to go with the last.
func TestServicesOfNetworks(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := tableHere(t, true)
		web := []service.Balanced{balanced("api", "fd00::2", "fd00::11", "fd00::12")}
		lab := []service.Balanced{balanced("api", "fd01::2", "fd01::11")}
		lab[0].Chain = service.Chain("lab", "api")
		for name, want := range map[string][]service.Balanced{"web": web, "lab": lab} {
			if _, err := table.InstallServices(service.ChainsOf(name), want); err != nil {
				t.Fatal(err)
			}
		}
		have := nftLists(t, "ip6")
		for _, w := range slices.Concat(web, lab) {
			if !slices.Equal(have[w.Chain], w.Lines()) {
				t.Errorf("nft lists %v, want %v", have[w.Chain], w.Lines())
			}
		}
		if _, err := table.InstallServices(service.ChainsOf("web"), nil); err != nil {
			t.Fatal(err)
		}
		if err := table.CheckServices(service.ChainsOf("lab"), lab); err != nil {
			t.Error(err)
		}
		if _, err := table.InstallServices(service.ChainsOf("lab"), nil); err != nil {
			t.Fatal(err)
		}
		if have := nftLists(t, "ip6"); have != nil {
			t.Errorf("left: %v", have)
		}
	})
}

// TestServicesNotice wants what others do to be seen, and to be put right.
func TestServicesNotice(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := tableHere(t, false)
		want := []service.Balanced{balanced("api", "10.9.0.2", "10.9.0.11", "10.9.0.12")}
		prefix, chain := service.ChainsOf("web"), service.Chain("web", "api")
		for _, harm := range []string{
			"nft delete table ip dcni", "nft flush chain ip dcni " + chain, "nft add rule ip dcni " + chain + " accept",
			"nft add chain ip dcni " + service.Chain("web", "gone") + "; nft add rule ip dcni " + service.Chain("web", "gone") + " accept",
		} {
			if _, err := table.InstallServices(prefix, want); err != nil {
				t.Fatalf("before %q: %v", harm, err)
			}
			if err := table.CheckServices(prefix, want); err != nil {
				t.Errorf("before %q: %v", harm, err)
			}
			hosttest.Shell(t, harm)
			if table.CheckServices(prefix, want) == nil {
				t.Errorf("after %q nothing is missing", harm)
			}
		}
		if changed, err := table.InstallServices(prefix, want); err != nil || !changed || table.CheckServices(prefix, want) != nil {
			t.Errorf("at last: %v, %v", changed, err)
		}
	})
}
