package clustertest

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// WriteFolder writes manifests of so many Services, service-I of namespace ns-(I mod 100), with a ClusterIP in
// 10.96.0.0/13 and ten endpoints each. Of one in 97 none is ready.
func WriteFolder(t testing.TB, folder string, services int) {
	t.Helper()
	const inFile = 1000
	for first := 0; first < services; first += inFile {
		var text strings.Builder
		for i := first; i < min(first+inFile, services); i++ {
			writeService(&text, i)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.yaml", first)), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func writeService(to io.Writer, i int) {
	name, namespace := fmt.Sprintf("service-%d", i), fmt.Sprintf("ns-%d", i%100)
	fmt.Fprintf(to, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {clusterIP: %s, ports: [{name: http, port: 80}]}\n",
		name, namespace, netip.AddrFrom4([4]byte{10, byte(96 + (i+300)>>16), byte((i + 300) >> 8), byte(i + 300)}))
	fmt.Fprintf(to, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-a, namespace: %s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n", name, namespace, name)
	for k := range 10 {
		e := 10*i + k
		fmt.Fprintf(to, "- {addresses: [%s], conditions: {ready: %t}}\n", netip.AddrFrom4([4]byte{10, byte(128 + e>>16), byte(e >> 8), byte(e)}), i%97 != 0)
	}
}
