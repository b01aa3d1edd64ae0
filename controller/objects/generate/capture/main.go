// Takes the protobuf bodies that kubectl sends, with the JSON that it prints for the same command.
//
//	kubectl proxy --port 8001 &                        # of a cluster that may be written to
//	go run ./capture 127.0.0.1:8001 ../tests/objects/protobuf/kubectl.jsonl
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A request with a body in protobuf: a line of the file.
type sample struct {
	Name   string          `json:"name"`
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   []byte          `json:"body"` // base64
	JSON   json.RawMessage `json:"json"`
}

// What is run, and the JSON of the body where `--dry-run=client -o json` cannot print it.
type command struct {
	arguments string
	json      string
}

var commands = []command{
	{"create namespace shop", ""},
	{"create deployment web --image=nginx:1 --replicas=0 --port=80", ""},
	{"create deployment two --image=nginx:1 --image=busybox:1", ""},
	{"create deployment sleeper --image=busybox:1 -- sleep 1000", ""},
	{"create configmap settings --from-literal=a=1 --from-literal=empty=", ""},
	{"create configmap program --from-file=binary", ""},
	{"create secret generic password --from-literal=user=ü --from-literal=none=", ""},
	{"create secret docker-registry registry --docker-server=r.example --docker-username=u --docker-password=p", ""},
	{"create service clusterip web --tcp=80:8080 --tcp=443", ""},
	{"create service nodeport node --tcp=80:http --node-port=30080", ""},
	{"create service clusterip headless --clusterip=None --tcp=5678", ""},
	{"create service externalname outside --external-name=example.com", ""},
	{"create serviceaccount robot", ""},
	{"create job once --image=busybox:1 -- true", ""},
	{"create cronjob often --image=busybox:1 --schedule=*/5,*,*,*,* -- true", ""},
	{"create ingress web --class=warren --rule=shop.example/cart*=web:80,tls=cert --default-backend=web:http", ""},
	{"create quota limits --hard=cpu=1,memory=1.5Gi,pods=0 --scopes=BestEffort", ""},
	{"create priorityclass high --value=1000 --description=first --preemption-policy=Never", ""},
	{"create poddisruptionbudget half --selector=app=web --min-available=50%", ""},
	{"create poddisruptionbudget none --selector=app=web --max-unavailable=0", ""},
	{"create role reader --verb=get --verb=list --resource=pods --resource-name=a", ""},
	{"create clusterrole health --verb=get --non-resource-url=/healthz", ""},
	{"create rolebinding readers --role=reader --serviceaccount=default:robot --user=jane --group=staff", ""},
	{"create clusterrolebinding health --clusterrole=health --user=jane", ""},
	{"create token default --duration=10m --audience=a", `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"audiences":["a"],"expirationSeconds":600},"status":{"token":""}}`},
	{"auth can-i get pods --subresource=log -n shop", `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{"resourceAttributes":{"namespace":"shop","verb":"get","resource":"pods","subresource":"log"}},"status":{"allowed":false}}`},
	{"auth whoami", `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"status":{"userInfo":{}}}`},
}

// Passes requests on, and keeps those with a body in protobuf.
type recorder struct {
	proxy *httputil.ReverseProxy
	lock  sync.Mutex
	kept  []sample
}

func (r *recorder) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	if in.Header.Get("Content-Type") == "application/vnd.kubernetes.protobuf" {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			log.Fatal(err)
		}
		in.Body = io.NopCloser(bytes.NewReader(body))
		r.lock.Lock()
		r.kept = append(r.kept, sample{Method: in.Method, Path: in.URL.Path, Body: body})
		r.lock.Unlock()
	}
	r.proxy.ServeHTTP(out, in)
}

func (r *recorder) take() []sample {
	r.lock.Lock()
	defer r.lock.Unlock()
	kept := r.kept
	r.kept = nil
	return kept
}

func main() {
	log.SetFlags(0)
	recorder := &recorder{proxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: os.Args[1]})}
	server := httptest.NewServer(recorder)
	defer server.Close()
	path, err := filepath.Abs(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	inFolderOfItsOwn()
	var file bytes.Buffer
	encoder := json.NewEncoder(&file)
	encoder.SetEscapeHTML(false)
	for _, command := range commands {
		arguments := strings.Fields(command.arguments)
		for i := range arguments {
			if schedule, found := strings.CutPrefix(arguments[i], "--schedule="); found {
				arguments[i] = "--schedule=" + strings.ReplaceAll(schedule, ",", " ")
			}
		}
		answer, err := kubectl(server.URL, arguments)
		log.Printf("%s: %s %v", command.arguments, bytes.TrimSpace(answer), err)
		kept := recorder.take()
		if len(kept) == 0 { // `whoami` tries older versions, too: the first counts
			log.Fatalf("%s: no body in protobuf", command.arguments)
		}
		sample := kept[0]
		sample.Name, sample.JSON = command.arguments, json.RawMessage(command.json)
		if command.json == "" {
			sample.JSON = printed(server.URL, arguments)
		}
		if err := encoder.Encode(sample); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// With the file that a command reads.
func inFolderOfItsOwn() {
	folder, err := os.MkdirTemp("", "capture")
	if err == nil {
		err = os.Chdir(folder)
	}
	if err == nil {
		err = os.WriteFile("binary", []byte{255, 0, 1}, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A refusal of the server is no fault here: the body has been sent.
func kubectl(server string, arguments []string) ([]byte, error) {
	return exec.Command("kubectl", append([]string{"--server", server, "--kubeconfig", os.DevNull}, arguments...)...).CombinedOutput()
}

// What kubectl would have sent, by itself.
func printed(server string, arguments []string) json.RawMessage {
	options := []string{"--dry-run=client", "-o", "json"}
	for i, argument := range arguments {
		if argument == "--" { // a program for the container follows
			arguments = append(append(append([]string{}, arguments[:i]...), options...), arguments[i:]...)
			options = nil
			break
		}
	}
	text, err := kubectl(server, append(arguments, options...))
	var compact bytes.Buffer
	if err == nil {
		err = json.Compact(&compact, text)
	}
	if err != nil {
		log.Fatalf("%v: %v: %s", arguments, err, text)
	}
	return compact.Bytes()
}
