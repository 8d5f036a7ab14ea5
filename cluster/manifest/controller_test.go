package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// The endpoints of a Service are those that the EndpointSlice controller's own code
// would put into slices, in the same condition, in the same zones and with the same
// hints; and where that code gives up hints, there is a notice.
func TestEndpointsAreThoseOfTheController(t *testing.T) {
	ways := map[string]int{}
	for seed := range int64(600) {
		w := newWorld(seed)
		ours, told := w.ours(t)
		told = strings.Join(slices.DeleteFunc(strings.Split(told, "\n"), func(line string) bool { return !strings.Contains(line, "topology-mode Auto has no effect") }), "\n")
		// Where more than one division is as good, the controller takes any of them.
		var theirs, event string
		for range 100 {
			theirs, event = w.theirs(t)
			if theirs == ours {
				break
			}
		}
		if ours != theirs {
			t.Fatalf("seed %d: here there is\n%s\nand the controller makes\n%s\nof\n%s", seed, ours, theirs, w.text())
		}
		if (told != "") != (event != "" && strings.Contains(ours, "ready=true")) {
			t.Fatalf("seed %d: the notice is %q, and the event of the controller %q, for\n%s", seed, told, event, ours)
		}
		if strings.Contains(ours, "hinted") {
			ways[w.way()+" hinted"]++
		}
		if strings.Contains(ours, " for ") {
			ways[w.way()+" moved"]++
		}
		if told != "" {
			ways["told: "+strings.SplitN(event, "(", 2)[0]]++
		}
	}
	t.Log(ways)
	for _, way := range []string{"Auto hinted", "Auto moved", "PreferClose hinted", "PreferSameZone hinted", "PreferSameNode hinted"} {
		if ways[way] < 10 {
			t.Errorf("only %d of the worlds are %q", ways[way], way)
		}
	}
	for _, event := range []string{topologycache.InsufficientNodeInfo, topologycache.InsufficientNumberOfEndpoints, topologycache.MinAllocationExceedsOverloadThreshold, topologycache.NoZoneSpecified} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(ways)), func(way string) bool { return strings.Contains(way, event) }) {
			t.Errorf("no world has the event %q", event)
		}
	}
}

// world is a Service, its Pods, and the Nodes.
type world struct {
	service *corev1.Service
	pods    []*corev1.Pod
	nodes   []*corev1.Node
}

func newWorld(seed int64) *world {
	rng := rand.New(rand.NewSource(seed))
	w := &world{service: &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "s"}, PublishNotReadyAddresses: rng.Intn(4) == 0,
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
		},
	}}
	w.service.Spec.IPFamilies, w.service.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, ptr.To(corev1.IPFamilyPolicySingleStack)
	if rng.Intn(3) == 0 {
		w.service.Spec.IPFamilies, w.service.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	}
	if value := pick(rng, "", "PreferClose", "PreferSameZone", "PreferSameNode"); value != "" {
		w.service.Spec.TrafficDistribution = &value
	}
	if mode := pick(rng, "", "", "", "Auto", "auto", "Disabled", "AUTO"); mode != "" {
		keys := []string{corev1.AnnotationTopologyMode, corev1.DeprecatedAnnotationTopologyAwareHints} // which may not differ
		for _, key := range [][]string{keys, keys[:1], keys[1:]}[rng.Intn(3)] {
			w.service.Annotations[key] = mode
		}
	}
	// Mostly all is known of all Nodes: one of which something is missing has all hints removed.
	flawed := rng.Intn(4) == 0
	cpus := []string{"1", "2", "2500m", "4", fmt.Sprint(1000+rng.Intn(9000), "m")}
	for i := range rng.Intn(7) {
		n := &corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i), Labels: map[string]string{corev1.LabelTopologyZone: pick(rng, "a", "b", "c")}},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(pick(rng, cpus...))},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}
		if flawed {
			switch rng.Intn(5) {
			case 0:
				delete(n.Labels, corev1.LabelTopologyZone)
			case 1:
				n.Status.Allocatable = nil
			case 2:
				n.Status.Conditions = nil
			case 3:
				n.Status.Conditions[0].Status = corev1.ConditionFalse
			}
		}
		if rng.Intn(8) == 0 {
			n.Labels[pick(rng, "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")] = ""
		}
		w.nodes = append(w.nodes, n)
	}
	for i := range rng.Intn(16) {
		w.addPod(rng, i)
	}
	return w
}

func (w *world) addPod(rng *rand.Rand, i int) {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "s"}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: fmt.Sprint("10.42.0.", 1+i), PodIPs: []corev1.PodIP{{IP: fmt.Sprint("10.42.0.", 1+i)}, {IP: fmt.Sprint("fd42::", 1+i)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	if len(w.nodes) > 0 {
		// The last Nodes have fewer.
		p.Spec.NodeName = w.nodes[rng.Intn(1+rng.Intn(len(w.nodes)))].Name
	}
	// The controller leaves out Pods without their Node, which may be elsewhere here, unless
	// all are to be published.
	if len(w.nodes) == 0 || rng.Intn(50) == 0 {
		w.service.Spec.PublishNotReadyAddresses = true
		p.Spec.NodeName = pick(rng, "", "gone")
	}
	switch rng.Intn(12) {
	case 0:
		p.Status.Conditions[0].Status = corev1.ConditionFalse
	case 1:
		p.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_700_000_000, 0)))
	case 2:
		p.Status.Phase = corev1.PodFailed
	case 3:
		p.Status.PodIPs = p.Status.PodIPs[:1]
	}
	w.pods = append(w.pods, p)
}

