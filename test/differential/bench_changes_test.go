package differential

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/commits"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/clusterip/clusterip/test/performance"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

const (
	changes     = 300                   // are made, one after the other,
	changesTime = 2 * time.Minute       // but no longer than this,
	changesRest = 50 * time.Millisecond // with so long a pause before each
)

// changes measures how long it takes from the API server's word to the kernel when a pod
// is replaced: in one EndpointSlice one address of ten goes and another comes.
func (r *running) changes() {
	r.t.Helper()
	slice := r.given.slices[len(r.given.slices)/2].DeepCopy()
	o := r.observe(slice.Name)
	const partial = "sync_partial_proxy_rules_duration_seconds"
	count, sum := r.sample(partial+"_count", "IPv4"), r.sample(partial+"_sum", "IPv4")
	var took []time.Duration
	cpu, start := r.process.CPU(), time.Now()
	for len(took) < changes && time.Since(start) < changesTime {
		time.Sleep(changesRest)
		took = append(took, o.mustReplace(slice, r.nextMark()))
	}
	r.result.Change = performance.QuantilesOf(took)
	r.result.ChangeCPU = (r.process.CPU() - cpu) / time.Duration(len(took))
	if n := r.sample(partial+"_count", "IPv4") - count; n > 0 {
		r.result.ChangeOwn = time.Duration((r.sample(partial+"_sum", "IPv4") - sum) / n * float64(time.Second))
	}
	if r.variant == "iptables" {
		r.result.OneRule = r.oneRule()
	}
}

// oneRule is how long the tool takes to write a chain with one rule that nothing
// leads to: whenever a rule with a target comes to a table of nf_tables, the kernel
// walks through all that the built-in chains lead to.
func (r *running) oneRule() time.Duration {
	r.t.Helper()
	var took []time.Duration
	for range 9 {
		cmd := exec.Command("iptables-restore", "--noflush")
		cmd.Stdin = strings.NewReader("*nat\n:MEASURED - [0:0]\n-A MEASURED -j RETURN\nCOMMIT\n")
		start := time.Now()
		r.must(r.Do(cmd.Run))
		took = append(took, time.Since(start))
	}
	return performance.QuantilesOf(took).P50
}

func (r *running) nextMark() int {
	r.seq++
	return r.seq
}

// observer sees when the API server tells of a change and when the kernel holds it.
type observer struct {
	t      *testing.T
	client *kubernetes.Clientset
	told   <-chan told // of one EndpointSlice
	held   *commits.Held
}

// told is that an EndpointSlice with a mark was told of.
type told struct {
	slice *discoveryv1.EndpointSlice
	at    time.Time
}

// observe begins to observe changes of one EndpointSlice. It ends with the test.
func (r *running) observe(name string) *observer {
	r.t.Helper()
	client := protobufClient(r.t, r.c)
	slice, err := client.DiscoveryV1().EndpointSlices(namespace).Get(r.t.Context(), name, metav1.GetOptions{})
	r.must(err)
	watch, err := client.DiscoveryV1().EndpointSlices(namespace).Watch(r.t.Context(), metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(), ResourceVersion: slice.ResourceVersion})
	r.must(err)
	all := make(chan told, 16)
	go func() {
		for event := range watch.ResultChan() {
			if slice, is := event.Object.(*discoveryv1.EndpointSlice); is {
				all <- told{slice, time.Now()}
			}
		}
	}()
	r.t.Cleanup(watch.Stop)
	return &observer{r.t, client, all, commits.Follow(r.t, r.Namespace)}
}

// replace replaces an endpoint by the mark and returns how long it takes from when the
// API server tells of that, to the writer or to who watches, until the kernel holds it;
// ok is false if it does not within the limit. It may be called in any goroutine.
func (o *observer) replace(slice *discoveryv1.EndpointSlice, mark int, limit time.Duration) (took time.Duration, ok bool) {
	mind(slice, mark)
	if err := updateSlice(o.client, slice); err != nil {
		o.t.Error(err)
		return limit, false
	}
	from, timeout := time.Now(), time.After(limit)
	for is := false; !is; {
		select {
		case event := <-o.told:
			is = event.slice.Endpoints[mark%len(event.slice.Endpoints)].Addresses[0] == commits.Mark(mark).String()
			if is && event.at.Before(from) {
				from = event.at
			}
		case <-timeout:
			o.t.Errorf("the API server does not tell of change %d", mark)
			return limit, false
		}
	}
	at, ok := o.held.Await(mark, limit)
	if !ok {
		return limit, false
	}
	return max(0, at.Sub(from)), true
}

// mustReplace is replace for a test, which fails if the kernel does not hold the change
// in good time.
func (o *observer) mustReplace(slice *discoveryv1.EndpointSlice, mark int) time.Duration {
	o.t.Helper()
	took, ok := o.replace(slice, mark, patience)
	if !ok {
		o.t.Fatalf("the kernel does not hold a change within %v", patience)
	}
	return took
}

// mind puts the mark in place of an endpoint, by turns.
func mind(slice *discoveryv1.EndpointSlice, mark int) {
	slice.Endpoints[mark%len(slice.Endpoints)].Addresses[0] = commits.Mark(mark).String()
}

func updateSlice(client *kubernetes.Clientset, slice *discoveryv1.EndpointSlice) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{})
	return err
}

// protobufClient is one that costs the API server less than others.
func protobufClient(t *testing.T, c *kubetest.ControlPlane) *kubernetes.Clientset {
	t.Helper()
	config := c.Config()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
