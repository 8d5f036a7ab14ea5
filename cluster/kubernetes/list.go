package kubernetes

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// Kubernetes writes a list in protobuf as these four bytes and a runtime.Unknown,
// whose field raw is the list; every kind of list has its metadata and its items in
// the same fields.
const (
	magic       = "k8s\x00"
	rawField    = 2
	metaField   = 1
	itemsField  = 2
	bytesType   = 2 // a field with a length: the only type in both messages
	fieldNumber = 3 // bits that the type takes below the number
)

// converted is a list of objects. What client-go's reflector takes has to look like
// objects of Kubernetes.
type converted struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []runtime.Object
}

// DeepCopyObject implements runtime.Object. Nobody writes to a list.
func (c *converted) DeepCopyObject() runtime.Object { return c }

// readList reads a list of the API server and hands over each item as soon as it is
// there. The item is in a buffer that the next one overwrites. What is not protobuf is
// returned as an object.
//
// So a long list is never held whole: decoded it takes several times the memory of all
// that is kept of it. From Kubernetes 1.34 with etcd 3.5.13 on the API server streams its
// lists, which client-go reads, keeping of each object what followed.Transformer makes of it.
// Either way the start takes as much memory. A streamed list takes about a third more
// processor time, nearly all of it client-go's for the frames.
func readList(from io.Reader, item func([]byte) error) (about metav1.ListMeta, other runtime.Object, err error) {
	r := bufio.NewReaderSize(from, 64<<10)
	if start, err := r.Peek(len(magic)); err != nil || string(start) != magic {
		other, err := readWhole(r)
		return about, other, err
	}
	r.Discard(len(magic))
	for {
		field, size, err := nextField(r)
		if err != nil {
			return about, nil, cutShort(err)
		}
		if field == rawField {
			about, err = readItems(r, size, item)
			return about, nil, err
		}
		if _, err := r.Discard(size); err != nil {
			return about, nil, cutShort(err)
		}
	}
}

// readWhole reads JSON, which is what an API server sends that has no protobuf, and
// nothing else.
func readWhole(from io.Reader) (runtime.Object, error) {
	text, err := io.ReadAll(from)
	if err != nil {
		return nil, err
	}
	decoder, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return runtime.Decode(decoder.Serializer, text)
}

// readItems reads a list of a size.
func readItems(from io.Reader, size int, item func([]byte) error) (about metav1.ListMeta, err error) {
	limited := &io.LimitedReader{R: from, N: int64(size)}
	r := bufio.NewReader(limited)
	var buffer bytes.Buffer
	for {
		field, size, err := nextField(r)
		if errors.Is(err, io.EOF) && limited.N == 0 {
			return about, nil
		}
		if err != nil {
			return about, cutShort(err)
		}
		buffer.Reset()
		if _, err := io.CopyN(&buffer, r, int64(size)); err != nil {
			return about, cutShort(err)
		}
		switch field {
		case metaField:
			err = about.Unmarshal(buffer.Bytes())
		case itemsField:
			err = item(buffer.Bytes())
		}
		if err != nil {
			return about, err
		}
	}
}

// nextField reads the number of a field and the length of what follows. It is
// io.EOF where a message may end.
func nextField(r *bufio.Reader) (number, size int, err error) {
	tag, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, err
	}
	length, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, cutShort(err)
	}
	if tag&(1<<fieldNumber-1) != bytesType {
		return 0, 0, fmt.Errorf("the list has a field of type %d: is this an API server?", tag&(1<<fieldNumber-1))
	}
	return int(tag >> fieldNumber), int(length), nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
