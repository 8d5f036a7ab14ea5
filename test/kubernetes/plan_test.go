package kubernetes

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// What `kubectl get services,endpointslices -A -o yaml` prints of a cluster is what its API
// server serves. Of a Service without a ClusterIP in its manifest the address stays.
func TestPlan(t *testing.T) {
	kubetest.Require(t)
	a := startAPIServer(t)
	a.namespace("shop")
	a.create(service("web", ""))
	a.create(service("old", ""))
	a.create(service("db", "None"))
	for _, name := range []string{"web", "old", "db"} {
		a.put(slice(name+"-1", name, "10.42.0.7", "10.42.0.8"))
	}
	conf := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(conf, []byte("cluster.local {\n clusterip {\n  kubeconfig "+a.Kubeconfig()+"\n }\n kernelnat\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	all := a.export(func(*corev1.Service) bool { return true })
	if out, code := plan(t, "-conf", conf, all); code != 0 || out != "Nothing changes.\n" {
		t.Errorf("of what there is: exit code %d\n%s", code, out)
	}
	bare := a.export(func(s *corev1.Service) bool {
		if s.Name == "web" {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		return true
	})
	if out, code := plan(t, "-conf", conf, bare); code != 0 || out != "Nothing changes.\n" {
		t.Errorf("without a ClusterIP: exit code %d\n%s", code, out)
	}
	less := a.export(func(s *corev1.Service) bool { return s.Name != "old" })
	out, code := plan(t, "-conf", conf, less)
	if code != 2 || !strings.Contains(out, "- Service shop/old, ClusterIP ") || !strings.HasSuffix(out, "What works today and would stop: names 2, addresses 1\n") {
		t.Errorf("without a Service: exit code %d\n%s", code, out)
	}
	if out, code := plan(t, "-before", all, less); code != 2 || !strings.HasPrefix(out, "- Service shop/old, ") || strings.Contains(out, "shop/web") {
		t.Errorf("without a Corefile: exit code %d\n%s", code, out)
	}
}

// export writes a List of the Services that keep is true for, which it may edit, and of all
// EndpointSlices.
func (a *apiServer) export(keep func(*corev1.Service) bool) (path string) {
	a.t.Helper()
	list := corev1.List{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}}
	add := func(o any) error {
		text, err := json.Marshal(o)
		list.Items = append(list.Items, runtime.RawExtension{Raw: text})
		return err
	}
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		services, err := c.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range services.Items {
			s := &services.Items[i]
			s.APIVersion, s.Kind = "v1", "Service"
			if keep(s) {
				if err := add(s); err != nil {
					return err
				}
			}
		}
		slices, err := c.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range slices.Items {
			slices.Items[i].APIVersion, slices.Items[i].Kind = "discovery.k8s.io/v1", "EndpointSlice"
			if err := add(slices.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
	text, err := json.Marshal(list)
	if err != nil {
		a.t.Fatal(err)
	}
	path = filepath.Join(a.t.TempDir(), "export.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// plan runs coredns plan, in a folder without a Corefile.
func plan(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.Command(kubetest.Program(t, true), slices.Concat([]string{"plan"}, args)...)
	cmd.Dir = t.TempDir()
	var out, talk strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	t.Logf("coredns plan: %v\n%s", err, talk.String())
	return out.String(), cmd.ProcessState.ExitCode()
}
