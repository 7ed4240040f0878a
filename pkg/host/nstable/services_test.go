package nstable

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
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

// wantListed wants nft to list services as they say of themselves: their rules, and their elements.
func wantListed(t *testing.T, network string, six bool, want []service.Balanced) {
	t.Helper()
	l, family := service.LayoutOf(network, six), "ip"
	if six {
		family = "ip6"
	}
	have := nftLists(t, family)
	if !slices.Equal(have[l.Chain], l.Lines()) {
		t.Errorf("chain %s lists %q, want %q", l.Chain, have[l.Chain], l.Lines())
	}
	var vips, leads []string
	for _, w := range want {
		if got := have[w.Chain]; !slices.Equal(got, w.Lines()) && len(w.Tasks) < 100 {
			t.Errorf("nft lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(w.Lines(), "\n"))
		}
		vips, leads = append(vips, w.VIP.String()), append(leads, fmt.Sprintf("%s : jump %s", w.VIP, w.Chain))
	}
	for _, s := range []struct {
		kind, name string
		want       []string
	}{{"set", l.VIPs.Name, vips}, {"map", l.Leads.Name, leads}} {
		out, _ := exec.Command("nft", "list", s.kind, family, "dcni", s.name).CombinedOutput()
		var got []string
		if found := regexp.MustCompile(`(?s)elements = \{(.*?)\}`).FindSubmatch(out); found != nil {
			for e := range strings.SplitSeq(string(found[1]), ",") {
				got = append(got, strings.TrimSpace(e))
			}
		}
		slices.Sort(got)
		slices.Sort(s.want)
		if !slices.Equal(got, s.want) {
			t.Errorf("%s %s lists %q, want %q:\n%s", s.kind, s.name, got, s.want, out)
		}
	}
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
		{balanced("api", "10.9.0.3", "10.9.0.14"), balanced("db", "10.9.0.2", "10.9.0.13", "10.9.0.12")},
		{balanced("db", "10.9.0.2", crowd...)},
		{balanced("db", "10.9.0.2")},
		nil,
	}
	for _, known := range []bool{false, true} {
		hosttest.InNewNS(t, func() {
			table := tableHere(t, false)
			if err := table.Install(plainRedirect); err != nil {
				t.Fatal(err)
			}
			for i, want := range states {
				if known && i > 0 && want != nil {
					if err := table.ChangeServices("web", states[i-1], want); err != nil {
						t.Fatalf("state %d: %v", i, err)
					}
				} else if changed, err := table.InstallServices("web", want); err != nil || !changed {
					t.Fatalf("state %d: changed %v, %v", i, changed, err)
				}
				if err := table.CheckServices("web", want); err != nil {
					t.Errorf("state %d: %v", i, err)
				}
				if have := nftLists(t, "ip"); want == nil && len(have) != 1 || want != nil && len(have) != len(want)+2 || len(have[chainRewrite]) != 4 {
					t.Errorf("state %d: %v", i, have)
				}
				if want != nil {
					wantListed(t, "web", false, want)
				}
				if changed, err := table.InstallServices("web", want); changed || err != nil {
					t.Errorf("state %d, again: changed %v, %v", i, changed, err)
				}
			}
			if left := hosttest.NFT(t, "list", "table", "ip", "dcni"); strings.Contains(left, service.ChainPrefix) {
				t.Error("left:", left)
			}
			if err := table.Check(plainRedirect); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServicesOfNetworks wants the services of one network to leave those of another, and
// the table to go with the last.
func TestServicesOfNetworks(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := tableHere(t, true)
		web := []service.Balanced{balanced("api", "fd00::2", "fd00::11", "fd00::12"), balanced("none", "fd00::3")}
		lab := []service.Balanced{balanced("api", "fd01::2", "fd01::11")}
		lab[0].Chain = service.Chain("lab", "api")
		for name, want := range map[string][]service.Balanced{"web": web, "lab": lab} {
			if _, err := table.InstallServices(name, want); err != nil {
				t.Fatal(err)
			}
		}
		wantListed(t, "web", true, web)
		wantListed(t, "lab", true, lab)
		if _, err := table.InstallServices("web", nil); err != nil {
			t.Fatal(err)
		}
		if err := table.CheckServices("lab", lab); err != nil {
			t.Error(err)
		}
		if left := hosttest.NFT(t, "list", "table", "ip6", "dcni"); strings.Contains(left, service.LayoutOf("web", true).Chain) {
			t.Error("left:", left)
		}
		if _, err := table.InstallServices("lab", nil); err != nil {
			t.Fatal(err)
		}
		if have := nftLists(t, "ip6"); have != nil {
			t.Errorf("left: %v", have)
		}
	})
}

// TestServicesNotice wants what others do to be seen, and to be put right, beside rules of others and alone.
func TestServicesNotice(t *testing.T) {
	want := []service.Balanced{balanced("api", "10.9.0.2", "10.9.0.11", "10.9.0.12"), balanced("db", "10.9.0.3", "10.9.0.13"), balanced("none", "10.9.0.4")}
	l, chain := service.LayoutOf("web", false), service.Chain("web", "api")
	// one task less, of which the table is to know that it isn't as it was
	fewer := slices.Clone(want)
	fewer[0].Tasks = fewer[0].Tasks[1:]
	for _, c := range []struct {
		harm  string
		fails bool // a change that doesn't look fails
	}{
		{"nft delete table ip dcni", true},
		{"nft flush chain ip dcni " + chain, false},
		{"nft flush chain ip dcni " + l.Chain, false},
		{"nft add rule ip dcni " + chain + " accept", false},
		{"nft insert rule ip dcni " + l.Chain + " accept", false},
		{"nft add chain ip dcni " + chain + "x; nft add rule ip dcni " + chain + "x accept", false},
		{"nft flush set ip dcni " + l.VIPs.Name, false},
		{"nft flush map ip dcni " + l.Leads.Name, false},
		{"nft delete element ip dcni " + l.VIPs.Name + " '{ 10.9.0.3 }'", false},
		{"nft delete element ip dcni " + l.Leads.Name + " '{ 10.9.0.4 }'", false},
		{"nft add element ip dcni " + l.VIPs.Name + " '{ 10.9.0.99 }'", false},
		{"nft delete element ip dcni " + l.Leads.Name + " '{ 10.9.0.3 }'; nft add element ip dcni " + l.Leads.Name + " '{ 10.9.0.3 : jump " + chain + " }'", false},
	} {
		for _, redirect := range []bool{false, true} {
			hosttest.InNewNS(t, func() {
				table := tableHere(t, false)
				for range 2 {
					if redirect {
						if err := table.Install(plainRedirect); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := table.InstallServices("web", want); err != nil {
						t.Fatalf("before %q: %v", c.harm, err)
					}
					if err := table.CheckServices("web", want); err != nil {
						t.Errorf("before %q: %v", c.harm, err)
					}
					hosttest.Shell(t, c.harm)
					if table.CheckServices("web", want) == nil {
						t.Errorf("after %q nothing is missing", c.harm)
					}
				}
				if err := table.ChangeServices("web", want, fewer); (err != nil) != c.fails {
					t.Errorf("after %q a change ends with %v", c.harm, err)
				}
				if _, err := table.InstallServices("web", fewer); err != nil || table.CheckServices("web", fewer) != nil {
					t.Errorf("after %q at last: %v", c.harm, err)
				}
				wantListed(t, "web", false, fewer)
			})
		}
	}
}