func pick(rng *rand.Rand, choices ...string) string { return choices[rng.Intn(len(choices))] }

// way is how the Service has its endpoints distributed, as its author sees it.
func (w *world) way() string {
	if distributionOf(w.service) == byCPU {
		return "Auto"
	}
	return ptr.Deref(w.service.Spec.TrafficDistribution, "none")
}

func (w *world) objects() []runtime.Object {
	all := []runtime.Object{w.service}
	for _, p := range w.pods {
		all = append(all, p)
	}
	for _, n := range w.nodes {
		all = append(all, n)
	}
	return all
}

func (w *world) text() string {
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": w.objects()}
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ours are the endpoints that a folder with the world has, and its problems.
func (w *world) ours(t *testing.T) (endpoints, told string) {
	t.Helper()
	options := Options{Dir: t.TempDir(), ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/24"), netip.MustParsePrefix("fd43::/120")}}
	write(t, filepath.Join(options.Dir, "world.json"), w.text())
	u, problems, err := Load(options)
	must(t, err)
	if len(u.Services) != 1 {
		t.Fatalf("there are %d Services: %s", len(u.Services), formatProblems(problems, options.Dir))
	}
	return w.describe(u.Services[0].Service.Endpoints), formatProblems(problems, options.Dir)
}

// describe lists endpoints. Which ones of a zone are given to another by topology-mode
// Auto is left to chance, so there it counts them.
func (w *world) describe(endpoints []cluster.Endpoint) string {
	auto := w.way() == "Auto"
	var lines []string
	kept, got := map[string]int{}, map[string]int{}
	for _, e := range endpoints {
		line := fmt.Sprintf("%s %s node=%q zone=%q ready=%t serving=%t terminating=%t", e.Addr, e.PodName, e.NodeName(), e.Zone(), e.Ready, e.Serving, e.Terminating)
		switch family := cluster.FamilyOf(e.Addr).String(); {
		case e.Hints == nil:
		case auto && len(e.ZoneHints()) == 1:
			line += " hinted"
			to := e.ZoneHints()[0]
			got[family+" "+to]++
			if to == e.Zone() {
				kept[family+" "+to]++
			}
		default:
			line += fmt.Sprintf(" hinted zones=%v nodes=%v", e.ZoneHints(), e.NodeHints())
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	var counts []string
	for zone, n := range got {
		counts = append(counts, fmt.Sprintf("%s has %d", zone, n))
		if n > kept[zone] {
			counts = append(counts, fmt.Sprintf("%s has %d for it of others", zone, n-kept[zone]))
		}
	}
	for zone, n := range kept {
		counts = append(counts, fmt.Sprintf("%s keeps %d", zone, n))
	}
	slices.Sort(counts)
	return strings.Join(append(lines, counts...), "\n")
}

// theirs are the endpoints in the slices that the controller's code creates, and the
// event by which it says that hints cannot be.
func (w *world) theirs(t *testing.T) (endpoints, event string) {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, n := range w.nodes {
		must(t, indexer.Add(n))
	}
	topology := topologycache.NewTopologyCache()
	topology.SetNodes(klog.Logger{}, w.nodes)
	client, events := fake.NewClientset(), record.NewFakeRecorder(100)
	made := 0
	client.PrependReactor("create", "endpointslices", func(action clienttesting.Action) (bool, runtime.Object, error) {
		made++ // the API server's generateName
		action.(clienttesting.CreateAction).GetObject().(*discoveryv1.EndpointSlice).Name = fmt.Sprint("s-", made)
		return false, nil, nil
	})
	r := endpointslice.NewReconciler(client, corelisters.NewNodeLister(indexer), 100, endpointsliceutil.NewEndpointSliceTracker(), topology, events,
		"endpointslice-controller.k8s.io", endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	must(t, r.Reconcile(klog.Logger{}, w.service, w.pods, nil, time.Time{}))
	slicesMade, err := client.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	var all []cluster.Endpoint
	for i := range slicesMade.Items {
		list, err := convertSlice(&slicesMade.Items[i])
		must(t, err)
		all = append(all, list.list...)
	}
	close(events.Events)
	for e := range events.Events {
		if strings.Contains(e, "TopologyAwareHintsDisabled") {
			event = cmp.Or(event, e)
		}
	}
	if len(slicesMade.Items) > 0 && slicesMade.Items[0].Labels[discoveryv1.LabelManagedBy] == "" {
		t.Fatal("the slices are of no controller")
	}
	return w.describe(all), event
}
