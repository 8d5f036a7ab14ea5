package kernels

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
)

// besideProxy are the tests of test/differential that need a kernel with IPVS.
var besideProxy = []string{"TestModesIPVS", "TestPacketsIPVS", "TestTakeoverIPVS"}

// besideProxyLimit is that of each. Starting programs is what takes longest in an emulated machine,
// and kube-proxy starts one for each element of an ipset.
const besideProxyLimit = 45 * time.Minute

// protocols is /etc/protocols, where ipset looks for the names.
const protocols = "tcp 6 TCP\nudp 17 UDP\nsctp 132 SCTP\n"

// kube-proxy in its IPVS mode and the backend of that name run in the same machine, on nodes of
// their own. etcd and the API server run on this one: emulated, they would take minutes to start.
func TestBesideProxy(t *testing.T) {
	list := os.Getenv("KERNELS")
	if list == "" {
		t.Skip("boots machines for minutes: make kernels-proxy runs it")
	}
	if os.Getenv("PEERS_REQUIRED") != "1" {
		t.Skip("needs Kubernetes: make kernels-proxy runs it")
	}
	chosen, err := named(list)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := kubetest.Peer("kube-proxy")
	if err != nil {
		t.Fatal(err)
	}
	files, err := buildBesideProxy(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files["/peers/kube-proxy"] = proxy
	for _, k := range chosen {
		image, err := k.fetch()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range besideProxy {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				all := maps.Clone(files)
				all["/kubeconfig"] = kubetest.Start(t).MachineKubeconfig()
				disk := filepath.Join(t.TempDir(), "initramfs")
				if err := initramfs(disk, image.modules, all); err != nil {
					t.Fatal(err)
				}
				machine{image.file, disk, userNetwork, besideProxyLimit}.boot(t, "/tests/differential", "-test.run=^"+name+"$", "-test.parallel=3")
			})
		}
	}
}

func buildBesideProxy(dir string) (map[string]string, error) {
	files := map[string]string{"/etc/protocols": filepath.Join(dir, "protocols")}
	return files, errors.Join(
		os.WriteFile(files["/etc/protocols"], []byte(protocols), 0o644),
		buildInto(files, dir, "/init", "build", "/test/kernels/guest"),
		buildInto(files, dir, "/coredns", "build", "/coredns"),
		buildInto(files, dir, "/tests/differential", "test", "-c", "/test/differential"),
	)
}
