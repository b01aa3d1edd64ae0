package main

import (
	"fmt"
	"log"
	"math"
	"reflect"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Sets fields by reflection. A struct type is filled once per corpus: later ones stay at their zero values, so that
// the corpus is as large as the table and not as the tree.
type filler struct {
	count int
	seen  map[reflect.Type]bool
}

func nothing(*filler, reflect.Value) {}

// Whether a struct still has to be filled.
func (f *filler) first(typ reflect.Type) bool {
	known := f.seen[typ]
	f.seen[typ] = true
	return !known
}

// Sets everything to something.
func (f *filler) full(value reflect.Value) {
	f.count++
	if f.special(value) {
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		f.fields(value, f.full)
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		f.full(value.Elem())
	case reflect.Map:
		f.entry(value, fmt.Sprintf("key-%d.example/ü", f.count), f.full)
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Uint8 {
			value.SetBytes([]byte{0, 255, byte(f.count)})
			return
		}
		value.Set(reflect.MakeSlice(value.Type(), 2, 2))
		f.full(value.Index(0))
		f.full(value.Index(1))
	case reflect.String:
		value.SetString(fmt.Sprintf("s%d <\"é\"&\n", f.count))
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int32:
		value.SetInt([]int64{int64(f.count), -7, math.MaxInt32, math.MinInt32}[f.count%4])
	case reflect.Int64:
		value.SetInt([]int64{int64(f.count), -7, math.MaxInt64, math.MinInt64}[f.count%4])
	case reflect.Float64:
		value.SetFloat(float64(f.count) + 0.5)
	case reflect.Interface:
	default:
		log.Fatalf("how is a %s filled?", value.Type())
	}
}

// Sets every pointer, list and map to something that says zero.
func (f *filler) zeroPointers(value reflect.Value) {
	switch value.Kind() {
	case reflect.Struct:
		f.fields(value, f.zeroPointers)
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		f.zeroPointers(value.Elem())
	case reflect.Map:
		f.entry(value, "", f.zeroPointers)
	case reflect.Slice:
		if value.Type().Elem().Kind() != reflect.Uint8 {
			value.Set(reflect.MakeSlice(value.Type(), 1, 1))
			f.zeroPointers(value.Index(0))
		}
	}
}

func (f *filler) fields(value reflect.Value, fill func(reflect.Value)) {
	if !f.first(value.Type()) {
		return
	}
	for i := range value.NumField() {
		if value.Type().Field(i).IsExported() && value.Type().Field(i).Name != "TypeMeta" {
			fill(value.Field(i))
		}
	}
}

func (f *filler) entry(value reflect.Value, key string, fill func(reflect.Value)) {
	element := reflect.New(value.Type().Elem()).Elem()
	fill(element)
	if element.Kind() == reflect.Slice && element.IsNil() {
		// Protobuf has no null in a map: a server reads an empty list.
		element.Set(reflect.MakeSlice(element.Type(), 0, 0))
	}
	value.Set(reflect.MakeMap(value.Type()))
	value.SetMapIndex(reflect.ValueOf(key).Convert(value.Type().Key()), element)
}

// Types whose fields mean something only together.
func (f *filler) special(value reflect.Value) bool {
	switch target := value.Addr().Interface().(type) {
	case *metav1.Time:
		*target = metav1.Unix(1_600_000_000+int64(f.count), 0)
	case *metav1.MicroTime:
		*target = metav1.NewMicroTime(time.Unix(1_600_000_000, int64(f.count)*1_001_000))
	case *metav1.Duration:
		target.Duration = time.Duration(f.count) * 1_234_567_891
	case *resource.Quantity:
		*target = resource.MustParse([]string{"100m", "1.5Gi", "-3", "2e3", "0.000001"}[f.count%5])
	case *intstr.IntOrString:
		*target = []intstr.IntOrString{intstr.FromInt32(int32(-f.count)), intstr.FromString("25%"), intstr.FromString("")}[f.count%3]
	case *runtime.RawExtension:
		target.Raw = fmt.Appendf(nil, `{"n":%d,"list":[1.5,"x",{"a":null}]}`, f.count)
	case *metav1.FieldsV1:
		target.Raw = []byte(`{"f:spec":{"k:{\"name\":\"a\"}":{".":{}}}}`)
	case *apiextensionsv1.JSON:
		target.Raw = []byte(`[1,{"a":"b"}]`)
	default:
		return false
	}
	return true
}
