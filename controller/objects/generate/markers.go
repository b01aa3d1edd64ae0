package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os/exec"
	"reflect"
	"strings"
)

// What the comments of a package say by markers (`+listType=map`).
type markers map[string]map[string]typeMarkers

// The markers of one type, and of its fields by Go name.
type typeMarkers struct {
	own    marks
	fields map[string]marks
}

// Lines that begin with `+`, without it.
type marks []string

// The markers of a type; its package is parsed once.
func (m markers) of(typ reflect.Type) typeMarkers {
	path := typ.PkgPath()
	if m[path] == nil {
		m[path] = parsePackage(path)
	}
	return m[path][typ.Name()]
}

func parsePackage(path string) map[string]typeMarkers {
	directory, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		log.Fatalf("go list %s: %v", path, err)
	}
	packages, err := parser.ParseDir(token.NewFileSet(), strings.TrimSpace(string(directory)), nil, parser.ParseComments)
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	found := map[string]typeMarkers{}
	for _, parsed := range packages {
		ast.Inspect(parsed, func(node ast.Node) bool {
			if declaration, ok := node.(*ast.GenDecl); ok && declaration.Tok == token.TYPE {
				for _, spec := range declaration.Specs {
					note(declaration, spec.(*ast.TypeSpec), found)
				}
			}
			return true
		})
	}
	return found
}

func note(declaration *ast.GenDecl, spec *ast.TypeSpec, found map[string]typeMarkers) {
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	markers := typeMarkers{own: append(read(declaration.Doc), read(spec.Doc)...), fields: map[string]marks{}}
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			markers.fields[name.Name] = read(field.Doc)
		}
	}
	found[spec.Name.Name] = markers
}

func read(comments *ast.CommentGroup) marks {
	var found marks
	if comments == nil {
		return found
	}
	for _, comment := range comments.List {
		line := strings.TrimSpace(strings.TrimPrefix(comment.Text, "//"))
		if marker, ok := strings.CutPrefix(line, "+"); ok {
			found = append(found, marker)
		}
	}
	return found
}

func (t typeMarkers) field(name string) marks { return t.fields[name] }

// Whether objects of the type are replaced as a whole by server-side apply.
func (t typeMarkers) atomicType() bool {
	return t.own.has("structType=atomic") || t.own.has("mapType=atomic")
}

func (m marks) has(marker string) bool {
	for _, found := range m {
		if found == marker || strings.HasPrefix(found, marker+" ") {
			return true
		}
	}
	return false
}

// The server-side apply topology of a field.
func (m marks) list(where string) string {
	var keys []string
	kind := ""
	for _, marker := range m {
		key, value, _ := strings.Cut(marker, "=")
		switch key {
		case "listType", "mapType", "structType":
			kind = value
		case "listMapKey":
			keys = append(keys, fmt.Sprintf("%q", value))
		}
	}
	switch kind {
	case "", "granular":
		return ""
	case "atomic":
		return "Atomic"
	case "set":
		return "Set"
	case "map":
		if len(keys) > 0 {
			return "Keys(&[" + strings.Join(keys, ", ") + "])"
		}
	}
	log.Fatalf("%s: list type %q with keys %v", where, kind, keys)
	return ""
}
