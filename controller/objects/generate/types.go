package main

import (
	"encoding/json"
	"fmt"
	"log"
	"reflect"
	"strconv"
	"strings"
)

// One field of a message.
type field struct {
	json    string // empty for an inlined message
	number  int
	kind    string // a `Type` of the Rust table
	inline  bool
	pointer bool
	always  bool // no pointer, and yet Go's JSON encoder writes its zero value
	require bool
	patch   string // a `Patch` of the Rust table
	list    string // an `Apply` of the Rust table
}

// One message.
type message struct {
	module string // the Rust module
	proto  string // the protobuf package
	name   string
	atomic bool
	fields []field
}

// All messages, by Go type.
type table struct {
	messages map[reflect.Type]*message
	markers  markers
}

func newTable() *table {
	return &table{messages: map[reflect.Type]*message{}, markers: markers{}}
}

func (t *table) fields() int {
	count := 0
	for _, message := range t.messages {
		count += len(message.fields)
	}
	return count
}

// Types whose JSON is not that of a struct.
var specials = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             "Time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        "MicroTime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         "Duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         "Json",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         "Quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       "IntOrString",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          "Json",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         "Json",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        "OneOf",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       "OneOf",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "OneOf",
}

func fullName(typ reflect.Type) string { return typ.PkgPath() + "." + typ.Name() }

var jsonMarshaler = reflect.TypeFor[json.Marshaler]()

// Adds a message and all that it refers to; returns how Rust refers to it.
func (t *table) add(typ reflect.Type) string {
	known, found := t.messages[typ]
	if !found {
		known = &message{
			module: module(typ), proto: strings.ReplaceAll(typ.PkgPath(), "/", "."), name: typ.Name(),
			atomic: t.markers.of(typ).atomicType(),
		}
		t.messages[typ] = known
		for i := range typ.NumField() {
			if field, ok := t.field(typ, typ.Field(i)); ok {
				known.fields = append(known.fields, field)
			}
		}
	}
	return known.module + "::" + known.name
}

// `core_v1`, `meta_v1`.
func module(typ reflect.Type) string {
	parts := strings.Split(typ.PkgPath(), "/")
	return parts[len(parts)-2] + "_" + parts[len(parts)-1]
}

func (t *table) field(owner reflect.Type, from reflect.StructField) (field, bool) {
	where := fullName(owner) + "." + from.Name
	name, options, _ := strings.Cut(from.Tag.Get("json"), ",")
	tag := from.Tag.Get("protobuf")
	inline := from.Anonymous && name == ""
	if from.Name == "TypeMeta" || tag == "-" || (tag == "" && name == "-") {
		return field{}, false
	}
	parts := strings.Split(tag, ",")
	if len(parts) < 2 {
		log.Fatalf("%s: no protobuf tag", where)
	}
	// The number only: the wire type and `opt` or `rep` are wrong in some tags, and Go's code follows the type.
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		log.Fatalf("%s: %v", where, err)
	}
	if name == "" && !inline {
		name = strings.TrimPrefix(parts[len(parts)-1], "name=")
	}
	out := field{json: name, number: number, inline: inline}
	typ := from.Type
	if typ.Kind() == reflect.Pointer {
		out.pointer, typ = true, typ.Elem()
	}
	out.kind = t.kind(typ, where)
	if strings.Contains(options, "omitzero") && out.kind != "Time" {
		log.Fatalf("%s: omitzero has no meaning for a %s here", where, out.kind)
	}
	out.always = !out.pointer && writesZero(out.kind, strings.Contains(options, "omitempty"))
	marks := t.markers.of(owner).field(from.Name)
	out.require = !inline && !strings.Contains(options, "omitempty") && !marks.has("optional")
	out.patch = patch(from.Tag, out.kind, where)
	out.list = marks.list(where)
	return out, true
}

func (t *table) kind(typ reflect.Type, where string) string {
	if special, found := specials[fullName(typ)]; found {
		if special == "OneOf" {
			return "OneOf(&" + t.add(typ) + ")"
		}
		return special
	}
	if reflect.PointerTo(typ).Implements(jsonMarshaler) {
		log.Fatalf("%s: %s writes JSON of its own", where, typ)
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return t.kind(typ.Elem(), where)
	case reflect.Struct:
		return "Object(&" + t.add(typ) + ")"
	case reflect.Map:
		if typ.Key().Kind() != reflect.String {
			log.Fatalf("%s: keys of maps are strings, not %s", where, typ.Key())
		}
		return "Map(&" + t.kind(typ.Elem(), where) + ")"
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return "Bytes"
		}
		// A named list has a message of its own, with the list in field 1.
		if _, message := reflect.PointerTo(typ).MethodByName("ProtoMessage"); message {
			return "Items(&" + t.kind(typ.Elem(), where) + ")"
		}
		return "List(&" + t.kind(typ.Elem(), where) + ")"
	case reflect.String:
		return "String"
	case reflect.Bool:
		return "Bool"
	case reflect.Int32:
		return "Int32"
	case reflect.Int64:
		return "Int64"
	case reflect.Float64:
		return "Double"
	}
	log.Fatalf("%s: what is a %s?", where, typ)
	return ""
}

// Whether Go's JSON encoder writes the zero value of a field that is no pointer: for structs `omitempty` does nothing.
// (It writes an empty list as null, which says nothing.)
func writesZero(kind string, omitEmpty bool) bool {
	switch kind {
	case "Bool", "Int32", "Int64", "Double", "String":
		return !omitEmpty
	case "IntOrString", "Quantity", "Duration":
		return true
	}
	return strings.HasPrefix(kind, "OneOf(")
}

// The strategic merge of a field, from its tags.
func patch(tag reflect.StructTag, kind, where string) string {
	strategy, key := tag.Get("patchStrategy"), tag.Get("patchMergeKey")
	switch strategy {
	case "":
		return ""
	case "retainKeys":
		return "RetainKeys"
	case "replace":
		return "Replace"
	case "merge", "merge,retainKeys":
		if key != "" {
			return fmt.Sprintf("By(%q)", key)
		}
		if kind == "List(&String)" {
			return "Union"
		}
		if strings.HasPrefix(kind, "Object(") || strings.HasPrefix(kind, "Map(") {
			return "" // maps merge anyway
		}
	}
	log.Fatalf("%s: patchStrategy %q of a %s", where, strategy, kind)
	return ""
}
