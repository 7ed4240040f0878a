package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"dcni/pkg/cni"
	"dcni/pkg/dns"
	"dcni/pkg/relay"
)

// A reading is what the metrics say at one time.
type reading struct {
	DNS        dns.Stats
	Containers int               // sandboxes that are answered
	Networks   int               // that have names
	Heals      map[string]uint64 // what healing did, by kind
	Relay      relay.Stats
	Summed     int // overlay networks whose checksums the kernel computes in place of the NIC
}

// Metrics of the name server and of the agent. Labels have few values, known
// beforehand: what a container does must not make dnetd or Prometheus grow.
var (
	queriesDesc    = desc("dns_queries_total", "Queries of containers, by how they were answered.", "answer")
	latencyDesc    = desc("dns_upstream_duration_seconds", "Time that upstream servers took to answer.")
	upstreamDesc   = desc("dns_upstream_errors_total", "Upstream servers that did not answer, or not so that it could be read.")
	straysDesc     = desc("dns_upstream_strays_total", "Messages to the sockets for upstream servers that answered nothing that was asked.")
	underWayDesc   = desc("dns_upstream_waiting", "Different queries that upstream servers were asked and have not answered yet.")
	waitingDesc    = desc("dns_queries_waiting", "Queries of containers that wait for upstream servers, or for their turn to be asked.")
	tcpDesc        = desc("dns_tcp_connections", "TCP connections of containers to the name server.")
	delayedDesc    = desc("dns_tcp_delayed_total", "Times that a container's next TCP connection had to wait for others to end.")
	containersDesc = desc("containers", "Containers whose names are answered and whose queries are.")
	networksDesc   = desc("networks", "Networks with such containers.")
	healsDesc      = desc("heals_total", "What was put back, collected, or could be neither.", "kind")
	portsDesc      = desc("relay_ports", "Published ports that are held or relayed, a family each.")
	noPortsDesc    = desc("relay_ports_waiting", "Of these, ports that another program has.")
	relayedDesc    = desc("relay_connections", "TCP connections that are relayed.")
	sessionsDesc   = desc("relay_sessions", "UDP clients that are relayed.")
	acceptedDesc   = desc("relay_accepted_total", "Connections and UDP clients that came to relayed ports.")
	refusedDesc    = desc("relay_refused_total", "Of these, how many the container, a limit or a rule refused.")
	bytesDesc      = desc("relay_bytes_total", "Bytes passed on, both ways; of connections when they end.")
	summedDesc     = desc("overlay_kernel_checksums", "Overlay networks here whose checksums the kernel computes, as the NIC does it wrongly.")
	buildDesc      = desc("build_info", "Always 1; which dnetd this is.", "version", "goversion")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("dcni_"+name, help, labels, nil)
}

// A collector makes metrics of a reading when it is asked for them; nothing is
// counted twice.
type collector func() reading

// newMetrics returns all metrics of dnetd, with those of the Go runtime and of
// the process.
func newMetrics(read func() reading) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector(read), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		queriesDesc, latencyDesc, upstreamDesc, straysDesc, underWayDesc, waitingDesc, tcpDesc, delayedDesc,
		containersDesc, networksDesc, healsDesc, buildDesc,
		portsDesc, noPortsDesc, relayedDesc, sessionsDesc, acceptedDesc, refusedDesc, bytesDesc, summedDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	r := c()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for _, kind := range dns.Kinds() {
		counter(queriesDesc, r.DNS.Answers[kind], kind.String())
	}
	out <- latency(r.DNS)
	counter(upstreamDesc, r.DNS.UpstreamErrors)
	counter(straysDesc, r.DNS.Strays)
	gauge(underWayDesc, r.DNS.UnderWay)
	gauge(waitingDesc, r.DNS.Waiting)
	gauge(tcpDesc, r.DNS.Connections)
	counter(delayedDesc, r.DNS.Delayed)
	gauge(containersDesc, r.Containers)
	gauge(networksDesc, r.Networks)
	for kind, n := range r.Heals {
		counter(healsDesc, n, kind)
	}
	gauge(portsDesc, r.Relay.Ports)
	gauge(noPortsDesc, r.Relay.Waiting)
	gauge(relayedDesc, r.Relay.Connections)
	gauge(sessionsDesc, r.Relay.Sessions)
	counter(acceptedDesc, r.Relay.Accepted)
	counter(refusedDesc, r.Relay.Refused)
	counter(bytesDesc, r.Relay.Bytes)
	gauge(summedDesc, r.Summed)
	gauge(buildDesc, 1, cni.Version, runtime.Version())
}

// latency makes a histogram, whose buckets contain one another.
func latency(s dns.Stats) prometheus.Metric {
	buckets := make(map[float64]uint64, len(dns.Buckets))
	var n uint64
	for i, bound := range dns.Buckets {
		n += s.Latency[i]
		buckets[bound.Seconds()] = n
	}
	n += s.Latency[len(dns.Buckets)]
	return prometheus.MustNewConstHistogram(latencyDesc, n, s.LatencySum.Seconds(), buckets)
}
