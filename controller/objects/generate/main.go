// The generator of the table of Kubernetes' API types: see README.md.
package main

import (
	"log"
	"reflect"
	"sort"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryv1beta1 "k8s.io/api/discovery/v1beta1"
	eventsv1 "k8s.io/api/events/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// A kind that may be the whole body of a request.
type root struct {
	gvk schema.GroupVersionKind
	typ reflect.Type
}

// Kinds that belong to every group: found under the group "meta.k8s.io".
var everywhere = []any{metav1.DeleteOptions{}, metav1.Status{}}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme,
		discoveryv1.AddToScheme, discoveryv1beta1.AddToScheme, policyv1.AddToScheme, policyv1beta1.AddToScheme,
		autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, schedulingv1.AddToScheme, storagev1.AddToScheme,
		coordinationv1.AddToScheme, eventsv1.AddToScheme, nodev1.AddToScheme, metricsv1beta1.AddToScheme,
		authorizationv1.AddToScheme, authenticationv1.AddToScheme, rbacv1.AddToScheme, certificatesv1.AddToScheme,
		flowcontrolv1.AddToScheme, apiextensionsv1.AddToScheme, admissionregistrationv1.AddToScheme, apiregistrationv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	return scheme
}

// The kinds with an ObjectMeta (no lists, no options of queries), and those of every group.
func findRoots(scheme *runtime.Scheme) []root {
	var roots []root
	for gvk, typ := range scheme.AllKnownTypes() {
		metadata, found := typ.FieldByName("ObjectMeta")
		if !found || metadata.Type != reflect.TypeOf(metav1.ObjectMeta{}) || !strings.Contains(string(metadata.Tag), "protobuf") {
			continue
		}
		if gvk.Version != runtime.APIVersionInternal {
			roots = append(roots, root{gvk, typ})
		}
	}
	for _, object := range everywhere {
		typ := reflect.TypeOf(object)
		roots = append(roots, root{schema.GroupVersionKind{Group: "meta.k8s.io", Version: "v1", Kind: typ.Name()}, typ})
	}
	sort.Slice(roots, func(i, j int) bool { return rank(roots[i].gvk) < rank(roots[j].gvk) })
	return roots
}

func rank(gvk schema.GroupVersionKind) string {
	return gvk.Group + "\x00" + gvk.Version + "\x00" + gvk.Kind
}

func main() {
	log.SetFlags(0)
	scheme := newScheme()
	roots := findRoots(scheme)
	table := newTable()
	for _, root := range roots {
		table.add(root.typ)
	}
	writeTable(table, roots, "../src/schema/table")
	writeSamples(scheme, roots, "../tests/objects/protobuf")
	log.Printf("%d kinds, %d messages, %d fields", len(roots), len(table.messages), table.fields())
}
