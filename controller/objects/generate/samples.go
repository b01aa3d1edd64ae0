package main

import (
	"bytes"
	"encoding/json"
	"log"
	"path/filepath"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// One body, and the JSON that the same Go object makes: a line of a .jsonl file.
type sample struct {
	Name string          `json:"name"`
	Body []byte          `json:"body"` // base64
	JSON json.RawMessage `json:"json"`
}

type corpus struct {
	serializer *protobuf.Serializer
	text       bytes.Buffer
}

// Writes what Go's serializers make of objects: every field of every kind set, every pointer at a zero value,
// nothing set at all, and the objects of rules.go.
func writeSamples(scheme *runtime.Scheme, roots []root, directory string) {
	serializer := protobuf.NewSerializer(scheme, scheme)
	clear(directory, "go_*.jsonl")
	for name, fill := range map[string]func(*filler, reflect.Value){
		"go_every_field": (*filler).full, "go_zero_pointers": (*filler).zeroPointers, "go_nothing": nothing,
	} {
		out := corpus{serializer: serializer}
		filler := &filler{seen: map[reflect.Type]bool{}}
		for _, root := range roots {
			object := reflect.New(root.typ)
			fill(filler, object.Elem())
			setKind(object, root)
			out.add(root.gvk.String(), object.Interface().(runtime.Object))
		}
		write(filepath.Join(directory, name+".jsonl"), out.text.String())
	}
	out := corpus{serializer: serializer}
	for _, rule := range rules() {
		kinds, _, err := scheme.ObjectKinds(rule.object)
		if err != nil {
			log.Fatalf("%s: %v", rule.name, err)
		}
		kind := kinds[0]
		if len(kinds) > 1 { // of every group: as clients of the core group write it
			kind = schema.GroupVersionKind{Version: "v1", Kind: kind.Kind}
		}
		rule.object.GetObjectKind().SetGroupVersionKind(kind)
		out.add(rule.name, rule.object)
	}
	write(filepath.Join(directory, "go_rules.jsonl"), out.text.String())
}

func setKind(object reflect.Value, root root) {
	gvk := root.gvk
	if gvk.Group == "meta.k8s.io" {
		gvk.Group = "" // as clients write it
	}
	object.Interface().(runtime.Object).GetObjectKind().SetGroupVersionKind(gvk)
}

func (c *corpus) add(name string, object runtime.Object) {
	var body bytes.Buffer
	if err := c.serializer.Encode(object, &body); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	text, err := json.Marshal(object)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	encoder := json.NewEncoder(&c.text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(sample{name, body.Bytes(), text}); err != nil {
		log.Fatalf("%s: %v", name, err)
	}
}
