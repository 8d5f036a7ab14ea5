package performance

import (
	"testing"
	"time"
)

var servers = DNS{
	{Name: "CoreDNS", Services: 10_000, Start: time.Second, RSSStart: 176, RSSAsked: 209, RSSMost: 252, Answers: []Answers{
		{Kind: "A of a ClusterIP", PerSecond: 40_000, CPU: 20 * time.Microsecond, Half: 20_000, P50: 50 * time.Microsecond, P99: 2 * time.Millisecond},
		{Kind: "A of a ClusterIP", Few: true, PerSecond: 50_000, CPU: 16 * time.Microsecond},
	}},
	{Name: "Knot", Services: 10_000, Answers: []Answers{{Kind: "A of a ClusterIP", CPU: 4 * time.Microsecond}}},
	{Name: "clusterip", Services: 10_000, Answers: []Answers{{Kind: "A of a ClusterIP", CPU: 2 * time.Microsecond, PerSecond: 200_000}},
		Changes:  &Changing{Asked: 20_000, PerSecond: 99.7, Quiet: time.Millisecond, P50: 40 * time.Microsecond, P99: 3 * time.Millisecond},
		Overload: &Overload{Most: 100_000, Asked: 200_000, Answered: 95_000, RSS: 90}},
}

// Servers stand beside one another, and ours is compared with what was measured of the peers.
func TestDNSTables(t *testing.T) {
	const want = `**Processor time of the server for an answer, 10,000 Services**

|  | names | CoreDNS | Knot | clusterip | clusterip / CoreDNS | clusterip / Knot |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| A of a ClusterIP | all | 20.0 µs | 4.00 µs | 2.00 µs | 0.10 | 0.50 |
|  | few | 16.0 µs | - | - | - | - |

**Answers a second, at most, 10,000 Services**

|  | names | CoreDNS | Knot | clusterip | clusterip / CoreDNS | clusterip / Knot |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| A of a ClusterIP | all | 40,000 | - | 200,000 | 5.00 | - |
|  | few | 50,000 | - | - | - | - |

**From question to answer, at half of what CoreDNS can: median, 99th percentile (compared), 10,000 Services**

|  | names | CoreDNS | Knot | clusterip | clusterip / CoreDNS | clusterip / Knot |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| A of a ClusterIP | all | 50.0 µs, 2.00 ms | - | - | - | - |

**The process**

| Services |  | start to first answer | memory then | when every name was asked for | at most, under load |
| ---: | --- | ---: | ---: | ---: | ---: |
| 10,000 | CoreDNS | 1.00 s | 176 MiB | 209 MiB | 252 MiB |

**Endpoints change meanwhile**

| Services |  | questions a second | changes a second | median | 99th percentile | without changes |
| ---: | --- | ---: | ---: | ---: | ---: | ---: |
| 10,000 | clusterip | 20,000 | 100 | 40.0 µs | 3.00 ms | 1.00 ms |

**Twice as many questions as it can answer on one processor**

| Services |  | answers a second, at most | questions a second | answers a second | of its most | memory at most |
| ---: | --- | ---: | ---: | ---: | ---: | ---: |
| 10,000 | clusterip | 100,000 | 200,000 | 95,000 | 95 % | 90 MiB |
`
	if got := servers.Tables(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDNSChart(t *testing.T) {
	checkChart(t, servers.Chart(), ">CoreDNS<", ">clusterip<", ">20.0 µs<", ">200,000<", ">50.0 µs, 2.00 ms<", ">252 MiB<", ">not measured<")
	checkChart(t, DNS{}.Chart(), "Name servers")
}
