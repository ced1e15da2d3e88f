// Package registry serves the images of OCI layouts that lie about as tars; nothing can be written to it.
package registry

import (
	"archive/tar"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

var resource = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/([^/]+)$`)

// folders hold the tars. Each request looks anew, for the tars come and go.
type folders []string

type descriptor struct {
	MediaType   string
	Digest      string
	Annotations map[string]string
}

// search shows the files in the tars until one is taken, and returns whether one was.
func (f folders) search(take func(name string, content *io.SectionReader) bool) bool {
	for _, folder := range f {
		paths, _ := filepath.Glob(filepath.Join(folder, "*.tar"))
		for _, path := range paths {
			if searchTar(path, take) {
				return true
			}
		}
	}
	return false
}

func searchTar(path string, take func(string, *io.SectionReader) bool) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	for entries := tar.NewReader(file); ; {
		entry, err := entries.Next()
		if err != nil {
			return false
		}
		// The reader has read the header and no more; it seeks over the content to the next one.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return false
		}
		if take(entry.Name, io.NewSectionReader(file, offset, entry.Size)) {
			return true
		}
	}
}

// manifest returns the descriptor of the manifest that a tag or a digest means.
func (f folders) manifest(name, reference string) (found descriptor, ok bool) {
	ok = f.search(func(file string, content *io.SectionReader) bool {
		var index struct{ Manifests []descriptor }
		if file != "index.json" || json.NewDecoder(content).Decode(&index) != nil {
			return false
		}
		for _, found = range index.Manifests {
			if found.Digest == reference || found.Annotations["io.containerd.image.name"] == "localhost/"+name+":"+reference {
				return true
			}
		}
		return false
	})
	return
}

func (f folders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this registry is read only", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/v2/" {
		return
	}
	asked := resource.FindStringSubmatch(r.URL.Path)
	if asked == nil {
		http.NotFound(w, r)
		return
	}
	wanted, ok := descriptor{MediaType: "application/octet-stream", Digest: asked[3]}, true
	if asked[2] == "manifests" {
		wanted, ok = f.manifest(asked[1], asked[3])
	}
	file := "blobs/" + strings.Replace(wanted.Digest, ":", "/", 1)
	if !ok || !f.search(func(name string, content *io.SectionReader) bool {
		if name != file {
			return false
		}
		w.Header().Set("Content-Type", wanted.MediaType)
		w.Header().Set("Docker-Content-Digest", wanted.Digest)
		http.ServeContent(w, r, "", time.Time{}, content)
		return true
	}) {
		http.NotFound(w, r)
	}
}

// Main serves until it is killed; flags: -listen ADDRESS -folders FOLDER:FOLDER...
func Main() {
	listen := flag.String("listen", "", "address and port")
	tars := flag.String("folders", "", "the folders of the tars, with colons between")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*listen, folders(filepath.SplitList(*tars))))
}
