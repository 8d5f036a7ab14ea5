package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// kind is a kind of objects: how it is watched and what its objects mean.
type kind[M any] struct {
	resource schema.GroupResource
	example  runtime.Object
	labels   string // selectors; "" for all
	fields   string
	// optional says that the API server may lack the kind, or keep it from us,
	// and all the rest goes on.
	optional bool
	// mayCome says that an optional kind that is missing is asked for again, as
	// after any failure.
	mayCome bool
	// mustSee says that objects of an optional kind do not count while it is missing or
	// kept from us: nobody would tell us if they went.
	mustSee bool
	read    func(any) (*M, error)
	table   func(*joiner) *table[M]
}

func (k *kind[M]) place() string { return k.resource.String() }

// retry is how long the API server is left alone after a failure: at first a
// second, at most 10 to 20. It is client-go's own habit with a lower end, since
// names and NAT are stale meanwhile.
var retry = wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 12, Cap: 10 * time.Second}

// followed is a kind on its way into the queue of a source.
type followed[M any] struct {
	kind[M]
	source     *Source
	came       atomic.Bool // the API server has told of it
	giveUp     func()      // ends follow
	namespaces interner[string, string]
}

// follow lists the kind and then watches it until the context is done.
func (f *followed[M]) follow(ctx context.Context) {
	ctx, f.giveUp = context.WithCancel(ctx)
	defer f.giveUp()
	// It is not to log: troubles says the same, with the option that mends it.
	ctx = klog.NewContext(ctx, klog.Logger{})
	backoff := retry
	cache.NewReflectorWithOptions(f.listWatch(), f.example, f, cache.ReflectorOptions{
		Name: f.place(), Backoff: &backoff,
	}).RunWithContext(ctx)
}

// listWatch makes the requests and notes how each went.
func (f *followed[M]) listWatch() *cache.ListWatch {
	request := func(o metav1.ListOptions) *rest.Request {
		o.LabelSelector, o.FieldSelector = f.labels, f.fields
		// By itself a request that the server wants repeated is repeated 10 times
		// in silence. The reflector may have something better to ask.
		return f.source.clients.groups[f.resource.Group].Get().Resource(f.resource.Resource).VersionedParams(&o, metav1.ParameterCodec).MaxRetries(0)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := f.list(ctx, request(o))
			f.judge(ctx, "list", err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			events, err := request(o).Watch(ctx)
			streams := o.SendInitialEvents != nil && *o.SendInitialEvents
			switch {
			case err == nil && reflect.TypeOf(events) == reflect.TypeOf(watch.NewEmptyWatch()):
				// So client-go says that the connection ended or timed out.
				f.judge(ctx, "watch", errNoWatch)
				return events, nil
			case streams && utilnet.IsConnectionRefused(err), streams && apierrors.IsTooManyRequests(err):
				// The reflector would make a pause that nothing can cut short.
				// After other errors it tries an ordinary list, which tells more.
				f.judge(ctx, "watch", err)
				return nil, errors.New(err.Error())
			case streams && err == nil:
				// That all is well shows when the objects have come.
				return newStreamed(events, func(err error) { f.judge(ctx, "watch", err) }), nil
			case streams:
				return nil, err
			}
			f.judge(ctx, "watch", err)
			return events, err
		},
	}
}

type protobufMessage interface{ Unmarshal([]byte) error }

// list returns a list of objects, which are converted already if they come in
// protobuf.
func (f *followed[M]) list(ctx context.Context, r *rest.Request) (runtime.Object, error) {
	if _, ok := f.example.(protobufMessage); !ok {
		return r.Do(ctx).Get() // a custom resource, which comes as JSON
	}
	body, err := r.Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	all := &converted{}
	about, other, err := readList(body, func(item []byte) error {
		given := f.example.DeepCopyObject()
		if err := given.(protobufMessage).Unmarshal(item); err != nil {
			return err
		}
		o, err := f.object(given)
		all.Items = append(all.Items, o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the list of %s: %w", f.resource, err)
	}
	if other != nil {
		return other, nil
	}
	all.ListMeta = about
	return all, nil
}

var errNoWatch = errors.New("the connection to the API server ended, or timed out, before it answered")

// well notes that the API server says something.
func (f *followed[M]) well() {
	f.came.Store(true)
	f.source.watches.sign(f.place())
	f.source.troubles.set(f.place(), nil)
}

// judge notes how a request went.
func (f *followed[M]) judge(ctx context.Context, verb string, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		f.well()
	case mended(err):
	case f.optional && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)):
		f.source.watches.forget(f.place())
		f.source.troubles.set(f.place(), fmt.Errorf("%w; %w", explain(verb, f.resource, err), ErrGoingOn))
		f.source.queue.push(change{listed: f.place(), apply: func(j *joiner) {
			if f.mustSee || f.mayCome && apierrors.IsNotFound(err) {
				f.table(j).replace(nil)
			}
		}})
		// What was there once may be back: it might be a proxy that has nothing at
		// the moment.
		if !f.mayCome && !f.came.Load() {
			f.giveUp()
		}
	default:
		f.source.watches.failed(f.place())
		f.source.troubles.set(f.place(), explain(verb, f.resource, err))
	}
}
