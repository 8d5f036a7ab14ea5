package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func manyServices() *corev1.ServiceList {
	list := &corev1.ServiceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
	for i := range 300 { // more than a buffer holds
		s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), Annotations: map[string]string{"note": string(make([]byte, 500))}}}
		list.Items = append(list.Items, s)
	}
	return list
}

func encode(t testing.TB, list *corev1.ServiceList) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(list, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decode reads a list of Services.
func decode(text []byte) (*corev1.ServiceList, error) {
	list := &corev1.ServiceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"}}
	about, other, err := readList(bytes.NewReader(text), func(item []byte) error {
		var s corev1.Service
		err := s.Unmarshal(item)
		list.Items = append(list.Items, s)
		return err
	})
	list.ListMeta = about
	if other != nil {
		return other.(*corev1.ServiceList), err
	}
	return list, err
}

func TestReadList(t *testing.T) {
	want := manyServices()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for encoding, text := range map[string][]byte{"protobuf": encode(t, want), "json": text} {
		got, err := decode(text)
		if err != nil {
			t.Errorf("%s: %v", encoding, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d Services at version %s come out, %d at %s went in", encoding, len(got.Items), got.ResourceVersion, len(want.Items), want.ResourceVersion)
		}
	}
	empty := &corev1.ServiceList{TypeMeta: want.TypeMeta}
	if got, err := decode(encode(t, empty)); err != nil || len(got.Items) != 0 {
		t.Errorf("of an empty list come %d Services, %v", len(got.Items), err)
	}
}

// A list that ends early is no list: what it lacks would be taken for gone.
func TestReadListCutShort(t *testing.T) {
	list := manyServices()
	list.Items = list.Items[:2]
	text := encode(t, list)
	raw := bytes.LastIndex(text, []byte("\x1a\x00\x22\x00")) // the fields behind the list
	if raw < 0 {
		raw = len(text)
	}
	for n := range raw {
		if _, err := decode(text[:n]); err == nil {
			t.Errorf("%d bytes of %d are taken for a list", n, len(text))
		}
	}
}

// Whatever a server sends, the reading ends, and no more comes out than went in.
func FuzzReadList(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		list := manyServices()
		list.Items = list.Items[:n]
		f.Add(encode(f, list))
	}
	f.Add([]byte(`{"kind":"ServiceList","apiVersion":"v1","items":[{}]}`))
	f.Add([]byte("k8s\x00\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		size := 0
		readList(bytes.NewReader(text), func(item []byte) error {
			size += len(item)
			return nil
		})
		if size > len(text) {
			t.Errorf("%d bytes of items in %d", size, len(text))
		}
	})
}
