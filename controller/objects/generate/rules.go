package main

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// An object that shows one rule of the encoding, or several.
type rule struct {
	name   string
	object runtime.Object
}

func to[T any](value T) *T { return &value }

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "shop"} }

func rules() []rule {
	zero, percent := intstr.FromInt32(0), intstr.FromString("50%")
	return []rule{
		{"pointers to zero are said, zeros without a pointer are not", &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"empty": "", "app": "web"}},
			Spec: appsv1.DeploymentSpec{
				Replicas: to[int32](0), RevisionHistoryLimit: to[int32](0),
				Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &zero, MaxUnavailable: &percent}},
				Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					AutomountServiceAccountToken:  to(false),
					TerminationGracePeriodSeconds: to[int64](0),
					Containers: []corev1.Container{{
						Name: "a", Image: "x", Args: []string{"", "-v", ""},
						Env: []corev1.EnvVar{{Name: "EMPTY"}, {Name: "CPU", ValueFrom: &corev1.EnvVarSource{
							ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}}},
						Ports:           []corev1.ContainerPort{{}, {ContainerPort: 53, Protocol: "UDP"}},
						Resources:       corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("0"), "memory": resource.MustParse("1.5Gi")}},
						LivenessProbe:   &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: zero}}},
						ReadinessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}},
						SecurityContext: &corev1.SecurityContext{RunAsUser: to[int64](0), Privileged: to(false)},
					}},
					Volumes: []corev1.Volume{
						{Name: "none"},
						{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, DefaultMode: to[int32](0)}}},
					},
					SecurityContext: &corev1.PodSecurityContext{SupplementalGroups: []int64{0, -1, 1 << 40}},
				}},
			},
		}},
		{"bytes and empty values in maps", &corev1.Secret{ObjectMeta: meta("s"), Type: "Opaque",
			Data: map[string][]byte{"a": {0, 1, 254}, "empty": {}}, StringData: map[string]string{"t": "", "u": "ü"}}},
		{"texts beside bytes", &corev1.ConfigMap{ObjectMeta: meta("c"), Immutable: to(false),
			Data: map[string]string{"": "", "k": "line\nline"}, BinaryData: map[string][]byte{"b": {1}}}},
		{"times", &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "l", CreationTimestamp: metav1.Unix(0, 0), DeletionTimestamp: to(metav1.Unix(-1, 0))},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: to(""), LeaseDurationSeconds: to[int32](0),
				AcquireTime: &metav1.MicroTime{}, RenewTime: to(metav1.NewMicroTime(time.Unix(1_700_000_000, 120_999)))}}},
		{"the first and the last moment", &corev1.Event{ObjectMeta: meta("e"),
			FirstTimestamp: metav1.NewTime(time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)),
			LastTimestamp:  metav1.NewTime(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
			EventTime:      metav1.NewMicroTime(time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC))}},
		{"raw JSON", &appsv1.ControllerRevision{ObjectMeta: meta("r"), Revision: 1,
			Data: runtime.RawExtension{Raw: []byte(`{"spec":{"template":{"$patch":"replace","big":9007199254740993}}}`)}}},
		{"lists that are messages", &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "u", Groups: []string{}, Extra: map[string]authorizationv1.ExtraValue{"none": {}, "two": {"a", ""}}}}},
		{"durations", &metricsv1beta1.PodMetrics{ObjectMeta: meta("p"), Window: metav1.Duration{Duration: 90*time.Second + 5*time.Millisecond},
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "a", Usage: corev1.ResourceList{"cpu": resource.MustParse("1n")}}}}},
		{"a scale", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 0}}},
		{"a binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}},
		{"options of a deletion", &metav1.DeleteOptions{GracePeriodSeconds: to[int64](0), PropagationPolicy: to(metav1.DeletePropagationForeground)}},
		{"a status", &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Status: appsv1.DeploymentStatus{
			ObservedGeneration: 1, ReadyReplicas: 2, Conditions: []appsv1.DeploymentCondition{{Type: "Available", Status: "True"}}}}},
		{"an eviction", &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{
			GracePeriodSeconds: to[int64](0), Preconditions: &metav1.Preconditions{ResourceVersion: to("")},
			PropagationPolicy: to(metav1.DeletePropagationBackground), DryRun: []string{"All"}}}},
		{"a budget of zero", &policyv1.PodDisruptionBudget{ObjectMeta: meta("b"), Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &zero, Selector: &metav1.LabelSelector{}}}},
		{"an inlined value", &networkingv1.Ingress{ObjectMeta: meta("i"), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{
			{Host: "h"}, {IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{}}}}}}},
		{"a service without a target port", &corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{Port: 80}, {Port: 81, TargetPort: intstr.FromString("web")}}}}},
		{"a token request", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"a"}, ExpirationSeconds: to[int64](600)}}},
		{"one of several types", &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Default: &apiextensionsv1.JSON{Raw: []byte(`false`)}, Minimum: to(0.0), MultipleOf: to(-0.25),
					Enum:                 []apiextensionsv1.JSON{{Raw: []byte(`"a"`)}, {Raw: []byte(`1`)}},
					Items:                &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}},
					AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: false},
					AdditionalItems:      &apiextensionsv1.JSONSchemaPropsOrBool{Schema: &apiextensionsv1.JSONSchemaProps{}},
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"a": {Items: &apiextensionsv1.JSONSchemaPropsOrArray{
						JSONSchemas: []apiextensionsv1.JSONSchemaProps{{Type: "integer"}, {}}}}},
					Dependencies: apiextensionsv1.JSONSchemaDependencies{"x": {Property: []string{"y"}}, "z": {Schema: &apiextensionsv1.JSONSchemaProps{}}},
				}}}}}}},
	}
}
